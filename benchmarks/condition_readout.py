"""How much of an organ's place attention can read from a base model's condition tokens: a bound on what adapts.

    python benchmarks/condition_readout.py --data_root data/hippocampus
    python benchmarks/condition_readout.py --data_root data/hippocampus --base OTHER_BASE

Adapters train the flow and leave the condition embedder alone, so what attention cannot find in its tokens, no adapter
finds. Here one attention layer with four learnt queries, trained for about as many steps as an adapter, predicts the
organ's place from the tokens; the mean squared error on slices of validation patients is printed for x, y and z in the
slice's camera (z is through the plane), in units of the flow's own place latent, beside the variance: what is left if
nothing is read. Letters: B slices, T tokens, C channels.
"""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from sam3d_objects.cli.stages import ready_stage
from sam3d_objects.config import TrainOptions
from sam3d_objects.training.stages.structure import LATENT, TOKENS, StructureStage
from sam3d_objects.training.tokens import ConditionCache

Sliced = tuple[Tensor, Tensor]
"""Tokens (B, T, C) and places (B, 3) of B slices."""

PLACE = f"{LATENT}translation"
QUERIES, WIDTH, HEADS, BATCH, LEARNING_RATE = 4, 128, 4, 32, 2e-3


class Readout(nn.Module):
    """One cross-attention from learnt queries to the tokens, without a norm on them, as in the flow's blocks."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.randn(1, QUERIES, WIDTH) * 0.5)
        self.to_kv = nn.Linear(channels, 2 * WIDTH)
        self.head = nn.Sequential(nn.Linear(QUERIES * WIDTH, WIDTH), nn.GELU(), nn.Linear(WIDTH, 3))

    def forward(self, tokens: Tensor) -> Tensor:
        """Map (B, T, C) to places (B, 3)."""
        key, value = self.to_kv(tokens).chunk(2, dim=-1)
        query = self.queries.expand(len(tokens), -1, -1)
        query, key, value = (x.unflatten(-1, (HEADS, -1)).transpose(1, 2) for x in (query, key, value))
        read = nn.functional.scaled_dot_product_attention(query, key, value)
        place: Tensor = self.head(read.transpose(1, 2).flatten(1))
        return place


def tokens_and_places(data_root: Path, base: str, epochs: int) -> tuple[Sliced, Sliced]:
    """Return the training slices of some epochs, and the validation slices."""
    options = TrainOptions(base=base, epochs=epochs, cache_epochs=epochs, validation_slices=84).of_stage("structure")
    ready = ready_stage(data_root, options)
    stage, cache = ready.built, ready.built.train_samples
    assert isinstance(stage, StructureStage) and isinstance(cache, ConditionCache)
    stage.prepare(torch.device("cpu"), print)
    rows = []
    for epoch in range(epochs):
        cache.set_epoch(epoch)
        rows += [cache[index].tensors for index in range(len(cache))]
    held_out = stage.finished_rows([stage.validation_samples[i] for i in range(len(stage.validation_samples))])
    return _sliced(rows), _sliced([row.tensors for row in held_out])


def _sliced(rows: Sequence[Mapping[str, Tensor]]) -> Sliced:
    return torch.stack([row[TOKENS] for row in rows]), torch.stack([row[PLACE] for row in rows]).flatten(1)


def train_readout(train: Sliced, held_out: Sliced, epochs: int, seed: int) -> Iterator[Tensor]:
    """Train on one side; yield the mean squared errors (3,) on the other after each epoch."""
    (tokens, places), (seen, wanted) = train, held_out
    torch.manual_seed(seed)
    mean = places.mean(dim=0)
    readout = Readout(tokens.shape[2])
    optimiser = torch.optim.AdamW(readout.parameters(), lr=LEARNING_RATE)
    for _ in range(epochs):
        for chosen in torch.randperm(len(tokens)).split(BATCH):
            loss = (readout(tokens[chosen]) - (places[chosen] - mean)).square().mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        with torch.no_grad():
            yield (readout(seen) - (wanted - mean)).square().mean(dim=0)


def main() -> None:
    """Train the readout and print its errors after each epoch."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_root", type=Path, required=True, help="a prepared data set with validation patients")
    parser.add_argument("--base", default="tiny", help="the base model: tiny (built in) or a folder")
    parser.add_argument("--epochs", type=int, default=8, help="passes, each over other slices of the same patients")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    train, held_out = tokens_and_places(given.data_root, given.base, given.epochs)
    tokens = train[0]
    print(f"{len(tokens)} training and {len(held_out[0])} validation slices; {tokens.shape[1]} tokens of root mean")
    print(f"square {tokens.square().mean().sqrt():.2f}, of which {tokens.std(dim=0).mean():.2f} differs between slices")
    print(f"nothing read: {_xyz((held_out[1] - train[1].mean(dim=0)).square().mean(dim=0))}")
    for epoch, error in enumerate(train_readout(train, held_out, given.epochs, given.seed), start=1):
        print(f"epoch {epoch} of {given.epochs}: {_xyz(error)}", flush=True)


def _xyz(squares: Tensor) -> str:
    each = " ".join(f"{name} {value:.3f}" for name, value in zip("xyz", squares, strict=True))
    return f"{each}, mean {squares.mean():.3f}"


if __name__ == "__main__":
    main()
