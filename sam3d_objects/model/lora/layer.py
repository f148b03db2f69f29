"""What every adapted layer has in common: named low-rank updates of a frozen weight, some of them in use.

Letters: out the output features or channels of the layer; in its inputs, flattened (channels x kernel for a
convolution); r the rank, R that of all parts.
"""

from abc import abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from sam3d_objects.model.lora.frame import BUFFER_LEAVES, LEAVES, Frame, Piece
from sam3d_objects.model.lora.options import DEFAULT_ADAPTER, LayerOptions, check_adapter_name
from sam3d_objects.model.lora.start import start_matrices


class LoRALayer(nn.Module):
    """A frozen layer and its adapters: W' = (1 + gain) W + sum of scale * up @ down over those in use.

    The adapter `default` has its tensors in the layer itself, `lora_A` and `lora_B`; one of another name in
    `adapters.<name>`. They are kept in float32 at least (float64 for a float64 base), whatever the base's dtype:
    updates are small, and bfloat16 would round them away. They are drawn on the CPU, so that a seed gives the same
    adapter on every device.

    Attributes:
        options: adapter -> its options.
        active: adapter in use -> the factor of its update, 1 ordinarily. Empty: the layer behaves as its base does.
        enabled: False makes the layer behave as its base does, whatever is active.
    """

    base_name: ClassVar[str] = "original"
    """The child that holds the base layer; empty where the layer holds the base's tensors itself."""
    looked_up: ClassVar[bool] = False
    """Whether rows of A are looked up instead of multiplied."""
    lora_A: nn.Parameter
    lora_B: nn.Parameter

    def _prepare(self, frame: Frame) -> None:
        """Start without adapters."""
        self.options: dict[str, LayerOptions] = {}
        self.active: dict[str, float] = {}
        self.enabled = True
        self.adapters = nn.ModuleDict()
        self.frame = frame

    def __getattr__(self, name: str) -> Any:
        """Return what the base has under a name that this layer has not, such as a stride."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            base = self.__dict__.get("_modules", {}).get(self.base_name)
            if base is None or name in LEAVES:
                raise
            return getattr(base, name)

    @property
    @abstractmethod
    def original_weight(self) -> Tensor:
        """The base's own weight."""

    @abstractmethod
    def matrix(self, weight: Tensor) -> Tensor:
        """Return the base's weight, or one of its shape, as (out, in)."""

    @abstractmethod
    def unmatrix(self, matrix: Tensor) -> Tensor:
        """Return a matrix (out, in) in the shape of the base's weight."""

    @abstractmethod
    def unadapted(self) -> nn.Module:
        """Return the plain base layer."""

    @abstractmethod
    def merge_weights(self) -> nn.Module:
        """Return a new plain layer with the update added to the weight; this layer stays as it is.

        Raises:
            ValueError: the layer is not `enabled`, so that the merged layer would not be what it computes.
        """

    @abstractmethod
    def check_options(self, options: LayerOptions) -> None:
        """Raise ValueError where this kind of layer has no such adapter."""

    def add_adapter(
        self, name: str, options: LayerOptions, generator: torch.Generator | None = None, draw: bool = True
    ) -> None:
        """Add an adapter and use it alone; the others stay, frozen.

        Args:
            name: not in use in this layer.
            options: of the new adapter.
            generator: source of its matrices, on the CPU; torch's global one by default.
            draw: False leaves all of them zero, to be loaded.

        Raises:
            ValueError: the name is bad or taken, or this kind of layer has no adapter with such options.
        """
        check_adapter_name(name)
        if name in self.options:
            raise ValueError(f"the layer already has an adapter {name!r}")
        self.check_options(options)
        shapes, weight = self.frame.shapes(options), self.original_weight
        dtype = torch.promote_types(weight.dtype, torch.float32)
        holder: nn.Module = self
        if name != DEFAULT_ADAPTER:
            holder = self.adapters[name] = nn.Module()
        for leaf, shape in shapes.items():
            tensor = torch.zeros(shape, dtype=dtype, device=weight.device)
            if leaf in BUFFER_LEAVES:
                holder.register_buffer(leaf, tensor)
            else:
                holder.register_parameter(leaf, nn.Parameter(tensor))
        self.options[name] = options
        if draw:
            self.reset_parameters(generator, name)
        self.use({name: 1.0})

    def delete_adapter(self, name: str) -> None:
        """Remove an adapter that the layer has; where it was in use, the layer behaves as its base does."""
        del self.options[name]
        self.active.pop(name, None)
        if name != DEFAULT_ADAPTER:
            del self.adapters[name]
            return
        for leaf in self.tensors_of(DEFAULT_ADAPTER):
            delattr(self, leaf)

    def use(self, weights: dict[str, float]) -> None:
        """Put adapters in use, each with a factor; those that the layer does not have are passed over.

        What is in use may train and the other adapters are frozen.
        """
        self.active = {name: weight for name, weight in weights.items() if name in self.options}
        for name in self.options:
            for parameter in self.parameters_of(name):
                parameter.requires_grad_(name in self.active)

    def reset_parameters(self, generator: torch.Generator | None = None, adapter: str | None = None) -> None:
        """Draw an adapter's matrices anew, by default those of the first in use; a fresh adapter changes nothing."""
        name = self.main if adapter is None else adapter
        options, tensors = self.options[name], self.tensors_of(name)
        if tensors["lora_A"].is_meta:
            return
        with torch.no_grad():
            start_matrices(tensors, self.matrix(self.original_weight), options, self.looked_up, generator)
            if options.dora:
                tensors["lora_magnitude"].copy_(self._lengths(name))

    def holder(self, name: str) -> nn.Module:
        """Return the module that owns an adapter's tensors."""
        return self if name == DEFAULT_ADAPTER else self.adapters[name]

    def tensors_of(self, name: str) -> dict[str, Tensor]:
        """Return the tensors of an adapter (its parameters and buffers themselves) by their short names."""
        holder = self.holder(name)
        own = {**holder._parameters, **holder._buffers}
        return {leaf: tensor for leaf in LEAVES if (tensor := own.get(leaf)) is not None}

    def parameters_of(self, name: str) -> list[nn.Parameter]:
        """Return those tensors of an adapter that training may move."""
        return [tensor for tensor in self.tensors_of(name).values() if isinstance(tensor, nn.Parameter)]

    @property
    def main(self) -> str:
        """The first adapter in use, or the first that there is."""
        return next(iter(self.active or self.options))

    @property
    def rank(self) -> int:
        """The rank of the main adapter."""
        return self.options[self.main].rank

    @property
    def alpha(self) -> float:
        """The alpha of the main adapter."""
        return float(self.options[self.main].alpha)

    @property
    def scaling(self) -> float:
        """The factor of the main adapter's update, such as alpha / rank."""
        return self.options[self.main].scaling

    @property
    def dropout_rate(self) -> float:
        """The probability with which an input of the main adapter's update is dropped in training."""
        return self.options[self.main].dropout

    def update(self) -> tuple[list[Piece], Tensor | None]:
        """Return what the adapters in use add to the base: products, and the gain (out,) of each row, if any.

        Both are empty (no pieces, None) where the layer behaves as its base does.
        """
        pieces: list[Piece] = []
        gain: Tensor | None = None
        for name, weight in self.active.items() if self.enabled else ():
            own = self.pieces_of(name, weight)
            if self.options[name].dora:
                stretch = self.tensors_of(name)["lora_magnitude"] / self._lengths(name)
                own = [piece._replace(up=stretch[:, None] * piece.up) for piece in own]
                gain = weight * (stretch - 1) + (0 if gain is None else gain)
            pieces += own
        return pieces, gain

    def pieces_of(self, name: str, weight: float = 1.0) -> list[Piece]:
        """Return what an adapter adds to the weight, `weight` times, without its gain."""
        options = self.options[name]
        tensors, scale = self.tensors_of(name), weight * options.scaling
        pieces = [Piece(tensors["lora_A"], self._spread(tensors["lora_B"], options), scale, options.dropout)]
        if options.init == "pissa":
            pieces.append(Piece(tensors["lora_A0"], self._spread(tensors["lora_B0"], options), -scale, 0.0))
        return pieces

    def _spread(self, b: Tensor, options: LayerOptions) -> Tensor:
        """Return B as (out, R): the blocks of the parts on a diagonal, and no rows of what is left alone."""
        if self.frame.trailing:
            b = b.flatten(1)
        if not options.parts:
            return b
        block = len(b) // len(options.places)
        up = b.new_zeros(block * options.blocks, options.total_rank)
        for i, place in enumerate(options.places):
            rows, columns = slice(place * block, (place + 1) * block), slice(i * options.rank, (i + 1) * options.rank)
            up[rows, columns] = b[i * block : (i + 1) * block]
        return up

    def _lengths(self, name: str) -> Tensor:
        """Return the length (out,) of each row of W + the adapter's update, a constant of training (DoRA, eq. 11).

        From |w + c A|^2 = |w|^2 + 2 c A w + c A A' c' for a row w and its row c of B, so that no matrix of the
        weight's size is made.
        """
        with torch.no_grad():
            pieces = self.pieces_of(name)
            down = torch.cat([piece.down.flatten(1) for piece in pieces])
            up = torch.cat([piece.scale * piece.up for piece in pieces], dim=1)
            weight = self.matrix(self.original_weight).to(down.dtype)
            squares = torch.linalg.vector_norm(weight, dim=1).square()
            squares = squares + (up * (2 * weight @ down.t() + up @ (down @ down.t()))).sum(1)
            return squares.clamp_min(torch.finfo(squares.dtype).tiny).sqrt()

    @property
    def weight(self) -> Tensor:
        """The weight that this layer stands for, in the base's shape, computed at each call.

        Summed in float32 at least, then cast to the base's dtype. The base's own where nothing is in use.
        """
        base = self.original_weight
        pieces, gain = self.update()
        if not pieces:
            return base
        dtype = torch.promote_types(base.dtype, torch.float32)
        total = self.matrix(base).to(dtype)
        if gain is not None:
            total = total + gain[:, None] * total
        for piece in pieces:
            total = torch.addmm(total, piece.up.to(dtype), piece.down.flatten(1).to(dtype), alpha=piece.scale)
        return self.unmatrix(total).to(base.dtype)

    def base_leaf(self, name: str) -> str:
        """Return the name that a tensor of this layer's base (`original.weight`) has in the plain layer (`weight`)."""
        return name.removeprefix(f"{self.base_name}.") if self.base_name else name.removeprefix("original_")

    def require_use(self) -> None:
        """Raise ValueError where the layer behaves as its base does, so that merging would hide an adapter."""
        if not self.enabled:
            raise ValueError("a disabled adapter is not merged: set `enabled = True` first")

    def extra_repr(self) -> str:
        """Return what `print(model)` shows of this layer."""
        if not self.options:
            return "no adapter"
        others = [name for name in self.options if name != self.main]
        named = f", adapter={self.main}" if self.main != DEFAULT_ADAPTER else ""
        also = f", also={'|'.join(others)}" if others else ""
        return f"rank={self.rank}, alpha={self.alpha:g}, enabled={self.enabled}{named}{also}"
