"""The adapted `nn.MultiheadAttention`: its packed projection of queries, keys and values.

Letters: E the width of the attention, R rank.
"""

import copy

import torch
from torch import Tensor, nn

from sam3d_objects.model.lora.frame import Frame
from sam3d_objects.model.lora.layer import LoRALayer
from sam3d_objects.model.lora.options import DEFAULT_ADAPTER, LayerOptions

_OWN = ("options", "active", "enabled", "frame")
_KEPT = "original_in_proj_weight"


class LoRAMultiheadAttention(LoRALayer, nn.MultiheadAttention):
    """An nn.MultiheadAttention whose `in_proj_weight` (3 E, E) is the frozen one plus a trainable update.

    PyTorch's own attention reads weights, it calls no layers; so the sum, small beside the activations, is made at
    each call, and masks, fast paths and returned weights are PyTorch's. `parts="qkv"` or `"q_v"` gives queries, keys
    and values adapters of their own. `out_proj` keeps its path and is adapted as any linear layer.

    Args:
        original: with packed projections; its parameters are shared with this module and frozen (but `out_proj`).
        options: see `LayerOptions`, without dropout.
        adapter: name of the adapter.
        generator: source of A on the CPU; torch's global one by default.
        draw: False leaves the matrices zero, to be loaded.

    Raises:
        ValueError: another layer, separate projections (`kdim`, `vdim`), or dropout.
    """

    base_name = ""

    def __init__(
        self,
        original: nn.MultiheadAttention,
        options: LayerOptions | None = None,
        *,
        adapter: str = DEFAULT_ADAPTER,
        generator: torch.Generator | None = None,
        draw: bool = True,
    ) -> None:
        nn.Module.__init__(self)  # The attention's own would draw weights.
        if not isinstance(original, nn.MultiheadAttention) or isinstance(original, LoRALayer):
            raise ValueError(f"LoRAMultiheadAttention adapts an nn.MultiheadAttention; got {type(original).__name__}")
        if not original._qkv_same_embed_dim:
            raise ValueError("an nn.MultiheadAttention with kdim or vdim has no packed projection to adapt")
        self.__dict__.update({name: copy.copy(value) for name, value in vars(original).items()})
        self.register_parameter(_KEPT, self._parameters.pop("in_proj_weight"))
        self._prepare(self.frame_of(original))
        for parameter in self.parameters(recurse=False):
            parameter.requires_grad_(False)
        self.add_adapter(adapter, options or LayerOptions(), generator, draw)

    @staticmethod
    def frame_of(original: nn.MultiheadAttention) -> Frame:
        """Return what decides the shapes of adapters of a plain layer."""
        return Frame(3 * original.embed_dim, (original.embed_dim,))

    @property
    def in_proj_weight(self) -> Tensor:  # type: ignore[override]  # A parameter there, a sum here.
        """The weight (3 E, E) that attention uses, computed at each call."""
        return self.weight

    @property
    def original_weight(self) -> Tensor:
        """The base's packed weight (3 E, E)."""
        return self.get_parameter(_KEPT)

    def matrix(self, weight: Tensor) -> Tensor:
        """Return the weight (3 E, E) itself."""
        return weight

    def unmatrix(self, matrix: Tensor) -> Tensor:
        """Return the matrix (3 E, E) itself."""
        return matrix

    def check_options(self, options: LayerOptions) -> None:
        """Raise ValueError for dropout."""
        if options.dropout:
            raise ValueError("nn.MultiheadAttention has no LoRA dropout: its update is added to the weight")

    def unadapted(self) -> nn.MultiheadAttention:
        """Return a plain attention that shares the base's parameters and `out_proj`."""
        plain = nn.MultiheadAttention.__new__(nn.MultiheadAttention)
        plain.__dict__.update({name: copy.copy(value) for name, value in vars(self).items() if name not in _OWN})
        del plain._modules["adapters"]
        for leaf in self.tensors_of(DEFAULT_ADAPTER):
            (plain._parameters if leaf in plain._parameters else plain._buffers).pop(leaf)
        plain.register_parameter("in_proj_weight", plain._parameters.pop(_KEPT))
        return plain

    def merge_weights(self) -> nn.MultiheadAttention:
        """Return a new attention with the update added to the packed weight; ValueError while disabled.

        `out_proj` is copied as it is, with its adapter if it has one.
        """
        self.require_use()
        merged = copy.deepcopy(self.unadapted())
        assert merged.in_proj_weight is not None
        with torch.no_grad():
            merged.in_proj_weight.copy_(self.weight)
        return merged
