"""Adapter folders made to do harm: each is refused with its reason, and the model is as it was."""

import dataclasses
import hashlib
import json
import os
import pickle
import shutil
import socket
import struct
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from sam3d_objects.adapter import load_adapter, read_adapter_set, save_adapter
from sam3d_objects.model.lora import LoRAConfig, inject_lora
from tests.adapter.records import META as PLAIN_META
from tests.model.lora.standins import VisionTransformer, randomise_adapters

TENSORS, RECORD = "adapter_model.safetensors", "sam3d.json"
META = dataclasses.replace(PLAIN_META, training={"epochs": 3})
QKV_A = "base_model.model.blocks.0.attn.qkv.lora_A.weight"
Damage = Callable[[Path], object]


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that loads."""
    model = VisionTransformer()
    inject_lora(model, "*.qkv", rank=2)
    randomise_adapters(model)
    folder = tmp_path_factory.mktemp("honest") / "best"
    save_adapter(folder, model, LoRAConfig(rank=2, target_modules=("*.qkv",)), META)
    load_adapter(folder, VisionTransformer(), base_fingerprint="f")
    return folder


def file(name: str, content: bytes) -> Damage:
    """Write other bytes in the place of a file."""
    return lambda folder: (folder / name).write_bytes(content)


def text(change: Callable[[str], str]) -> Damage:
    """Edit the record as text, as a JSON library would not."""
    return lambda folder: (folder / RECORD).write_text(change((folder / RECORD).read_text()))


def inside(key: str, value: str) -> Damage:
    """Put JSON text into the training part of the record, which may hold anything."""
    return text(lambda record: record.replace('"training": {', f'"training": {{"{key}": {value}', 1))


def record(change: Callable[[dict[str, Any]], object]) -> Damage:
    """Edit the record as values."""

    def damage(folder: Path) -> None:
        values = json.loads((folder / RECORD).read_text())
        change(values)
        (folder / RECORD).write_text(json.dumps(values))

    return damage


def tensors(change: Callable[[dict[str, torch.Tensor]], object]) -> Damage:
    """Edit the tensors, in a file that is in order."""

    def damage(folder: Path) -> None:
        values = load_file(folder / TENSORS)
        change(values)
        save_file(values, folder / TENSORS)

    return damage


def header(change: Callable[[dict[str, Any]], object]) -> Damage:
    """Edit the tensor file's header and leave its numbers."""

    def damage(folder: Path) -> None:
        content = (folder / TENSORS).read_bytes()
        (length,) = struct.unpack("<Q", content[:8])
        values = json.loads(content[8 : 8 + length])
        change(values)
        (folder / TENSORS).write_bytes(with_header(json.dumps(values).encode(), content[8 + length :]))

    return damage


def with_header(text: bytes, numbers: bytes = b"") -> bytes:
    """A safetensors file of a header's text."""
    return struct.pack("<Q", len(text)) + text + numbers


def replace(name: str, make: Callable[[Path], object]) -> Damage:
    """Put something that is no plain file in the place of one."""

    def damage(folder: Path) -> None:
        (folder / name).unlink()
        make(folder / name)

    return damage


def bound_socket(path: Path) -> None:
    here = os.getcwd()
    os.chdir(path.parent)  # a socket's path has at most 108 characters
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(path.name)
    os.chdir(here)


def sparse(size: int) -> Callable[[Path], None]:
    """A file of that size that takes no room."""

    def make(path: Path) -> None:
        with path.open("wb") as stream:
            stream.truncate(size)

    return make


