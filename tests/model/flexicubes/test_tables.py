"""The tables of dual marching cubes agree with each other and with the corners' numbers."""

import json
from pathlib import Path

import pytest
import torch

from sam3d_objects.model.flexicubes.tables import TABLES_FILE, Tables, tables_on


@pytest.fixture(scope="module")
def tables() -> Tables:
    return tables_on(torch.device("cpu"))


def test_the_packaged_tables_are_the_reference(shared_reference: Path) -> None:
    reference = json.loads((shared_reference / "flexicubes_tables.json").read_text(encoding="utf-8"))
    assert json.loads(TABLES_FILE.read_text(encoding="utf-8")) == reference


def test_corners_count_in_bits_and_edges_join_neighbours(tables: Tables) -> None:
    assert tables.corners.tolist() == [[c & 1, c >> 1 & 1, c >> 2] for c in range(8)]
    steps = tables.corners[tables.edges[:, 1]] - tables.corners[tables.edges[:, 0]]
    # x and z edges run low to high, y edges high to low.
    assert sorted(steps.tolist()) == sorted(4 * [[1, 0, 0], [0, -1, 0], [0, 0, 1]])
    assert len({frozenset(edge) for edge in tables.edges.tolist()}) == 12


def test_every_crossed_edge_is_in_one_group(tables: Tables) -> None:
    for case in range(256):
        inside = [case >> corner & 1 for corner in range(8)]
        crossed = [e for e, (a, b) in enumerate(tables.edges.tolist()) if inside[a] != inside[b]]
        listed = tables.groups[case][tables.groups[case] >= 0].tolist()
        assert sorted(listed) == crossed, case
        assert int((tables.groups[case] >= 0).any(dim=1).sum()) == int(tables.group_counts[case])


def test_a_flagged_case_names_one_neighbour_and_a_case_with_the_same_edges(tables: Tables) -> None:
    flagged = torch.nonzero(tables.checks[:, 0]).squeeze(1)
    assert len(flagged) > 0
    assert (tables.checks[flagged, 1:4].abs().sum(dim=1) == 1).all()
    assert torch.equal(tables.checks[flagged, 4], 255 - flagged)
