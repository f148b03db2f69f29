"""The condition embedder: six inputs, three embedders, one token sequence. Letters: B batch, T tokens, C channels."""

from collections.abc import Iterable, Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn

# Both released embedders have three rows, of which the first two, one for each group of inputs, are used.
INDEX_ROWS = 3


class SwiGLU(nn.Module):
    """w2(silu(w1 x) * w3 x) without bias (Shazeer 2020, arXiv 2002.05202)."""

    def __init__(self, channels: int, hidden: int, out_channels: int) -> None:
        super().__init__()
        self.w1 = nn.Linear(channels, hidden, bias=False)
        self.w2 = nn.Linear(hidden, out_channels, bias=False)
        self.w3 = nn.Linear(channels, hidden, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., C) to (..., C')."""
        return self.w2(nn.functional.silu(self.w1(x)) * self.w3(x))


def swiglu_width(channels: int, multiplier: float) -> int:
    """Two thirds of multiplier x channels, rounded up to a multiple of 256 (2816 for 1024 x 4)."""
    return 256 * -(-int(2 * multiplier * channels / 3) // 256)


class EmbedderFuser(nn.Module):
    """Embed and concatenate the condition's inputs.

    Args:
        embedder_list: pairs of an embedder and its inputs, each input (name, group) with group 'cropped' or 'full'.
        use_pos_embedding: 'learned' adds a learnt vector per group; row i belongs to the i-th group met.
        projection_net_hidden_dim_multiplier: width of the SwiGLU projections.
        dropout_prob, drop_modalities_weight: in training, a sample drops one of the listed sets of inputs with this
            probability; a dropped input's tokens are zeros, so the sequence keeps its length.
        force_drop_modalities: inputs that are always dropped.
        freeze: whether the release froze the embedder; the trainer decides here.
    """

    def __init__(
        self,
        embedder_list: Sequence[tuple[nn.Module, Sequence[tuple[str, str]]]],
        use_pos_embedding: str = "learned",
        projection_net_hidden_dim_multiplier: float = 4.0,
        dropout_prob: float = 0.0,
        drop_modalities_weight: Sequence[tuple[Sequence[str], float]] | None = None,
        force_drop_modalities: Sequence[str] | None = None,
        freeze: bool = False,
        embed_dim: int | None = None,
    ) -> None:
        super().__init__()
        if use_pos_embedding != "learned":
            raise ValueError(f"EmbedderFuser knows use_pos_embedding 'learned', not {use_pos_embedding!r}")
        self.module_list = nn.ModuleList(embedder for embedder, _ in embedder_list)
        self.inputs = [tuple((str(name), str(group)) for name, group in wanted) for _, wanted in embedder_list]
        groups = list(dict.fromkeys(group for wanted in self.inputs for _, group in wanted))
        self.group_index = {group: index for index, group in enumerate(groups)}
        widths = [cast(int, embedder.embed_dim) for embedder, _ in embedder_list]
        self.embed_dim = embed_dim or max(widths)
        hidden = swiglu_width(self.embed_dim, projection_net_hidden_dim_multiplier)
        self.projection_nets = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), SwiGLU(width, hidden, self.embed_dim)) for width in widths
        )
        self.idx_emb = nn.Parameter(torch.randn(INDEX_ROWS, self.embed_dim) * 0.02)
        self.dropout_prob = dropout_prob
        self.drop_sets = [(frozenset(names), float(weight)) for names, weight in drop_modalities_weight or ()]
        self.force_drop = frozenset(force_drop_modalities or ())
        if len(groups) > INDEX_ROWS:
            raise ValueError(f"there are embeddings for {INDEX_ROWS} groups of inputs, got {groups}")

    @property
    def input_names(self) -> tuple[str, ...]:
        """The inputs in the order of their tokens."""
        return tuple(name for wanted in self.inputs for name, _ in wanted)

    def draw_dropped(self, batch: int, random: Tensor | None = None) -> list[frozenset[str]]:
        """Draw which inputs each sample drops; `random` (B,) in [0, 1) replaces the draw in tests."""
        random = torch.rand(batch) if random is None else random.cpu()
        weights = torch.tensor([weight for _, weight in self.drop_sets])
        shares = torch.cat([torch.tensor([1 - self.dropout_prob]), self.dropout_prob * weights / weights.sum()])
        chosen = torch.searchsorted(shares.cumsum(0), random).clamp(max=len(self.drop_sets)).tolist()
        return [frozenset() if index == 0 else self.drop_sets[index - 1][0] for index in chosen]

    def forward(
        self,
        inputs: Mapping[str, Tensor],
        dropped: Iterable[frozenset[str]] | None = None,
        force_drop: frozenset[str] | None = None,
    ) -> Tensor:
        """Embed the inputs, each (B, c, Y, X), as tokens (B, T, C).

        Args:
            dropped: for each sample the inputs to drop; drawn in training mode when not given.
            force_drop: inputs to drop in all samples, instead of `force_drop_modalities`.

        Raises:
            ValueError: an input is missing.
        """
        missing = [name for name in self.input_names if name not in inputs]
        if missing:
            raise ValueError(f"the condition embedder needs {list(self.input_names)}; missing: {missing}")
        batch = inputs[self.input_names[0]].shape[0]
        if dropped is None and self.training and self.dropout_prob > 0 and self.drop_sets:
            dropped = self.draw_dropped(batch)
        everywhere = self.force_drop if force_drop is None else force_drop
        gone = [sample | everywhere for sample in dropped] if dropped is not None else [everywhere] * batch
        sequence = []
        for embedder, projection, wanted in zip(self.module_list, self.projection_nets, self.inputs, strict=True):
            for name, group in wanted:
                tokens = projection(embedder(inputs[name])) + self.idx_emb[self.group_index[group]]
                if any(name in sample for sample in gone):
                    keep = torch.tensor([name not in sample for sample in gone], device=tokens.device)
                    tokens = tokens * keep[:, None, None].to(tokens.dtype)
                sequence.append(tokens)
        return torch.cat(sequence, dim=1)
