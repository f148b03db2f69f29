"""The whole way from a picture to a surface: what is called, with what, and what is refused."""

from functools import partial
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from sam3d_objects.model import SAM3DObjects, StructureSettings
from sam3d_objects.model.pipeline import Generated, generate, prepare, structure_voxels
from sam3d_objects.model.sparse import SparseGrid
from sam3d_objects.model.structure.voxels import crossed_coordinates, drop_interior, limit_count
from tests.model.ball import Ball
from tests.training.small_model import small_latent_stage, small_model

SIDE = 16


@pytest.fixture
def model() -> SAM3DObjects:
    model = small_model("surface")
    model.structure_decoder = Ball(SIDE, 3.2)  # type: ignore[assignment]
    model.latent = small_latent_stage()
    # The release's sampling constants on a small network.
    model.settings = StructureSettings(SIDE, 4, 8, 2, "surface", 28)
    return model.eval().requires_grad_(False)


class Calls:
    """The times and step sizes (in network units) that the two flows are called with."""

    def __init__(self, model: SAM3DObjects) -> None:
        self.structure: list[tuple[float, float, bool]] = []
        self.latent: list[tuple[float, bool]] = []
        assert model.latent is not None
        model.structure_flow.register_forward_pre_hook(self._of_structure)
        model.latent.flow.register_forward_pre_hook(self._of_latent)

    def _of_structure(self, module: nn.Module, given: tuple[object, Tensor, Tensor, Tensor]) -> None:
        _, t, condition, d = given
        self.structure.append((float(t), float(d), bool((condition == 0).all())))

    def _of_latent(self, module: nn.Module, given: tuple[object, Tensor, Tensor]) -> None:
        _, t, condition = given
        self.latent.append((float(t), bool((condition == 0).all())))


class Picture(NamedTuple):
    image: Tensor
    mask: Tensor
    pointmap: Tensor


def picture() -> Picture:
    """A bright square on a grey picture of 24 x 20, 2 mm a pixel, in a flat pointmap."""
    mask = torch.zeros(1, 24, 20)
    mask[:, 8:15, 6:13] = 1
    y, x = torch.meshgrid(torch.arange(24) * 2.0, torch.arange(20) * 2.0, indexing="ij")
    return Picture(0.2 + 0.6 * mask.expand(3, -1, -1), mask, torch.stack([x, y, torch.full_like(x, 50.0)]))


def quick(model: SAM3DObjects, seed: int = 0, given: Picture | None = None) -> Generated:
    return generate(model, *(given or picture()), seed=seed, structure_steps=2, latent_steps=2)


def test_from_picture_to_surface(model: SAM3DObjects) -> None:
    found = quick(model)
    logits = model.decode_structure(torch.zeros(1, 8, 64))
    assert torch.equal(found.coordinates, drop_interior(torch.argwhere(logits[:, 0] > 0).int()))
    assert found.latents.shape == (len(found.coordinates), 8) and found.latents.isfinite().all()
    surface = found.surface
    assert surface.faces.shape[0] > 0 and float(surface.vertices.abs().max()) <= 0.5
    assert surface.attributes is not None and surface.attributes.shape == (len(surface.vertices), 6)
    assert found.pose is not None and found.pose.size > 0 and found.pose.translation.isfinite().all()


def test_a_seed_decides_everything(model: SAM3DObjects) -> None:
    first, again, other = quick(model, 1), quick(model, 1), quick(model, 2)
    assert torch.equal(first.latents, again.latents) and torch.equal(first.surface.faces, again.surface.faces)
    assert first.pose is not None and again.pose is not None and other.pose is not None
    assert first.pose.size == again.pose.size != other.pose.size
    assert not torch.equal(first.latents, other.latents)


def test_the_parts_make_the_whole(model: SAM3DObjects) -> None:
    given, generator = picture(), torch.Generator().manual_seed(5)
    assert model.latent is not None
    inputs, scene = prepare(model, *given)
    structure = model.sample_structure(model.embed(inputs), generator, steps=2)
    coordinates, interior, halved_about = structure_voxels(model, structure["shape"], generator)
    assert interior is None and halved_about is None  # the release's way
    grid = SparseGrid(coordinates, 1)
    latents = model.latent.sample(model.latent.embed(inputs), grid, generator, steps=2)
    whole = quick(model, 5)
    assert torch.equal(whole.latents, latents)
    assert torch.equal(whole.surface.vertices, model.latent.decode(latents, grid)[0].vertices)
    assert scene is not None and whole.pose is not None
    pose = model.pose_from_tokens({name: value[0] for name, value in structure.items()}, scene)
    assert torch.equal(whole.pose.translation, pose.translation)


def test_the_release_s_settings(model: SAM3DObjects) -> None:
    calls = Calls(model)
    generate(model, *picture())
    # Rescale 3 puts 19 of the 25 times of the structure at or below 500 of 1000, where guidance needs a second call.
    assert len(calls.structure) == 25 + 19 and sum(free for _, _, free in calls.structure) == 19
    assert {d for _, d, _ in calls.structure} == {0.0}
    assert calls.structure[2][0] == pytest.approx(1000 * 0.04 / (1 + 2 * 0.96))
    assert len(calls.latent) == 25 + 13 and sum(free for _, free in calls.latent) == 13
    assert [t for t, free in calls.latent if not free] == pytest.approx([40.0 * k for k in range(25)], abs=1e-3)


def test_the_distilled_mode(model: SAM3DObjects) -> None:
    calls = Calls(model)
    generate(model, *picture(), distilled=True, structure_steps=4, latent_steps=5)
    # Times t / (1 + 2 (1 - t)) of 0, 1/4, 1/2, 3/4.
    assert calls.structure == [(t, 250.0, False) for t in (0.0, 100.0, 250.0, 500.0)]
    assert [free for _, free in calls.latent] == [False] * 5
    model.structure_flow.d_embedder = None
    with pytest.raises(ValueError, match="'small' is no shortcut model; sample it without the distilled mode"):
        generate(model, *picture(), distilled=True)


