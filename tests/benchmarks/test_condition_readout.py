"""Readers find a place that tokens or pictures tell, and nothing where they tell nothing; flows are asked rightly."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from benchmarks.condition_readout import (
    PLACE,
    READERS,
    TOKENS,
    Sliced,
    as_pictures,
    as_tokens,
    flow_guesses,
    prepared_stage,
    seen_slices,
    train_readout,
    training_slices,
    validation_slices,
)
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


def shown(slices: int, seed: int, how_much: float) -> Sliced:
    """Pictures of two channels, 16 pixels a side; the grey levels of three corners are the place, times `how_much`."""
    generator = torch.Generator().manual_seed(seed)
    pictures = 0.1 * torch.randn(slices, 2, 16, 16, generator=generator)
    places = torch.randn(slices, 3, generator=generator)
    for corner, (row, column) in enumerate(((0, 0), (0, 8), (8, 0))):
        pictures[:, 0, row : row + 8, column : column + 8] += how_much * places[:, corner, None, None]
    return pictures, places


@pytest.mark.parametrize(("how_much", "least", "most"), [(1.0, 0.0, 0.4), (0.0, 0.8, 1.6)])
@pytest.mark.parametrize("name", list(READERS))
def test_what_is_told_is_read(name: str, how_much: float, least: float, most: float) -> None:
    make = shown if name == "pictures" else told
    channels, epochs = (2, 6) if name == "pictures" else (8, 10)
    train, held_out = make(512, 0, how_much), make(128, 1, how_much)
    torch.manual_seed(0)
    *_, last = train_readout(READERS[name](channels), train, held_out, epochs)
    assert last.shape == (3,)
    assert (last >= least).all() and (last < most).all()


class Knowing(nn.Module):
    """A flow that goes to the place in the first token, but for `off`, from wherever it starts."""

    def __init__(self, off: float) -> None:
        super().__init__()
        self.off = off

    def forward(self, x: dict[str, Tensor], t: Tensor, condition: Tensor) -> dict[str, Tensor]:
        assert (t == 0).all()
        return {name: condition[:, :1, :3] + self.off - value for name, value in x.items()}


def test_a_flow_is_asked_where_it_would_go_to() -> None:
    places = torch.randn(70, 1, 3, generator=torch.Generator().manual_seed(0))
    rows = {TOKENS: places.expand(-1, 4, -1), PLACE: places}
    assert flow_guesses(Knowing(0.0), rows, seed=0).tolist() == pytest.approx([0.0] * 3, abs=1e-9)
    assert flow_guesses(Knowing(0.5), rows, seed=0).tolist() == pytest.approx([0.25] * 3, rel=1e-5)


def test_slices_of_a_prepared_data_set(data_root: Path) -> None:
    stage = prepared_stage(data_root, "tiny", 2)
    tokens = seen_slices(stage, training_slices(stage, 2), as_tokens)
    pictures = seen_slices(stage, training_slices(stage, 2), as_pictures)
    held_out = seen_slices(stage, validation_slices(stage), as_tokens)
    assert len(tokens[TOKENS]) == 2 * len(stage.train_samples) == len(pictures[TOKENS])
    assert pictures[TOKENS].dim() == 4 and pictures[TOKENS].shape[1] == 8
    assert torch.equal(tokens[PLACE], pictures[PLACE])
    assert tokens[PLACE].std() > 0.1
    assert tokens[TOKENS].shape[1:] == held_out[TOKENS].shape[1:]
    assert len(held_out[PLACE]) == len(stage.validation_samples)
