"""Dense networks as `torch.export` programs and as ONNX, each run again and held against eager before it is kept."""

import importlib
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram

from sam3d_objects.adapter.export.dense import DenseNetwork, outputs_of
from sam3d_objects.files import atomic_path

TOLERANCE = 1e-4
"""Largest max |a - b| / max |a| of an exported network's outputs against eager ones, in float32. Another library adds
in another order: what is seen is about 1e-6."""

_MOST_BATCH = 64
NEEDED = ("onnx", "onnxruntime", "onnxscript")
# A graph of more than 2 GB has its numbers in a file of their own (protobuf's limit).
_DATA_SUFFIX = ".data"


def traced(network: DenseNetwork) -> ExportedProgram:
    """Trace a network with `torch.export`; its batch stays free, from 1 to 64."""
    batch = torch.export.Dim("batch", min=1, max=_MOST_BATCH)
    sizes = tuple(None if name in network.shared else {0: batch} for name in network.inputs)
    with torch.no_grad():
        return torch.export.export(network.module, network.example(2), dynamic_shapes={"inputs": sizes})


def export_program(network: DenseNetwork, program: ExportedProgram, path: Path) -> float:
    """Write a network as a `.pt2` file for `torch.export.load`.

    Args:
        network: what was traced.
        program: what `traced` gave for it.
        path: the file.

    Returns:
        The largest difference to eager, as a share of the largest output.

    Raises:
        ValueError: the difference is above `TOLERANCE`; nothing is written.
    """
    difference = max(_apart(network, batch, lambda x: outputs_of(program.module(), x)) for batch in (1, 3))
    _check(network, difference, path)
    with atomic_path(path) as temporary:
        torch.export.save(program, temporary)
    return difference


def export_onnx(network: DenseNetwork, program: ExportedProgram, path: Path) -> float:
    """Write a network as ONNX, and run it in onnxruntime.

    Args:
        network: what was traced.
        program: what `traced` gave for it.
        path: the file; numbers of more than 1 GB go into `path` + `.data` beside it.

    Returns:
        The largest difference to eager, as a share of the largest output.

    Raises:
        ValueError: the extra `[onnx]` is not installed, or the difference is above `TOLERANCE`; nothing is kept then.
    """
    runtime = _needed()["onnxruntime"]
    path.parent.mkdir(parents=True, exist_ok=True)
    data = path.with_name(path.name + _DATA_SUFFIX)
    with _quiet():
        torch.onnx.export(
            program,
            (),
            path,
            dynamo=True,
            verbose=False,
            external_data=_bytes(program) > 1 << 30,
            input_names=list(network.inputs),
            output_names=list(network.outputs),
        )
    try:
        session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        difference = max(_apart(network, batch, lambda x: _run(session, network, x)) for batch in (1, 3))
        _check(network, difference, path)
    except ValueError:
        path.unlink(missing_ok=True)
        data.unlink(missing_ok=True)
        raise
    return difference


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what torch's exporter says of itself: operators of torchvision, which nothing here uses, and its own
    deprecations."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            yield
    finally:
        logger.setLevel(level)


def _run(session: Any, network: DenseNetwork, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    given = {name: value.numpy() for name, value in zip(network.inputs, inputs, strict=True)}
    return tuple(torch.from_numpy(value) for value in session.run(list(network.outputs), given))


def _apart(network: DenseNetwork, batch: int, run: Any) -> float:
    """Return max |a - b| / max |a| of eager and exported outputs, the worst of all outputs; other inputs each batch."""
    inputs = network.example(batch, seed=batch)
    pairs = zip(outputs_of(network.module, inputs), run(inputs), strict=True)
    return max(float((a - b).abs().max()) / float(a.abs().max()) for a, b in pairs)


def _check(network: DenseNetwork, difference: float, path: Path) -> None:
    if not difference <= TOLERANCE:
        raise ValueError(
            f"{path} was not kept: the exported {network.name} differs from eager by {difference:.3g} of the largest "
            f"output, expected at most {TOLERANCE:g}"
        )


def _bytes(program: ExportedProgram) -> int:
    return sum(value.nbytes for value in program.state_dict.values())


def _needed() -> dict[str, Any]:
    try:
        return {name: importlib.import_module(name) for name in NEEDED}
    except ImportError as error:
        raise ValueError(
            f"ONNX export needs {', '.join(NEEDED)}, and {error.name} is not installed: pip install "
            '"sam3d-medical[onnx]"'
        ) from error
