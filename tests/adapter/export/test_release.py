"""A merged model in the release's files: it loads strictly, computes the same, and the rest is the base's own bytes."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch import Tensor

from sam3d_objects.adapter import AdapterMeta, AdapterSet, InferenceContract, add_to_set, read_adapter_set, save_adapter
from sam3d_objects.adapter.export import export_release
from sam3d_objects.model import SAM3DObjects, load_model
from sam3d_objects.model.lora import LoRAConfig, has_lora, lora_layers, setup_from_config
from sam3d_objects.model.sparse import SparseGrid, SparseTensor
from sam3d_objects.model.stages import STAGES, adapted_module, stage_fingerprint
from tests.model.release_folder import WIDTH, write_release

CONFIG = LoRAConfig(rank=2, alpha=4.0)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small folder as the release is, with a file of another network and a download's cache."""
    folder = tmp_path_factory.mktemp("release") / "checkpoints"
    folder.mkdir()
    write_release(folder)
    (folder / "slat_decoder_gs.ckpt").write_bytes(b"another network's")
    (folder / ".cache").mkdir()
    (folder / ".cache" / "token").write_text("secret")
    return folder


@pytest.fixture(scope="module")
def adapters(base: Path, tmp_path_factory: pytest.TempPathFactory) -> AdapterSet:
    """One adapter of each stage, with matrices and heads that are not zero."""
    folder = tmp_path_factory.mktemp("adapters")
    for stage in STAGES:
        model = load_model(base)
        module = adapted_module(model, stage)
        setup_from_config(module, CONFIG, seed=0)
        for layer in lora_layers(module).values():
            torch.nn.init.normal_(layer.lora_B, std=0.1, generator=torch.Generator().manual_seed(1))
        meta = AdapterMeta(
            stage=stage,
            base_name=model.name,
            base_fingerprint=stage_fingerprint(model, stage),
            organs=("liver",),
            contract=InferenceContract(field_of_view="scan", modality="ct"),
        )
        save_adapter(folder / "one" / stage, module, CONFIG, meta)
        add_to_set(folder / "one" / stage, folder / "best")
    return read_adapter_set(folder / "best")


def outputs(model: SAM3DObjects) -> list[Tensor]:
    """What the three adapted networks return for the same inputs."""
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    coordinates = torch.tensor([[0, 1, 2, 3], [0, 1, 2, 4]], dtype=torch.int32)
    voxels = SparseTensor(random(2, 8), SparseGrid(coordinates))
    latents = {name: random(*shape) for name, shape in model.latent_shapes(1).items()}
    time, condition = torch.tensor([300.0]), random(1, 4, WIDTH)
    with torch.no_grad():
        flow = model.structure_flow(latents, time, condition)
        return [
            *(flow[name] for name in sorted(flow)),
            model.latent_stage.flow(voxels, time, condition),
            model.latent_stage.mesh_decoder(voxels).features,
        ]


def test_it_loads_and_computes_what_the_adapted_model_does(base: Path, adapters: AdapterSet, tmp_path: Path) -> None:
    adapted = load_model(base)
    plain = outputs(adapted)
    adapters.load(adapted)
    export_release(base, adapted.eval(), adapters, tmp_path / "out")
    assert has_lora(adapted), "the model itself stays as it was"
    loaded = load_model(tmp_path / "out")
    ours = outputs(adapted)
    for a, b, before in zip(ours, outputs(loaded), plain, strict=True):
        assert (a - b).abs().max() <= 1e-5 * a.abs().max()
        assert not torch.allclose(a, before)
    for stage in STAGES:
        assert stage_fingerprint(loaded, stage) != stage_fingerprint(adapted, stage)
    with pytest.raises(ValueError, match="was trained on the base"):
        adapters.load(loaded)
    export_release(base, adapted, adapters, tmp_path / "out")  # again, in its place


def test_names_are_the_releases_and_other_files_are_copied(base: Path, adapters: AdapterSet, tmp_path: Path) -> None:
    adapters = adapters.only(["structure"])
    adapted = load_model(base)
    adapters.load(adapted)
    out = tmp_path / "out"
    export_release(base, adapted, adapters, out)
    before = torch.load(base / "ss_generator.ckpt", weights_only=True)["state_dict"]
    after = load_file(out / "ss_generator.safetensors")
    assert before.keys() == after.keys(), "other networks' tensors in the file included"
    changed = {name for name in before if not torch.equal(before[name].float(), after[name].float())}
    assert changed and all(".to_" in name and name.endswith(".weight") for name in changed)
    assert all(after[name].dtype == (torch.float32 if name in changed else before[name].dtype) for name in before)
    untouched = {file.name for file in base.iterdir() if file.is_file()} - {"pipeline.yaml", "ss_generator.ckpt"}
    for name in untouched:
        assert (out / name).read_bytes() == (base / name).read_bytes(), name
    made = {"ss_generator.safetensors", "pipeline.yaml", "README.md", "sam3d_merged.json"}
    assert {file.name for file in out.iterdir()} == untouched | made, "and no cache with its token"
    pipeline = yaml.safe_load((out / "pipeline.yaml").read_text())
    assert pipeline["ss_generator_ckpt_path"] == "ss_generator.safetensors"
    assert pipeline["slat_generator_ckpt_path"] == "slat_generator.ckpt"
    card = (out / "README.md").read_text()
    assert "SAM License" in card and "not for diagnosis" in card and "liver" in card
    record: dict[str, Any] = json.loads((out / "sam3d_merged.json").read_text())
    assert record["adapters"]["structure"]["sha256"] == adapters.records["structure"].sha256


def test_another_base_and_paths_that_lead_out_are_refused(base: Path, adapters: AdapterSet, tmp_path: Path) -> None:
    adapters = adapters.only(["structure"])
    adapted = load_model(base)
    adapters.load(adapted)
    with pytest.raises(ValueError, match="is not the file that this model was loaded from"):
        export_release("tiny", adapted, adapters, tmp_path / "out")
    other = tmp_path / "other"
    other.mkdir()
    (other / "pipeline.yaml").write_text("ss_generator_ckpt_path: ../../secret.ckpt\n")
    with pytest.raises(ValueError, match="leads out of its folder"):
        export_release(other, adapted, adapters, tmp_path / "out")
    assert not (tmp_path / "out").exists()
