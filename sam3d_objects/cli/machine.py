"""What this machine offers: Python, torch, GPUs, memory, and how much of the released model fits."""

import os
import platform
import sys
from collections.abc import Iterator
from pathlib import Path

from .findings import Finding

PYTHONS = ((3, 11), (3, 14))
OLDEST_TORCH = (2, 6)
BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
GIB = 1 << 30
# An estimate of what activations need beside the weights, for one object at a time.
WORKING_BYTES = 3 * GIB
# Only training needs them.
ENCODER = "encoder"
DRIVER = Path("/proc/driver/nvidia/version")


def software() -> Iterator[Finding]:
    """Look at Python and torch."""
    import torch

    version = sys.version_info[:2]
    first, beyond = PYTHONS
    wanted = f"from {first[0]}.{first[1]}, before {beyond[0]}.{beyond[1]}"
    text = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    fits = first <= version < beyond
    yield Finding("Python", text if fits else f"{text}; expected {wanted}", "good" if fits else "problem")
    yield _torch_version(torch.__version__)


def _torch_version(version: str) -> Finding:
    numbers = tuple(int(part) for part in version.split("+")[0].split(".")[:2])
    if numbers >= OLDEST_TORCH:
        return Finding("torch", version)
    oldest = ".".join(map(str, OLDEST_TORCH))
    return Finding("torch", f"{version}; expected {oldest} or later: pip install -U torch", "problem")


def graphics() -> Iterator[Finding]:
    """Look at the GPUs; one that torch sees but cannot use is a problem, and none at all is not."""
    import torch

    if not torch.cuda.is_available():
        built = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built without CUDA"
        text = f"no GPU in sight of torch, which is {built}; everything runs on the CPU"
        if DRIVER.exists():
            text += "; yet an NVIDIA driver is installed: pick a torch for it at https://pytorch.org/get-started"
        yield Finding("CUDA", text, "note")
        return
    for index in range(torch.cuda.device_count()):
        name = f"{index}: {torch.cuda.get_device_name(index)}"
        try:
            torch.zeros(8, device=f"cuda:{index}").add_(1).sum().item()
            free, total = torch.cuda.mem_get_info(index)
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[0]
            yield Finding("CUDA", f"{name} does not compute: {reason}; install a torch built for it", "problem")
            continue
        yield Finding("CUDA", f"{name}, {total / GIB:.1f} GiB, {free / GIB:.1f} GiB free (CUDA {torch.version.cuda})")
        yield Finding("CUDA", f"the released model there: {what_fits(free)}")


def memory() -> Iterator[Finding]:
    """Look at the main memory, beside the size of the weights."""
    yield Finding("weights", weight_sizes())
    found = main_memory()
    if found is None:
        yield Finding("memory", "this system does not tell", "note")
        return
    total, free = found
    yield Finding("memory", f"{total / GIB:.1f} GiB, {free / GIB:.1f} GiB free")
    yield Finding("memory", f"the released model on the CPU: {what_fits(free, can_offload=False)}")


def main_memory() -> tuple[int, int] | None:
    """Return total and available bytes of main memory, or None where the system does not tell."""
    try:
        page = os.sysconf("SC_PAGE_SIZE")
        total = page * os.sysconf("SC_PHYS_PAGES")
        free = page * os.sysconf("SC_AVPHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None
    table = Path("/proc/meminfo")
    if table.exists():
        # Pages that only cache files are free, too.
        lines = dict(line.split(":", 1) for line in table.read_text(encoding="ascii").splitlines())
        free = int(lines["MemAvailable"].split()[0]) * 1024
    return total, free


def weight_sizes() -> str:
    """How large the released weights are, of what inference needs."""
    sizes = {stage: sum(_inference(stage).values()) * BYTES["float32"] / GIB for stage in ("structure", "latent")}
    parts = " + ".join(f"{stage} {size:.1f} GiB" for stage, size in sizes.items())
    return f"released weights in float32: {parts}; half of it in bfloat16 or float16"


def what_fits(free: int, can_offload: bool = True) -> str:
    """Say for each dtype whether the released model fits in `free` bytes: whole, offloaded, one stage, or not."""
    return "; ".join(f"{dtype} {_fit(free, size, can_offload)}" for dtype, size in BYTES.items())


def _fit(free: int, size: int, can_offload: bool) -> str:
    room = free - WORKING_BYTES
    stages = {stage: sum(_inference(stage).values()) * size for stage in ("structure", "latent")}
    if sum(stages.values()) <= room:
        return f"whole ({sum(stages.values()) / GIB:.1f} GiB)"
    largest = max(max(_inference(stage).values()) for stage in stages) * size
    if can_offload and largest <= room:
        return f"with offload=True (one module at a time, {largest / GIB:.1f} GiB)"
    if stages["structure"] <= room:
        return f"structure stage alone ({stages['structure'] / GIB:.1f} GiB)"
    return "does not fit"


def _inference(stage: str) -> dict[str, int]:
    """Module -> numbers that its released weights hold, of the modules that inference needs."""
    from sam3d_objects.assets.release_files import release_table

    return {name: count for name, count in release_table().elements[stage].items() if name != ENCODER}
