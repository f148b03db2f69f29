"""Between a model's adapter and the arrays that sites exchange."""

import hashlib

import torch
from torch import Tensor, nn

from sam3d_objects.adapter.exchange.parameters import AdapterParameters, Key, Layer, Manifest, check_same
from sam3d_objects.model.lora import active_adapters, adapter_names, load_lora_state_dict, lora_layers
from sam3d_objects.model.lora.state import adapter_tensors

A_MATRIX, B_MATRIX = "lora_A", "lora_B"


def get_parameters(model: nn.Module, base_fingerprint: str, samples: int = 0) -> AdapterParameters:
    """Return what the adapter in use consists of and what may move of it, as arrays of their own.

    Names do not hold the adapter's name: sites may call theirs as they like. Parameters of it that are frozen
    (`freeze_a`) stay here; the manifest holds their SHA-256 instead.

    Args:
        model: with adapters, and what else trains unfrozen.
        base_fingerprint: of the base before adapters went in.
        samples: how many training samples stand behind the values.

    Raises:
        ValueError: no adapter or several in use, or a tensor that is not float32 or float64, or not finite.
    """
    exchanged, manifest = _split(model, base_fingerprint)
    return AdapterParameters(manifest, tuple(tensor.cpu().numpy() for tensor in exchanged.values()), samples)


def set_parameters(model: nn.Module, parameters: AdapterParameters, base_fingerprint: str, strict: bool = True) -> None:
    """Put arrays into the adapter that a model has in use: all of them, or an error and nothing changed.

    Args:
        model: adapted as the one that they come from.
        parameters: what `get_parameters` gave there.
        base_fingerprint: of this model's base.
        strict: False leaves arrays that are missing as they are here, and leaves out those that this model has no
            place for.

    Raises:
        ValueError: another base, rank or scaling, or arrays that are missing, left over or misshapen.
    """
    own, manifest = _split(model, base_fingerprint)
    check_same(manifest, parameters.manifest, strict)
    state = {name: torch.from_numpy(array) for name, array in parameters.by_name.items() if name in own}
    load_lora_state_dict(model, state, strict=False)  # what is frozen is not among them


def freeze_a(model: nn.Module) -> int:
    """Let only the B of every adapter train, so that averages of B are averages of B A; returns how many stay.

    FFA-LoRA (Sun et al. 2024, arXiv 2403.12313): with one A everywhere, mean(B) A = mean(B A). All sites need the same
    A, which one seed gives them. An embedding's A starts at zero and its B is drawn, so that with A frozen nothing
    could ever be learnt: there B stays and A trains, B mean(A) = mean(B A).
    """
    frozen = 0
    for layer in lora_layers(model).values():
        for name in layer.options:
            layer.tensors_of(name)[B_MATRIX if layer.looked_up else A_MATRIX].requires_grad_(False)
            frozen += 1
    return frozen


def _split(model: nn.Module, base_fingerprint: str) -> tuple[dict[str, Tensor], Manifest]:
    """Return the adapter's tensors that are exchanged, and the manifest of all."""
    exchanged: dict[str, Tensor] = {}
    held: dict[str, Tensor] = {}
    parameters = dict(model.named_parameters())
    for name, tensor in adapter_tensors(model).items():
        # The tensor itself: these names leave out the adapter's, and may be those of another adapter in the model.
        owner = tensor if isinstance(tensor, nn.Parameter) else parameters.get(name)
        moves = owner is None or owner.requires_grad
        (exchanged if moves else held)[name] = tensor.detach().clone()
    if not exchanged:
        raise ValueError("nothing to exchange: the model has no adapter whose parameters train")
    strange = [f"{name} ({tensor.dtype})" for name, tensor in exchanged.items() if not _exchangeable(tensor)]
    if strange:
        raise ValueError(
            f"only float32 and float64 are exchanged, not {', '.join(strange[:8])}: leave these modules frozen"
        )
    keys = tuple(Key(name, tuple(x.shape), str(x.dtype).removeprefix("torch.")) for name, x in exchanged.items())
    return exchanged, Manifest(base_fingerprint, keys, _layers(model), _digest(held))


def _layers(model: nn.Module) -> dict[str, Layer]:
    """Return how each layer is adapted by the adapter in use, or the only one."""
    adapter = next(iter(active_adapters(model) or adapter_names(model)), None)
    options = {path: layer.options[adapter] for path, layer in lora_layers(model).items() if adapter in layer.options}
    return {path: Layer(x.rank, float(x.scaling), x.parts) for path, x in options.items()}


def _exchangeable(tensor: Tensor) -> bool:
    return tensor.dtype in (torch.float32, torch.float64)


def _digest(tensors: dict[str, Tensor]) -> str:
    if not tensors:
        return ""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        digest.update(tensor.cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
