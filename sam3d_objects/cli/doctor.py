"""`sam3d-med doctor`: is this machine ready, and are the base model's files whole?"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Annotated

from .findings import Finding, listed

GET_IT = "run scripts/download_checkpoints.py again"


def doctor(
    base: Annotated[str, "base model to look at: tiny (built in), or the folder of the released files"] = "tiny",
    hash: Annotated[bool, "read the released files whole and compare their SHA-256 (13 GB)"] = False,
) -> None:
    """Check this machine and a base model's files, and reconstruct one slice with the built-in tiny model.

    Tells Python, torch, GPUs and memory, which dtypes of the released model fit, and what is wrong with its files.
    The exit status is 0 if all is well and 1 if something must be mended; lines with '-' are only worth knowing.

        sam3d-med doctor --base checkpoints
        sam3d-med doctor --base checkpoints --hash
    """
    from .machine import graphics, memory, software
    from .self_test import self_test

    problems = 0
    parts = (software, graphics, memory, partial(base_files, base, hash), self_test)
    for part in parts:
        findings = list(part())
        # At once, since hashing and the self-test take a while.
        print(listed(findings), flush=True)
        problems += sum(finding.kind == "problem" for finding in findings)
    if problems:
        raise ValueError(f"{problems} problem{'s' * (problems > 1)}, marked with '!' above")
    print("all is well")


def base_files(base: str, with_hash: bool) -> Iterator[Finding]:
    """Look at the files of a base model."""
    if base == "tiny":
        yield Finding("base", "tiny, built in; --base FOLDER looks at the released files")
        return
    folder = Path(base)
    if not folder.is_dir():
        yield Finding("base", f"{folder}: no such folder; give the folder of the released files", "problem")
        return
    yield from released_files(folder, with_hash)


def released_files(folder: Path, with_hash: bool) -> Iterator[Finding]:
    """Hold a folder against the table of the released files.

    A missing or empty encoder stops training alone, and nothing here reads the Gaussian decoders: these are notes. An
    encoder that is damaged is a problem, since loading refuses it.
    """
    from sam3d_objects.assets.release_files import release_table

    table = release_table()
    inner = folder / "checkpoints"
    if not (folder / "pipeline.yaml").exists() and (inner / "pipeline.yaml").exists():
        yield Finding("base", f"{folder}: the files are one folder further down; give --base {inner}", "problem")
        return
    good = 0
    findings = []
    for file in table.files.values():
        path = folder / file.name
        problem = None if file.stage == "spare" else file.problem(path, with_hash)
        if problem is None:
            good += file.stage != "spare"
        elif file.stage == "encoders" and _is_absent(path):
            effect = (
                "TRELLIS's config is taken" if path.suffix == ".yaml" else "without it no training targets are made"
            )
            findings.append(Finding("base", f"{path}: {problem}; {effect}", "note"))
        elif file.stage == "gaussians":
            findings.append(Finding("base", f"{path}: {problem}; nothing here reads it", "note"))
        else:
            findings.append(Finding("base", f"{path}: {problem}; {_remedy(file.stage)}", "problem"))
    looked_at = "sizes and hashes" if with_hash else "sizes (--hash reads them whole)"
    yield Finding("base", f"{folder}: {good} files as released, by their {looked_at}")
    yield from findings
    old = folder / "ss_encoder.safetensors"
    if old.exists() and old.stat().st_size == 0:
        yield Finding("base", f"{old}: the empty placeholder of old downloads; delete it", "note")


def _is_absent(path: Path) -> bool:
    """Whether loading takes an encoder's file as not there: it is missing, or its weights are the empty placeholder."""
    return not path.is_file() or (path.suffix != ".yaml" and path.stat().st_size == 0)


def _remedy(stage: str) -> str:
    if stage == "latent":
        return f"{GET_IT}, or load stages=('structure',) alone"
    if stage == "encoders":
        return f"{GET_IT}, or delete it, since only training reads it"
    return GET_IT
