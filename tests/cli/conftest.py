"""A base model with random weights, its adapter and one scan: enough to run every command for real."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from sam3d_objects.adapter import AdapterMeta, InferenceContract, save_adapter
from sam3d_objects.model import load_model
from sam3d_objects.model.lora import LoRAConfig, inject_lora
from sam3d_objects.model.weights import (
    EMBEDDER_PREFIX,
    GENERATOR_PREFIX,
    TINY_FOLDER,
    instantiate,
    read_yaml,
)
from sam3d_objects.volume import Volume, write_nifti


def contiguous(module: torch.nn.Module, prefix: str = "") -> dict[str, torch.Tensor]:
    """The module's tensors as safetensors wants them."""
    return {prefix + name: value.clone().contiguous() for name, value in module.state_dict().items()}


@pytest.fixture(scope="session")
def random_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like the built-in tiny model's, with random weights: nothing here depends on what it learned."""
    folder = tmp_path_factory.mktemp("base")
    for config in TINY_FOLDER.glob("*.yaml"):
        shutil.copy(config, folder)
    pipeline = read_yaml(folder / "pipeline.yaml")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        node = read_yaml(folder / pipeline["ss_generator_config_path"])["module"]
        generator = instantiate(node["generator"]["backbone"])
        embedder = instantiate(node["condition_embedder"]["backbone"])
        coders = {
            name: instantiate(read_yaml(folder / pipeline[f"{name}_config_path"]))
            for name in ("ss_encoder", "ss_decoder")
        }
    state = contiguous(generator, GENERATOR_PREFIX) | contiguous(embedder, EMBEDDER_PREFIX)
    save_file(state, folder / pipeline["ss_generator_ckpt_path"])
    for name, module in coders.items():
        save_file(contiguous(module), folder / pipeline[f"{name}_ckpt_path"])
    return folder


@pytest.fixture(scope="session")
def adapter(random_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter whose matrices are not zero; it takes two quick samples."""
    model = load_model(str(random_base))
    config = LoRAConfig(rank=2, alpha=4.0)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        inject_lora(model.structure_flow, rank=2, alpha=4.0)
        for name, parameter in model.structure_flow.named_parameters():
            if name.endswith("lora_B"):
                torch.nn.init.normal_(parameter, std=0.1)
    # A random decoder says about one half everywhere; at this threshold every prediction is solid.
    contract = InferenceContract(field_of_view="mask_margin", modality="mr", steps=1, samples=2, threshold=0.2)
    meta = AdapterMeta(
        stage="structure",
        base_name=model.name,
        base_fingerprint=model.fingerprint,
        organs=("ball",),
        contract=contract,
    )
    folder = tmp_path_factory.mktemp("adapter") / "best"
    save_adapter(folder, model.structure_flow, config, meta)
    return folder


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
