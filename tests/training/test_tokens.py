"""Cached rows: made once for each epoch that is kept, alike in any order, and refused when they are not there."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from sam3d_objects.training import tokens
from sam3d_objects.training.tokens import CachedRow, ConditionCache, cache_key


class Numbers:
    """Samples (epoch, index)."""

    def __init__(self, count: int) -> None:
        self.count, self.epoch = count, 0

    def __len__(self) -> int:
        return self.count

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __getitem__(self, index: int) -> tuple[int, int]:
        return self.epoch, index


def rows(samples: Sequence[Any]) -> list[CachedRow]:
    return [CachedRow(f"{epoch}-{index}", {"x": torch.tensor([epoch, index])}) for epoch, index in samples]


def test_epochs_come_again_after_those_that_are_kept(tmp_path: Path) -> None:
    cache = ConditionCache(Numbers(20), 3, tmp_path, cache_key(seed=0))
    said: list[str] = []
    cache.fill(rows, said.append)
    assert len(cache) == 20 and "0 of 60 rows" in said[0]
    for epoch in (0, 2, 4, 3):
        cache.set_epoch(epoch)
        for index in (19, 0, 7):
            row = cache[index]
            assert row.name == f"{epoch % 3}-{index}" and row.tensors["x"].tolist() == [epoch % 3, index]


def test_only_what_is_missing_is_made(tmp_path: Path) -> None:
    key = cache_key(seed=0)
    ConditionCache(Numbers(5), 1, tmp_path, key).fill(rows, lambda text: None)
    asked: list[tuple[int, int]] = []

    def counting(samples: Sequence[Any]) -> list[CachedRow]:
        asked.extend(samples)
        return rows(samples)

    more = ConditionCache(Numbers(5), 2, tmp_path, key)
    next((tmp_path / key / "0000").glob("*3.safetensors")).unlink()
    more.fill(counting, lambda text: None)
    assert asked == [(0, 3), *((1, index) for index in range(5))]


def test_rows_that_are_there_are_not_read_and_those_that_were_cut_off_are_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = ConditionCache(Numbers(20), 1, tmp_path, "key")
    said: list[str] = []
    cache.fill(rows, said.append)
    row_bytes = (tmp_path / "key" / "0000" / "000000.safetensors").stat().st_size
    assert said[1] == f"condition tokens: about {20 * row_bytes / 1e9:.2g} GB when all are made"
    for number, left in ((3, 20), (7, 0), (9, row_bytes - 1)):
        path = tmp_path / "key" / "0000" / f"{number:06d}.safetensors"
        path.write_bytes(path.read_bytes()[:left])
    asked: list[int] = []

    def counting(samples: Sequence[Any]) -> list[CachedRow]:
        asked.extend(index for _, index in samples)
        return rows(samples)

    with monkeypatch.context() as watched:
        watched.setattr(tokens, "read_kept", lambda path: pytest.fail(f"{path} is read as a whole"))
        cache.fill(counting, lambda text: None)
    assert asked == [3, 7, 9] and [cache[index].name for index in asked] == ["0-3", "0-7", "0-9"]


def test_a_row_that_is_missing_or_damaged_is_named(tmp_path: Path) -> None:
    cache = ConditionCache(Numbers(2), 1, tmp_path, "key")
    with pytest.raises(ValueError, match=r"key/0000/000001\.safetensors is missing or damaged"):
        cache[1]
    cache.fill(rows, lambda text: None)
    path = tmp_path / "key" / "0000" / "000001.safetensors"
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(ValueError, match=r"000001\.safetensors is missing or damaged"):
        cache[1]
    with pytest.raises(ValueError, match="at least 1, got 0"):
        ConditionCache(Numbers(2), 0, tmp_path, "key")


def test_another_seed_or_embedder_has_another_key() -> None:
    keys = {cache_key(seed=seed, embedder=embedder) for seed in (0, 1) for embedder in ("a", "b")}
    assert len(keys) == 4 and cache_key(embedder="a", seed=0) in keys
