"""Bytes of tensors while they live, counted by hand."""

import torch

from sam3d_objects.training.live_bytes import LiveBytes, stored_bytes


def test_what_is_made_counts_until_it_is_gone() -> None:
    before = torch.zeros(100)
    with LiveBytes() as live:
        first = before + 1
        assert (live.now, live.peak) == (400, 400)
        second = first * first
        assert (live.now, live.peak) == (800, 800)
        del first
        assert (live.now, live.peak) == (400, 800)
        third = second.double()
    del second, third
    assert (live.now, live.peak) == (0, 1200)


def test_views_and_changes_in_place_are_nothing_new() -> None:
    before = torch.zeros(100)
    with LiveBytes() as live:
        before.add_(1)
        before[:50].mul_(2)
        assert live.now == 0
        made = torch.ones(100)
        view = made.view(10, 10)[2:]
        del made
        assert live.now == 400  # the view has all of it
        del view
    assert (live.now, live.peak) == (0, 400)


def test_what_is_set_apart_is_taken_from_one_peak_only() -> None:
    with LiveBytes() as live:
        kept = torch.zeros(100)
        live.set_apart(kept)
        passing = torch.zeros(25)
    assert (live.peak, live.peak_without) == (500, 400)
    del kept, passing


def test_a_storage_counts_once_and_meta_counts_as_what_it_stands_for() -> None:
    whole = torch.zeros(100)
    assert stored_bytes([whole, whole[:10], torch.zeros(5, dtype=torch.bfloat16)]) == 410
    assert stored_bytes([torch.empty(10**12, device="meta")]) == 4 * 10**12