def test_guidance_that_is_given(model: SAM3DObjects) -> None:
    calls = Calls(model)
    generate(model, *picture(), structure_steps=2, latent_steps=2, structure_guidance=0.0, latent_guidance=0.0)
    assert not any(free for _, _, free in calls.structure) and not any(free for _, free in calls.latent)
    with pytest.raises(ValueError, match="steps must be at least 1, got 0"):
        generate(model, *picture(), structure_steps=0)
    with pytest.raises(ValueError, match="steps must be at least 1, got 0"):
        generate(model, *picture(), distilled=True, structure_steps=0)


def test_without_a_pointmap_there_is_no_pose(model: SAM3DObjects) -> None:
    given = picture()
    seen: list[Tensor] = []
    model.structure_flow.register_forward_pre_hook(lambda _, args: seen.append(args[2]))
    model.settings = StructureSettings(SIDE, 4, 8, 2, "surface", 28, guidance=0.0)
    assert generate(model, given.image, given.mask, structure_steps=1, latent_steps=1).pose is None
    generate(model, *given, structure_steps=1, latent_steps=1)
    without, with_points = seen
    assert with_points.shape == without.shape
    pictures = 4 * (1 + 4)
    assert torch.equal(without[:, :pictures], with_points[:, :pictures])
    assert (without[:, pictures:] == 0).all() and (with_points[:, pictures:] != 0).any()


def test_the_latent_stage_sees_no_pointmap(model: SAM3DObjects) -> None:
    given = picture()
    assert model.latent is not None
    with_points, _ = prepare(model, *given)
    without, scene = prepare(model, given.image, given.mask, None)
    assert scene is None and set(without) == set(with_points)
    assert torch.equal(model.latent.embed(with_points), model.latent.embed(without))


def test_a_solid_model_gives_its_surface(model: SAM3DObjects) -> None:
    model.settings = StructureSettings(SIDE, 4, 8, 2, "solid", 28)
    share = model.decode_structure(torch.zeros(1, 8, 64)).sigmoid()
    assert torch.equal(quick(model).coordinates, crossed_coordinates(share))


def test_in_half_precision(model: SAM3DObjects) -> None:
    whole = quick(model)
    half = quick(model.to(torch.bfloat16))
    assert torch.equal(half.coordinates, whole.coordinates)
    assert half.latents.isfinite().all() and half.surface.vertices.isfinite().all()
    # An untrained flow is nearly noise in, noise out, so bfloat16 may differ by its own rounding, not by more.
    assert float((half.latents.float() - whole.latents).abs().mean()) < 0.05


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("image", torch.zeros(24, 20), r"image must be \(3, Y, X\), got \(24, 20\)"),
        ("image", torch.full((3, 24, 20), 255.0), r"within \[0, 1\], got 255 to 255; divide bytes by 255"),
        ("image", torch.full((3, 24, 20), torch.nan), r"within \[0, 1\], got nan"),
        ("mask", torch.ones(24, 20), r"mask must be \(1, 24, 20\) like the image, got \(24, 20\)"),
        ("mask", torch.full((1, 24, 20), 255.0), r"0 and 1 alone, got values up to 255; compare with > 0"),
        ("mask", [[1]], r"mask must be a torch tensor, got list; use torch\.from_numpy"),
        ("mask", torch.full((1, 24, 20), 255.0), r"0 and 1 alone, got values up to 255; compare with > 0"),
        ("mask", torch.zeros(1, 24, 20), "is empty; mark the organ"),
        ("pointmap", torch.zeros(24, 20, 3), r"pointmap must be \(3, y, x\), got \(24, 20, 3\)"),
    ],
)
def test_bad_inputs(model: SAM3DObjects, name: str, value: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        quick(model, given=picture()._replace(**{name: value}))


def test_nothing_to_see(model: SAM3DObjects) -> None:
    model.structure_decoder = Ball(SIDE, -1.0)  # type: ignore[assignment]
    with pytest.raises(ValueError, match="seed 3: no voxel is on a surface; take another seed"):
        quick(model, 3)


def test_a_model_without_its_latent_stage(model: SAM3DObjects) -> None:
    model.latent = None
    with pytest.raises(ValueError, match="'small': its latent stage is not loaded"):
        quick(model)


def test_an_object_of_too_many_voxels_keeps_its_size(model: SAM3DObjects, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = quick(model).surface.vertices
    monkeypatch.setattr("sam3d_objects.model.pipeline.MAX_VOXELS", 50)
    monkeypatch.setattr("sam3d_objects.model.pipeline.limit_count", partial(limit_count, maximum=50))
    halved = quick(model)
    assert len(halved.coordinates) <= 50
    sides = [vertices.amax(0) - vertices.amin(0) for vertices in (whole, halved.surface.vertices)]
    # Half as many voxels a side: the size is known to two of them.
    torch.testing.assert_close(sides[1], sides[0], atol=2.5 / SIDE, rtol=0)


def test_a_solid_model_has_no_inner_surface() -> None:
    model = small_model("solid")
    model.structure_decoder = Ball(SIDE, 6.5)  # type: ignore[assignment]
    model.latent = small_latent_stage()
    model.settings = StructureSettings(SIDE, 4, 8, 2, "solid", 28)
    _, interior, _ = structure_voxels(model.eval(), torch.zeros(1, 8, 64), None)
    assert interior is not None and interior[0, SIDE // 2, SIDE // 2, SIDE // 2] and not interior[0, 0, 0, 0]
