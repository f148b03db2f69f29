"""Every stage, small enough that a step takes milliseconds: for the tests that hold for all of them."""

from collections.abc import Callable
from pathlib import Path

from sam3d_objects.dataset import Augment, TS_SAM3D_Dataset
from sam3d_objects.training import Stage, StructureOptions, StructureStage, ValidationSlices, contract_of
from sam3d_objects.training.stages.decoder import DecoderStage
from sam3d_objects.training.stages.decoder_options import DecoderOptions
from sam3d_objects.training.stages.latent import LatentFlowStage
from sam3d_objects.training.stages.latent_options import LatentOptions
from tests.training.small_model import small_model, whole_model
from tests.training.toy_stage import ToyStage

StageFactory = Callable[[Path, Path], Stage]  # (data set, folder of targets)
DROPOUT = 0.1  # of LoRA: what is random beside a stage's draws


def make_toy(data_root: Path, folder: Path) -> Stage:
    """Nothing of the data set."""
    return ToyStage(train=9)


def make_structure(data_root: Path, folder: Path) -> Stage:
    """Nine samples, warped and augmented."""
    model = small_model()
    train = TS_SAM3D_Dataset(data_root, "train", augment=Augment(), variants=2)
    options = StructureOptions(target_iou_bar=0.0, dropout=DROPOUT, draws=2)
    return StructureStage(model, train, _validation(data_root), folder, contract_of(train, model), options)


def make_latent(data_root: Path, folder: Path) -> Stage:
    """The same samples; the latents come from the encoder."""
    model = whole_model(latent_side=4)
    train = TS_SAM3D_Dataset(data_root, "train", augment=Augment(), variants=2)
    options = LatentOptions(target_distance_bar=0.0, dropout=DROPOUT)
    return LatentFlowStage(model, train, _validation(data_root), folder, contract_of(train, model), options)


def make_decoder(data_root: Path, folder: Path) -> Stage:
    """Six shapes."""
    model = whole_model(latent_side=4)
    train = TS_SAM3D_Dataset(data_root, "train", variants=2)
    options = DecoderOptions(target_distance_bar=0.0, dropout=DROPOUT, corners=200, points=100)
    return DecoderStage(model, train, _validation(data_root), folder, contract_of(train, model), options)


def _validation(data_root: Path) -> ValidationSlices:
    return ValidationSlices(TS_SAM3D_Dataset(data_root, "val"), seed=0, most=2)


FACTORIES: dict[str, StageFactory] = {
    "toy": make_toy,
    "structure": make_structure,
    "latent": make_latent,
    "decoder": make_decoder,
}
