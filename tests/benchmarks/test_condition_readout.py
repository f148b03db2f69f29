"""The readout finds a place that tokens tell, and nothing where they tell nothing."""

from pathlib import Path

import pytest
import torch

from benchmarks.condition_readout import Sliced, tokens_and_places, train_readout
from tests.training.conftest import data_root

__all__ = ["data_root"]  # a fixture


def told(slices: int, seed: int, how_much: float) -> Sliced:
    """Seven tokens of eight channels; three channels of the third token are the place, times `how_much`."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randn(slices, 7, 8, generator=generator)
    tokens[:, 2, 7] += 3.0  # so that attention can find it
    places = torch.randn(slices, 3, generator=generator)
    tokens[:, 2, :3] = how_much * places
    return tokens, places


@pytest.mark.parametrize(("how_much", "least", "most"), [(1.0, 0.0, 0.3), (0.0, 0.8, 1.6)])
def test_what_is_told_is_read(how_much: float, least: float, most: float) -> None:
    *_, last = train_readout(told(1024, 0, how_much), told(256, 1, how_much), epochs=6, seed=0)
    assert last.shape == (3,)
    assert (last >= least).all() and (last < most).all()


def test_slices_of_a_prepared_data_set(data_root: Path) -> None:
    (tokens, places), (held_out, wanted) = tokens_and_places(data_root, "tiny", 1)
    assert tokens.shape[1:] == held_out.shape[1:] and len(tokens) == len(places) and len(held_out) == len(wanted)
    assert places.shape[1] == wanted.shape[1] == 3
    assert places.std() > 0.1
