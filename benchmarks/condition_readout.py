"""How much of an organ's place can be read from a slice, from a base model's condition tokens, and by a trained flow.

    python benchmarks/condition_readout.py --data_root data/hippocampus
    python benchmarks/condition_readout.py --data_root data/hippocampus --base OTHER_BASE
    python benchmarks/condition_readout.py --data_root data/hippocampus --reader pictures
    python benchmarks/condition_readout.py --data_root data/hippocampus --checkpoint runs/hippocampus/best

Adapters train the flow and leave the condition embedder alone, so what attention cannot find in its tokens, no adapter
finds. A reader that is trained for about as many steps as an adapter predicts the organ's place: `attention` is one
layer with four learnt queries, `decoder` three transformer layers, both on the tokens; `pictures` a small convolutional
network on the images and masks that the embedder is given, which bounds what an embedder can say. With --checkpoint
nothing is trained: an adapted flow says its own guess, the mean of eight at the very start of its path. The mean
squared error on slices of validation patients is printed for x, y and z in the slice's camera (z is through the plane),
in units of the flow's own place latent, beside the variance: what is left if nothing is read.
Letters: B slices, T tokens, C channels, S side of a picture.
"""

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor, nn

from sam3d_objects.cli.models import load_adapted
from sam3d_objects.cli.stages import ready_stage
from sam3d_objects.config import ReconstructOptions, TrainOptions
from sam3d_objects.dataset import Sample
from sam3d_objects.model.flow_matching import noise_like
from sam3d_objects.training.stages.structure import CONDITION, LATENT, TOKENS, StructureStage

Sliced = tuple[Tensor, Tensor]
"""What a reader sees of B slices, tokens (B, T, C) or pictures (B, C, S, S), and their places (B, 3)."""

PLACE_NAME = "translation"
PLACE = LATENT + PLACE_NAME
PICTURES = ("image", "mask", "rgb_image", "rgb_image_mask")
QUERIES, WIDTH, HEADS, BATCH, LEARNING_RATE = 4, 128, 4, 32, 1e-3
LAYERS, STAGE_WIDTHS, GUESSES = 3, (32, 64, 96, 128), 8
EMBEDDED_AT_ONCE = 64


class Attention(nn.Module):
    """One cross-attention from learnt queries to the tokens, without a norm on them, as in the flow's blocks."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.randn(1, QUERIES, WIDTH) * 0.5)
        self.to_kv = nn.Linear(channels, 2 * WIDTH)
        self.head = place_head(QUERIES * WIDTH)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map (B, T, C) to places (B, 3)."""
        key, value = self.to_kv(tokens).chunk(2, dim=-1)
        query = self.queries.expand(len(tokens), -1, -1)
        query, key, value = (x.unflatten(-1, (HEADS, -1)).transpose(1, 2) for x in (query, key, value))
        read = nn.functional.scaled_dot_product_attention(query, key, value)
        place: Tensor = self.head(read.transpose(1, 2).flatten(1))
        return place


class Decoder(nn.Module):
    """Learnt queries that read the tokens in three transformer layers."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.randn(1, QUERIES, WIDTH) * 0.5)
        self.widen = nn.Linear(channels, WIDTH) if channels != WIDTH else nn.Identity()
        layer = nn.TransformerDecoderLayer(
            WIDTH, HEADS, 2 * WIDTH, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerDecoder(layer, LAYERS)
        self.head = place_head(QUERIES * WIDTH)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map (B, T, C) to places (B, 3)."""
        read = self.layers(self.queries.expand(len(tokens), -1, -1), self.widen(tokens))
        place: Tensor = self.head(read.flatten(1))
        return place


