"""SAM 3D: teach the built-in model one shape with LoRA, keep the adapter, load it into a fresh base, merge it.

    python examples/sam3d.py

What `sam3d-med train` does with scans, on one drawn slice, with the proof that nothing moved but what was to move.
"""

from tempfile import TemporaryDirectory

import numpy as np
import torch

from sam3d_objects.adapter import AdapterMeta, InferenceContract, load_adapter, save_adapter
from sam3d_objects.adapter.presets import PresetConfig, apply_preset
from sam3d_objects.mesh import SliceCamera, pointmap
from sam3d_objects.model import Pose, load_model
from sam3d_objects.model.flow_matching import flow_matching_loss, noise_like
from sam3d_objects.model.lora import merged_model, verify
from sam3d_objects.volume import oblique_plane

DRAWS = 8  # times and noises at once
model = load_model("tiny", stages=("structure",))
flow = model.structure_flow

# An axial slice of 18 x 18 pixels of 2 mm with a bright disc of 24 mm; it cuts a spindle of 24 x 24 x 60 mm.
plane = oblique_plane([0.0, 0.0, 0.0], np.eye(3), (18, 18), 2.0)
camera = SliceCamera.from_plane(plane)
mask = np.hypot(*(np.mgrid[:18, :18] - 8.5)) < 6
picture = model.condition_inputs(np.where(mask, 0.8, 0.2), mask, pointmap(plane, camera), camera.camera_axes[2])
x, y, z = (np.mgrid[:32, :32, :32] + 0.5) / 32 - 0.5  # the unit cube around the object
spindle = torch.from_numpy((np.hypot(x, y) / 0.2) ** 2 + (z / 0.5) ** 2 < 1).float()
pose = Pose(torch.from_numpy(camera.object_rotation().T.copy()), torch.zeros(3, dtype=torch.float64), size=60.0)
with torch.no_grad():  # the embedder and the encoder do not train: what they give is made once
    tokens = model.embed({name: value[None] for name, value in picture.tensors.items()}).expand(DRAWS, -1, -1)
    one = {name: value[None].float() for name, value in model.pose_tokens(pose, picture.scene).items()}
    one["shape"] = model.encode_structure(spindle[None, None])
target = {name: value.expand(DRAWS, -1, -1) for name, value in one.items()}


def loss(network: torch.nn.Module, seed: int) -> torch.Tensor:
    """Flow matching with the times and noises of a seed."""
    generator = torch.Generator().manual_seed(seed)
    times = torch.rand(DRAWS, generator=generator)
    return flow_matching_loss(network, target, tokens, times, noise_like(target, generator))[0]


with torch.no_grad():
    before = loss(flow, seed=999)
plan = apply_preset(flow, PresetConfig("sam3d_structure", rank=8), seed=0)
with torch.no_grad():
    assert torch.equal(loss(flow, seed=999), before), "a fresh adapter is its base, to the last bit"
optimiser = torch.optim.Adam([p for p in flow.parameters() if p.requires_grad], lr=3e-3)
for step in range(12):
    optimiser.zero_grad()
    loss(flow, seed=step).backward()
    optimiser.step()
verify(flow).require()  # the base as it was, all that may move has moved, gradients reach all of it

contract = InferenceContract(field_of_view="mask_margin", margin_mm=6.0, modality="mr")
of = model.fingerprint
meta = AdapterMeta(stage="structure", base_name="tiny", base_fingerprint=of, organs=("spindle",), contract=contract)
with TemporaryDirectory() as folder, torch.no_grad():
    save_adapter(f"{folder}/spindle", flow, plan.config, meta)
    fresh = load_model("tiny", stages=("structure",))
    load_adapter(f"{folder}/spindle", fresh.structure_flow, base_fingerprint=fresh.fingerprint)
    after, loaded, merged = (loss(x, seed=999) for x in (flow, fresh.structure_flow, merged_model(flow)))
print(f"loss on draws it never saw: {before:.4f}, adapted {after:.4f}, loaded {loaded:.4f}, merged {merged:.4f}")
assert after < 0.8 * before, "the adapter has learnt the shape"
assert torch.equal(loaded, after), "from the folder, to the last bit"
assert abs(merged - after) < 1e-5 * after, "merged into plain layers"
