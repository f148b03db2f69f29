"""The card that ships with the tiny model's weights."""

from sam3d_objects.model.sam3d import SAM3DObjects
from sam3d_objects.pretraining.held_out import CONTRACT, HeldOutScores

CARD = """# The built-in tiny model

A stand-in for SAM 3D Objects: the same classes with small numbers, so that the whole way from scans to an adapted
model's mesh runs on a laptop's CPU. It knows nothing of medicine, and its shapes are coarse. Research use, not for
diagnosis. Licence: Apache-2.0, as the code.

| part | parameters |
|---|---|
{parts}

**Made by** `python scripts/pretrain_tiny.py` on procedural shapes alone (superquadrics, tubes, blobs, unions and
differences of them, bent and twisted; `sam3d_objects/synthetic/`), seen as slices of random planes, pixel sizes,
contrasts and noise. No organ, scan or other data went in. The structure half's condition embedder is drawn, not trained
(`sam3d_objects/pretraining/initial.py`). These weights: {history}

**On {scores.shapes} held-out shapes**, one random slice each
(`python scripts/pretrain_tiny.py --score {scores.shapes}`):

| structure | mean Dice |
|---|---|
| encode -> decode on the {resolution}^3 grid | {scores.round_trip:.3f} |
| rebuilt from one slice, patient space (K = {samples}, {steps} steps, fitted) | {scores.reconstruction:.3f} |
| the slice's mask extruded to half its width | {scores.extrusion_of_half:.3f} |

| latents on the true shell of voxels | distance of the surface's vertices, percent of the longest side |
|---|---|
| encode -> decode | {scores.latent_round_trip_percent:.2f} |
| drawn from one slice -> decode | {scores.latent_sampled_percent:.2f} |

A voxel of the latents is {voxel:.1f} percent of the longest side, a cube of the decoded grid a quarter of it.

What it differs in from the release, beyond size: solid instead of surface occupancy, a plane cue in the image's colour,
standardised pose latents (`pipeline.yaml`, `structure_settings`); its latent encoder takes 27 signed distances a voxel
instead of features of rendered views (`latent_settings`).
"""


def tiny_card(model: SAM3DObjects, scores: HeldOutScores, history: str) -> str:
    """Return the card's Markdown; `history` says in a sentence how these very weights were trained."""
    names = ("condition_embedder", "structure_flow", "structure_encoder", "structure_decoder")
    latent = ("condition_embedder", "flow", "encoder", "mesh_decoder")
    modules = {name: getattr(model, name) for name in names}
    modules |= {f"latent_{name}".replace("latent_mesh", "mesh"): getattr(model.latent_stage, name) for name in latent}
    counts = {name: sum(p.numel() for p in module.parameters()) for name, module in modules.items()}
    parts = "\n".join(f"| {name.replace('_', ' ')} | {count:,} |" for name, count in counts.items())
    return CARD.format(
        parts=parts,
        scores=scores,
        history=history,
        resolution=model.settings.resolution,
        samples=CONTRACT.samples,
        steps=CONTRACT.steps,
        voxel=100 / model.latent_stage.mesh_decoder.resolution,
    )
