"""What an adapter remembers is checked when it is made."""

from typing import Any

import pytest

from sam3d_objects.adapter import AdapterMeta, InferenceContract

CONTRACT = InferenceContract(field_of_view="scan", modality="ct")


def test_round_trip_through_plain_values() -> None:
    meta = AdapterMeta(
        stage="structure",
        base_name="tiny",
        base_fingerprint="f",
        organs=("liver",),
        contract=CONTRACT,
        metrics={"dice": 0.5, "liver": {"dice": None}},
    )
    record = meta.to_dict()
    record["organs"] = list(record["organs"])
    record["contract"]["window_hu"] = list(record["contract"]["window_hu"])
    assert AdapterMeta.from_dict(record) == meta


def test_an_adapter_of_before_has_each_slices_own_scale() -> None:
    meta = AdapterMeta(stage="structure", base_name="tiny", base_fingerprint="f", organs=("liver",), contract=CONTRACT)
    record = meta.to_dict()
    del record["contract"]["scene_scale_mm"]
    assert AdapterMeta.from_dict(record).contract.scene_scale_mm == 0.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"field_of_view": "crop"}, "field_of_view is one of scan, mask_margin; got 'crop'"),
        ({"modality": "CT"}, "modality is one of"),
        ({"pointmap": "depth"}, "pointmap is one of plane, drop"),
        ({"scene_scale_mm": -8.0}, "scene_scale_mm is out of range: -8.0"),
        ({"scene_scale_mm": float("inf")}, "scene_scale_mm is out of range: inf"),
        ({"margin_mm": -1.0}, "margin_mm is out of range: -1.0"),
        ({"window_hu": (40.0, 40.0)}, "window_hu is out of range"),
        ({"percentiles": (0.5, 101.0)}, "percentiles is out of range"),
        ({"planes": ()}, "planes is out of range"),
        ({"steps": 0}, "steps is out of range"),
        ({"guidance": -0.1}, "guidance is out of range"),
        ({"samples": 0}, "samples is out of range"),
        ({"threshold": 1.0}, "threshold is out of range"),
    ],
)
def test_a_contract_out_of_range(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        InferenceContract(**{"field_of_view": "scan", "modality": "ct", **change})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"organs": ()}, "organs can't be empty"),
        ({"base_fingerprint": ""}, "base_fingerprint can't be empty"),
        ({"metrics": {"dice": float("nan")}}, "metric dice holds nan"),
        ({"metrics": {"liver": {"hd95_mm": float("inf")}}}, "metric liver holds inf"),
    ],
)
def test_meta_out_of_range(change: dict[str, Any], message: str) -> None:
    values = {"stage": "structure", "base_name": "tiny", "base_fingerprint": "f", "organs": ("liver",)}
    with pytest.raises(ValueError, match=message):
        AdapterMeta(**{**values, "contract": CONTRACT, **change})
