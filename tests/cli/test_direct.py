"""The direct regression as a stage of the one loop: its loss, what it learns, and that it is kept."""

from pathlib import Path

import numpy as np
import pytest
import torch

from sam3d_objects.cli.direct import DirectRows, DirectStage, direct_predictors, direct_terms
from sam3d_objects.dataset import Augment, PrepareOptions, TS_SAM3D_Dataset, prepare
from sam3d_objects.evaluation import Overlap, prepared_cases
from sam3d_objects.evaluation.direct_regression import SIDE, DirectRegression
from sam3d_objects.evaluation.rasterise import rasterise
from sam3d_objects.training import MedicalTrainer, ValidationSlices
from tests.dataset.scans import write_decathlon


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight patients with an ellipsoid each."""
    folder = tmp_path_factory.mktemp("direct")
    source = write_decathlon(folder / "raw", [f"c{number}" for number in range(8)])
    prepare(source, folder / "data", PrepareOptions(structures="organ=1+2"), lambda line: None, show_progress=False)
    return folder / "data"


def stage_of(data: Path) -> DirectStage:
    train = TS_SAM3D_Dataset(data, "train", ["organ"], augment=Augment(), variants=3)
    return DirectStage(train, ValidationSlices(TS_SAM3D_Dataset(data, "val"), 0))


def test_the_loss_by_hand() -> None:
    """Two points near the surface, one clipped on either side; only the signs of the clipped ones count."""
    target = torch.tensor([0.5, -0.5, 1.0, -1.0]).reshape(1, 1, 2, 2)
    predicted = torch.tensor([0.25, -0.5, 3.0, 0.5]).reshape(1, 1, 2, 2)
    distance, overlap = direct_terms(predicted, target, sharpness=1000.0)
    assert distance.item() == pytest.approx((0.25 + 0 + 0 + 1.5) / 2)
    # Hard insides: predicted are points 0, 2 and 3, true are 0 and 2.
    assert overlap.item() == pytest.approx(1 - 2 * 2 / (3 + 2))
    assert all(term.item() == pytest.approx(0, abs=1e-6) for term in direct_terms(target, target, 1000.0))


def test_the_loss_pulls_every_wrong_point() -> None:
    """A clipped distance on the wrong side has a gradient as well: without it the network shrinks to nothing."""
    target = torch.tensor([1.0, -1.0, 0.2, -0.2]).reshape(1, 1, 2, 2)
    predicted = torch.tensor([-5.0, 5.0, -5.0, 5.0]).reshape(1, 1, 2, 2).requires_grad_()
    distance, _ = direct_terms(predicted, target, 3.0)
    distance.backward()
    assert predicted.grad is not None
    assert predicted.grad.flatten().tolist() == [-0.5, 0.5, -0.5, 0.5]


def test_rows_are_kept_and_used_again(data: Path) -> None:
    stage = stage_of(data)
    rows = DirectRows(stage.dataset, stage.grid)
    rows.period = 2
    kept = []
    for epoch in range(4):
        rows.set_epoch(epoch)
        kept.append(rows[1])
    assert kept[0] is kept[2] and kept[1] is kept[3] and kept[0] is not kept[1]
    fresh = DirectRows(stage.dataset, stage.grid)
    fresh.set_epoch(1)
    assert torch.equal(fresh[1][1]["target"], kept[1][1]["target"]), "a resumed run has the same rows"
    batch = stage.make_batch([kept[0], kept[1]])
    assert batch["target"].shape == (2, SIDE, SIDE, SIDE) and batch["target"].dtype == torch.float32
    assert stage.sample_names([kept[0]])[0].split("/")[1:3] == ["organ", "coronal"]


def test_validation_scores_a_perfect_answer_one(data: Path) -> None:
    stage = stage_of(data)
    batch = stage.make_batch(list(stage.validation_samples))

    class Perfect(torch.nn.Module):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return batch["target"]

    metrics = stage.validate(Perfect(), batch, {})
    assert metrics["dice"].item() == 1.0 and metrics["loss"].item() == pytest.approx(0, abs=1e-3)
    assert stage.score({"dice": 0.5, "loss": 3.0}) == 0.5 and stage.score({}) is None


def test_it_learns_and_is_kept(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = direct_predictors(data, ["organ"], tmp_path, device="cpu", samples=480)["organ"]
    scores = []
    for case in prepared_cases(data, split="test"):
        if case.slice_kind != "largest":
            continue  # a slice off the middle does not tell on which side of it
        material = case.load()
        solid = rasterise(first(material.slice, 0), material.truth.label.affine)
        shared = solid.shared_with(material.truth.box)
        scores.append(Overlap(shared, int(np.count_nonzero(solid.mask)), material.truth.voxels).dice)
    assert np.mean(scores) > 0.85

    def train(self: MedicalTrainer, resume: bool = False) -> None:
        raise AssertionError("it is trained already")

    monkeypatch.setattr(MedicalTrainer, "train", train)
    again = direct_predictors(data, ["organ"], tmp_path, device="cpu", samples=480)["organ"]
    assert isinstance(again, DirectRegression)
    weights = zip(first.network.state_dict().values(), again.network.state_dict().values(), strict=True)
    assert all(torch.equal(one, other) for one, other in weights)
    with pytest.raises(AssertionError, match="trained already"):
        direct_predictors(data, ["organ"], tmp_path, seed=1, device="cpu", samples=480)