class Pictures(nn.Module):
    """Four convolutional stages, each half as fine as the one before, on the pictures and two coordinates."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = channels + 2
        for width in STAGE_WIDTHS:
            for entering, stride in ((before, 2), (width, 1)):
                layers += [nn.Conv2d(entering, width, 3, stride, 1), nn.GroupNorm(8, width), nn.GELU()]
            before = width
        self.layers = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(4), nn.Flatten())
        self.head = place_head(before * 16)

    def forward(self, pictures: Tensor) -> Tensor:
        """Map (B, C, S, S) to places (B, 3)."""
        line = torch.linspace(-1, 1, pictures.shape[-1])
        grid = torch.stack(torch.meshgrid(line, line, indexing="ij"))[None].expand(len(pictures), -1, -1, -1)
        place: Tensor = self.head(self.layers(torch.cat([pictures, grid], dim=1)))
        return place


READERS: Mapping[str, type[Attention | Decoder | Pictures]] = {
    "attention": Attention,
    "decoder": Decoder,
    "pictures": Pictures,
}


def place_head(width: int) -> nn.Module:
    """What turns `width` numbers of a slice into its place."""
    return nn.Sequential(nn.Linear(width, WIDTH), nn.GELU(), nn.Linear(WIDTH, 3))


def prepared_stage(data_root: Path, base: str, epochs: int) -> StructureStage:
    """The structure stage of a data set, as `sam3d-med train` would make it."""
    options = TrainOptions(base=base, epochs=epochs, validation_slices=84).of_stage("structure")
    stage = ready_stage(data_root, options).built
    assert isinstance(stage, StructureStage)
    stage.prepare(torch.device("cpu"), print)
    return stage


def training_slices(stage: StructureStage, epochs: int) -> Iterator[Sample]:
    """The training slices of some epochs."""
    samples = stage.train_samples
    for epoch in range(epochs):
        samples.set_epoch(epoch)
        for index in range(len(samples)):
            sample = samples[index]
            assert isinstance(sample, Sample)
            yield sample


def as_tokens(stage: StructureStage, samples: Sequence[Sample]) -> dict[str, Tensor]:
    """The condition tokens of slices, and their targets."""
    rows = [row.tensors for row in stage.finished_rows(samples)]
    return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}


def as_pictures(stage: StructureStage, samples: Sequence[Sample]) -> dict[str, Tensor]:
    """The pictures that the embedder is given of slices, as one, under the name of the tokens, and their targets."""
    batch = stage.make_batch(samples)
    pictures = torch.cat([batch[CONDITION + name].float() for name in PICTURES], dim=1)
    return {TOKENS: pictures, **{name: value for name, value in batch.items() if name.startswith(LATENT)}}


Seen = Callable[[StructureStage, Sequence[Sample]], dict[str, Tensor]]


def seen_slices(stage: StructureStage, samples: Iterator[Sample], seen: Seen) -> dict[str, Tensor]:
    """What `seen` makes of all slices, a few at a time."""
    parts = [seen(stage, some) for some in iter(lambda: list(islice(samples, EMBEDDED_AT_ONCE)), [])]
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def validation_slices(stage: StructureStage) -> Iterator[Sample]:
    """The validation slices."""
    return (stage.validation_samples[index] for index in range(len(stage.validation_samples)))


def sliced(rows: Mapping[str, Tensor]) -> Sliced:
    """What a reader sees, and the places."""
    return rows[TOKENS], rows[PLACE].flatten(1)


def train_readout(reader: nn.Module, train: Sliced, held_out: Sliced, epochs: int) -> Iterator[Tensor]:
    """Train on one side; yield the mean squared errors (3,) on the other after each epoch."""
    (inputs, places), (seen, wanted) = train, held_out
    mean = places.mean(dim=0)
    optimiser = torch.optim.AdamW(reader.parameters(), lr=LEARNING_RATE, weight_decay=0.05)
    steps = epochs * len(inputs.split(BATCH))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, total_steps=max(steps, 2))
    for _ in range(epochs):
        for chosen in torch.randperm(len(inputs)).split(BATCH):
            loss = (reader(inputs[chosen]) - (places[chosen] - mean)).square().mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
        with torch.no_grad():
            yield (reader(seen) - (wanted - mean)).square().mean(dim=0)


@torch.no_grad()
def flow_guesses(flow: nn.Module, rows: Mapping[str, Tensor], seed: int) -> Tensor:
    """Mean squared errors (3,) of the place that a flow would go to from the start of its path, a mean of guesses.

    From noise x at t = 0 the velocity v aims at x + v: the mean of all places that the slice leaves possible.
    """
    generator = torch.Generator().manual_seed(seed)
    latents = {name.removeprefix(LATENT): value for name, value in rows.items() if name.startswith(LATENT)}
    count = len(rows[TOKENS])
    guesses = []
    for _ in range(GUESSES):
        noise = noise_like(latents, generator)
        for chosen in torch.arange(count).split(BATCH):
            start = {name: value[chosen] for name, value in noise.items()}
            velocity = flow(start, torch.zeros(len(chosen)), rows[TOKENS][chosen])
            guesses.append(start[PLACE_NAME] + velocity[PLACE_NAME])
    mean = torch.cat(guesses).unflatten(0, (GUESSES, count)).mean(dim=0)
    return (mean - latents[PLACE_NAME]).square().mean(dim=(0, 1))


def main() -> None:
    """Train the reader, or ask the flow, and print the errors."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_root", type=Path, required=True, help="a prepared data set with validation patients")
    parser.add_argument("--base", default="tiny", help="the base model: tiny (built in) or a folder")
    parser.add_argument("--reader", choices=list(READERS), default="attention", help="what is trained to read")
    parser.add_argument("--checkpoint", type=Path, help="ask this adapter's flow instead")
    parser.add_argument("--epochs", type=int, default=8, help="passes, each over other slices of the same patients")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    stage = prepared_stage(given.data_root, given.base, given.epochs)
    if given.checkpoint:
        model, contract = load_adapted(given.checkpoint, ReconstructOptions(base=given.base))
        if contract.scene_scale_mm != stage.contract.scene_scale_mm:
            raise SystemExit(
                f"{given.checkpoint} measures places in {contract.scene_scale_mm:g} mm, this data set in "
                f"{stage.contract.scene_scale_mm:g} mm: give the data set that it was trained on"
            )
        rows = seen_slices(stage, validation_slices(stage), as_tokens)
        print(f"the flow on {len(rows[TOKENS])} slices: {_xyz(flow_guesses(model.structure_flow, rows, given.seed))}")
        return
    seen = as_pictures if given.reader == "pictures" else as_tokens
    train = sliced(seen_slices(stage, training_slices(stage, given.epochs), seen))
    held_out = sliced(seen_slices(stage, validation_slices(stage), seen))
    inputs = train[0]
    print(f"{len(inputs)} training and {len(held_out[0])} validation slices, each {tuple(inputs.shape[1:])}")
    size, differs = inputs.square().mean().sqrt(), inputs.std(dim=0).mean()
    print(f"root mean square {size:.2f}, of which {differs:.2f} differs between slices")
    print(f"nothing read: {_xyz((held_out[1] - train[1].mean(dim=0)).square().mean(dim=0))}")
    torch.manual_seed(given.seed)
    reader = READERS[given.reader](inputs.shape[2] if inputs.dim() == 3 else inputs.shape[1])
    for epoch, error in enumerate(train_readout(reader, train, held_out, given.epochs), start=1):
        print(f"epoch {epoch} of {given.epochs}: {_xyz(error)}", flush=True)


def _xyz(squares: Tensor) -> str:
    each = " ".join(f"{name} {value:.3f}" for name, value in zip("xyz", squares.tolist(), strict=True))
    return f"{each}, mean {squares.mean():.3f}"


if __name__ == "__main__":
    main()
