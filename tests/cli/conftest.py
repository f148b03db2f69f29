"""A base model with random weights, its adapter and one scan: enough to run every command for real."""

from pathlib import Path

import numpy as np
import pytest
import torch

from sam3d_objects.adapter import AdapterMeta, InferenceContract, add_to_set, save_adapter
from sam3d_objects.model import load_model
from sam3d_objects.model.lora import LoRAConfig, setup_from_config
from sam3d_objects.model.stages import STAGES, adapted_module, stage_fingerprint
from sam3d_objects.pretraining.tiny import new_tiny_model, save_tiny
from sam3d_objects.volume import Volume, write_nifti


@pytest.fixture(scope="session")
def random_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like the built-in tiny model's, with random weights: nothing here depends on what it learned.

    But the latent half is the tiny model's own, for a random decoder makes surfaces like foam.
    """
    folder = tmp_path_factory.mktemp("base")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = new_tiny_model()
        model.latent = load_model("tiny").latent
        save_tiny(model, folder)
    return folder


# A random decoder says about one half everywhere; at this threshold every prediction is solid.
CONTRACT = InferenceContract(field_of_view="mask_margin", modality="mr", steps=1, samples=2, threshold=0.2)
# Enough to be seen in what comes out; the latent half is pretrained, and much more would make foam of its surfaces.
SPREADS = {"structure": 0.1, "latent": 0.01, "decoder": 0.01}


def write_adapter(base: Path, stage: str, folder: Path) -> Path:
    """An adapter of a stage whose matrices are not zero; it takes two quick samples."""
    model = load_model(str(base))
    module, config = adapted_module(model, stage), LoRAConfig(rank=2, alpha=4.0)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        setup_from_config(module, config)
        for name, parameter in module.named_parameters():
            if name.endswith("lora_B"):
                torch.nn.init.normal_(parameter, std=SPREADS[stage])
    meta = AdapterMeta(
        stage=stage,
        base_name=model.name,
        base_fingerprint=stage_fingerprint(model, stage),
        organs=("ball",),
        contract=CONTRACT,
    )
    save_adapter(folder, module, config, meta)
    return folder


@pytest.fixture(scope="session")
def adapter(random_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter of the structure stage."""
    return write_adapter(random_base, "structure", tmp_path_factory.mktemp("adapter") / "best")


@pytest.fixture(scope="session")
def adapter_set(random_base: Path, adapter: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, and one of each other stage."""
    folder = tmp_path_factory.mktemp("adapters")
    add_to_set(adapter, folder / "best")
    for stage in STAGES[1:]:
        add_to_set(write_adapter(random_base, stage, folder / stage), folder / "best")
    return folder / "best"


@pytest.fixture
def scan(tmp_path: Path) -> tuple[Path, Path]:
    """A scan with anisotropic, left-handed voxels, and its labels: 1 and 2 are halves of a ball, 3 lies beside."""
    affine = np.array([[-1.0, 0, 0, 30], [0, 1.5, 0, -20], [0, 0, 2.0, 5], [0, 0, 0, 1]])
    grid = np.moveaxis(np.indices((32, 24, 16)), 0, -1)
    millimetres = grid * [1.0, 1.5, 2.0]
    ball = np.linalg.norm(millimetres - [16, 18, 16], axis=-1) < 9
    labels = np.where(ball, np.where(grid[..., 0] < 16, 1, 2), 0).astype(np.uint8)
    labels[:3, :3, :3] = 3
    image = 100 * ball + np.random.default_rng(0).normal(0, 5, ball.shape)
    paths = tmp_path / "scan.nii.gz", tmp_path / "labels.nii.gz"
    write_nifti(paths[0], Volume(image.astype(np.float32), affine))
    write_nifti(paths[1], Volume(labels, affine))
    return paths
