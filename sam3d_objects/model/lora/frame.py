"""The tensors of one adapter in one layer: their names, their shapes, and what they are as a product."""

from typing import NamedTuple

from torch import Tensor

from sam3d_objects.model.lora.options import LayerOptions

# The tensors of one adapter in one layer. Those with a 0 are where PiSSA started; they never move.
PARAMETER_LEAVES = ("lora_A", "lora_B", "lora_magnitude")
BUFFER_LEAVES = ("lora_A0", "lora_B0")
LEAVES = (*PARAMETER_LEAVES, *BUFFER_LEAVES)


class Piece(NamedTuple):
    """One product that is added to a weight (out, in) seen as a matrix: scale * up @ down.

    Attributes:
        down: (R, ...), in the shape in which the layer stores A.
        up: (out, R).
        scale: factor of the product.
        dropout: probability of dropping an input of `down` while training.
    """

    down: Tensor
    up: Tensor
    scale: float
    dropout: float


class Frame(NamedTuple):
    """What decides the shapes of a layer's adapters.

    Attributes:
        rows: output features or channels of the weight as a matrix.
        tail: shape of A behind its first axis, (R, *tail).
        trailing: axes of length 1 behind the two of B, (rows, r, 1, ...).
    """

    rows: int
    tail: tuple[int, ...]
    trailing: int = 0

    def shapes(self, options: LayerOptions) -> dict[str, tuple[int, ...]]:
        """Return the shape of each tensor of an adapter by its short name.

        Raises:
            ValueError: the rows do not fall into the blocks that `parts` names.
        """
        if self.rows % options.blocks:
            raise ValueError(f"parts {options.parts!r} need a multiple of {options.blocks} rows, not {self.rows}")
        a = (options.total_rank, *self.tail)
        b = (self.rows // options.blocks * len(options.places), options.rank, *[1] * self.trailing)
        shapes: dict[str, tuple[int, ...]] = {"lora_A": a, "lora_B": b}
        if options.dora:
            shapes["lora_magnitude"] = (self.rows,)
        if options.init == "pissa":
            shapes |= {"lora_A0": a, "lora_B0": b}
        return shapes