def zipped(folder: Path) -> None:
    with zipfile.ZipFile(folder / TENSORS, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("adapter/data.pkl", b"\0" * 1_000_000)


def crowd(folder: Path) -> None:
    for index in range(300):
        (folder / f"x{index}").touch()


ENTRY = {"dtype": "F32", "shape": [2, 12], "data_offsets": [0, 96]}
HOSTILE: dict[str, tuple[Damage, str]] = {
    # Links, and what is no file.
    "tensors are a link out of the folder": (
        replace(TENSORS, lambda p: p.symlink_to("/etc/hostname")),
        r"adapter_model\.safetensors is a symbolic link.*not opened; copy the file itself",
    ),
    "the record is a link to a neighbour": (
        replace(RECORD, lambda p: p.symlink_to(p.parent / TENSORS)),
        "symbolic link",
    ),
    "a link that leads nowhere": (replace("README.md", lambda p: p.symlink_to("/nowhere")), "symbolic link"),
    "a link beside the files": (lambda folder: (folder / "all").symlink_to("/"), "all is a symbolic link"),
    "a pipe that never ends": (replace(RECORD, lambda p: os.mkfifo(p)), r"is a pipe \(FIFO\)"),
    "a pipe for tensors": (replace(TENSORS, lambda p: os.mkfifo(p)), r"is a pipe \(FIFO\)"),
    "a link to a device": (replace(TENSORS, lambda p: p.symlink_to("/dev/zero")), "symbolic link"),
    "a socket": (replace("README.md", bound_socket), "is a socket"),
    "a folder in the place of a file": (replace(RECORD, lambda p: p.mkdir()), "is a folder"),
    "thousands of entries": (
        crowd,
        "holds more than 256 files",
    ),
    # Sizes.
    "a record of 5 MB": (replace(RECORD, sparse(5 << 20)), "5,242,880 bytes, and such a file has at most 4,194,304"),
    "tensors of 9 GB": (replace(TENSORS, sparse(9 << 30)), "at most 8,589,934,592: not read"),
    "a card of 2 MB": (replace("README.md", sparse(2 << 20)), "at most 1,048,576"),
    "an empty tensor file": (file(TENSORS, b""), "half written or no safetensors file"),
    # JSON bombs.
    "brackets 100,000 deep": (inside("a", "[" * 100_000 + "]" * 100_000 + ","), "nests deeper than 32"),
    "objects 33 deep": (inside("a", '{"a":' * 31 + "1" + "}" * 31 + ","), "nests deeper than 32"),
    "brackets in a text do not count": (inside("a", json.dumps('\\"[[' * 99) + ', "b": NaN,'), "holds NaN"),
    "a number of a million digits": (inside("a", "9" * 1_000_000 + ","), "a number of 1,000,000 digits"),
    "a whole number beyond all counts": (inside("a", "9" * 30 + ","), "the whole number 999999999999999999999999"),
    "a number that becomes infinite": (inside("a", "1e999,"), "holds 1e999, which is no finite number"),
    "NaN": (inside("a", "NaN,"), "holds NaN, which JSON does not have"),
    "infinity": (inside("a", "-Infinity,"), "holds -Infinity"),
    "a key twice": (inside("epochs", "1,"), "the key 'epochs' twice"),
    "a million values": (inside("a", "[" + "0," * 300_000 + "0],"), "more than 200,000 values"),
    "codes that a terminal obeys": (inside("a", r'"\u001b]0;owned\u0007",'), r"control character U\+001B"),
    "letters that turn a line around": (inside("a", r'"\u202etxt.exe",'), r"control character U\+202E"),
    "half a character": (inside("a", r'"\ud800",'), r"control character U\+D800"),
    "a record that is no object": (file(RECORD, b"[1, 2]"), "not an adapter's record"),
    "a record in another encoding": (file(RECORD, b"\xff\xfe{}"), "not valid JSON"),
    # What the record says.
    "an extra key of the record": (record(lambda r: r.update(run="os.system")), "unknown key 'run'"),
    "an extra key of the contract": (
        record(lambda r: r["adapter"]["contract"].update(plane="axial")),
        "unknown key 'plane'. Did you mean 'planes'",
    ),
    "an extra LoRA option": (record(lambda r: r["lora"].update(ranks=3)), "Did you mean 'rank'"),
    "a layer outside of the model": (
        record(lambda r: r["layers"].update({"../../etc/passwd": [2, 8.0, 0.0]})),
        r"\.\./\.\./etc/passwd: .*no such module",
    ),
    "a layer by Python's own names": (
        record(lambda r: r["layers"].update({"forward.__globals__": [2, 8.0, 0.0]})),
        "no such module",
    ),
    "a rank that fills the memory": (
        record(lambda r: r["layers"].update({"blocks.0.attn.qkv": [10**9, 8.0, 0.0]})),
        "has the rank 1,000,000,000, an adapter's is at most 8,192",
    ),
    "a rank that the tensors don't have": (
        record(lambda r: r["layers"].update({"blocks.0.attn.qkv": [3, 8.0, 0.0]})),
        r"qkv\.lora_A has shape \(2, 12\), the model needs \(3, 12\)",
    ),
    "an alpha that is none": (
        record(lambda r: r["layers"].update({"blocks.0.attn.qkv": [2, "8", 0.0]})),
        "alpha is a finite number",
    ),
    "a stage that is a path": (record(lambda r: r["adapter"].update(stage="../../x")), "stage '../../x'"),
    "trained tensors that the model lacks": (record(lambda r: r["trained"].append("head.scale")), "head.scale"),
    # The tensor file.
    "a header as long as the disk": (file(TENSORS, struct.pack("<Q", 1 << 62)), "header alone should have 4,611,686,"),
    "a header that begins and does not end": (file(TENSORS, struct.pack("<Q", 99) + b"{"), "half written"),
    "a header of 9 MB": (file(TENSORS, with_header(b"{}" + b" " * (9 << 20))), "at most 8,388,608"),
    "a header of 100,000 brackets": (file(TENSORS, with_header(b'{"a":' * 100_000)), "nests deeper than 32"),
    "a header that is no object": (file(TENSORS, with_header(b"[]")), "its header is list"),
    "a tensor twice": (
        file(TENSORS, with_header(f'{{"a": {json.dumps(ENTRY)}, "a": {json.dumps(ENTRY)}}}'.encode(), b"\0" * 96)),
        "the key 'a' twice",
    ),
    "two names of one tensor": (
        tensors(lambda t: t.update({QKV_A.removesuffix(".weight"): t[QKV_A].clone()})),
        r"qkv\.lora_A twice",
    ),
    "a shape of 2^62": (header(lambda h: h[QKV_A].update(shape=[1 << 62])), "which no tensor here has"),
    "a giant shape in few bytes": (
        header(lambda h: h[QKV_A].update(shape=[1 << 30, 12])),
        "declares 51,539,607,552 bytes by its shape",
    ),
    "a giant shape without numbers": (
        header(lambda h: h.update(x={"dtype": "F32", "shape": [0, 1 << 40], "data_offsets": [0, 0]})),
        "which no tensor here has",
    ),
    "a shape of nine axes": (header(lambda h: h[QKV_A].update(shape=[1] * 9)), "not a list of up to 8"),
    "a negative axis": (header(lambda h: h[QKV_A].update(shape=[-2, -12])), "which no tensor here has"),
    "bytes that overlap": (
        header(lambda h: h.update(x=dict(h[QKV_A]))),
        "and the one before ends at",
    ),
    "bytes that are no tensor's": (
        lambda folder: (folder / TENSORS).write_bytes((folder / TENSORS).read_bytes() + b"#!/bin/sh"),
        "half written or padded",
    ),
    "extra fields of a tensor": (header(lambda h: h[QKV_A].update(loader="x")), "needs data_offsets, dtype, shape"),
    "8-bit numbers": (tensors(lambda t: t.update({QKV_A: t[QKV_A].to(torch.float8_e4m3fn)})), "holds 'F8_E4M3'"),
    "complex numbers": (tensors(lambda t: t.update({QKV_A: t[QKV_A].to(torch.complex64)})), "adapters hold F64"),
    "texts as bytes": (tensors(lambda t: t.update({QKV_A: t[QKV_A].to(torch.uint8)})), "holds 'U8'"),
    "whole numbers": (
        tensors(lambda t: t.update({QKV_A: t[QKV_A].long()})),
        r"holds torch.int64, the model needs torch.float32",
    ),
    "NaN among the numbers": (
        tensors(lambda t: t[QKV_A].view(-1)[:1].fill_(float("nan"))),
        "NaN or infinity in blocks",
    ),
    "infinity among the numbers": (tensors(lambda t: t[QKV_A].view(-1)[:1].fill_(float("inf"))), "NaN or infinity in"),
    "numbers too large for the model": (
        tensors(lambda t: t.update({QKV_A: torch.full((2, 12), 1e300, dtype=torch.float64)})),
        "NaN or infinity in",
    ),
    "an extra tensor": (tensors(lambda t: t.update({"base_model.model.head.weight": torch.ones(5, 12)})), "not in the"),
    "a name that is no adapter's": (tensors(lambda t: t.update({"../../x": torch.ones(1)})), "no adapter's tensor"),
    "a pickle": (
        file(TENSORS, pickle.dumps({"a": list(range(99))}, protocol=4)),
        "Python pickle, which could run code",
    ),
    "a zip archive": (zipped, r"zip archive \(as torch's pickles are\)"),
    "a gzip archive": (file(TENSORS, b"\x1f\x8b\x08" + b"\xff" * 99), "a gzip archive"),
    "a web page": (file(TENSORS, b"<!doctype html><title>404"), "a web page"),
    "a Git LFS pointer": (file(TENSORS, b"version https://git-lfs.github.com/spec/v1\n"), "Git LFS pointer"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_it_is_refused_with_its_reason(name: str, honest: Path, tmp_path: Path) -> None:
    damage, message = HOSTILE[name]
    folder = tmp_path / "best"
    shutil.copytree(honest, folder)
    damage(folder)
    # As its author would have written it: the hash is no protection against whoever can write the record.
    correct_hash(folder)
    model = VisionTransformer()
    began = time.process_time()
    with pytest.raises(ValueError, match=message) as error:
        load_checked(folder, model)
    assert time.process_time() - began < 2, "refused at once"
    assert str(folder) in str(error.value)
    assert len(str(error.value)) < 1000, "what it holds is not poured into the message"
    assert not any("lora" in key for key in model.state_dict())


def load_checked(folder: Path, model: nn.Module) -> None:
    """Read it as the commands do: the stage, then the tensors."""
    read_adapter_set(folder)
    load_adapter(folder, model, base_fingerprint="f")


def correct_hash(folder: Path) -> None:
    """Have the record tell the SHA-256 of the tensor file as it is now."""
    plain = all(p.is_file() and not p.is_symlink() for p in (folder / TENSORS, folder / RECORD))
    if not plain or (folder / TENSORS).stat().st_size > 1 << 25:
        return
    digest = hashlib.sha256((folder / TENSORS).read_bytes()).hexdigest().encode()
    before = (folder / RECORD).read_bytes()
    begin = before.find(b'"sha256": "')
    if begin >= 0:
        begin += len(b'"sha256": "')
        (folder / RECORD).write_bytes(before[:begin] + digest + before[begin + 64 :])


def test_what_is_harmless_still_loads(honest: Path, tmp_path: Path) -> None:
    """A linked folder, files of one's own beside, half precision, text in every alphabet."""
    folder = tmp_path / "run" / "best"
    shutil.copytree(honest, folder)
    (folder / "notes.txt").write_text("mine")
    (folder / "plots").mkdir()
    tensors(lambda t: t.update({name: value.half() for name, value in t.items()}))(folder)
    inside("note", json.dumps("Größe\n肝臓\t-1.5e-300") + ",")(folder)
    correct_hash(folder)
    (tmp_path / "link").symlink_to(folder)
    assert load_adapter(tmp_path / "link", VisionTransformer(), base_fingerprint="f") is not None
