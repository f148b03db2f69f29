"""Build our modules from the release's YAML nodes.

A node is a mapping with a `_target_`, the release's dotted path; its other entries are constructor arguments, nodes
themselves or plain values. Only the targets of the table are known: nothing is imported by name from a file.
"""

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from functools import partial
from typing import Any

from sam3d_objects.model.condition.dino import Dino
from sam3d_objects.model.condition.fuser import EmbedderFuser
from sam3d_objects.model.condition.pointmap import PointPatchEmbed
from sam3d_objects.model.flow_matching import logit_normal_times
from sam3d_objects.model.generator import FlowGenerator, GuidedNetwork
from sam3d_objects.model.latent.encoder import LatentEncoder
from sam3d_objects.model.latent.flow import LatentFlow
from sam3d_objects.model.latent.gaussian_decoder import GaussianDecoder
from sam3d_objects.model.latent.mesh_decoder import MeshDecoder
from sam3d_objects.model.structure.flow import StructureFlow
from sam3d_objects.model.structure.latent import Latent, LearntPositionEmbedder, ShapePositionEmbedder
from sam3d_objects.model.structure.vae import StructureDecoder, StructureEncoder

_BACKBONE = "sam3d_objects.model.backbone"
_DIT = f"{_BACKBONE}.tdfy_dit.models"
TARGETS: dict[str, Callable[..., Any]] = {
    f"{_BACKBONE}.dit.embedder.embedder_fuser.EmbedderFuser": EmbedderFuser,
    f"{_BACKBONE}.dit.embedder.dino.Dino": Dino,
    f"{_BACKBONE}.dit.embedder.pointmap.PointPatchEmbed": PointPatchEmbed,
    f"{_BACKBONE}.generator.shortcut.model.ShortCut": FlowGenerator,
    f"{_BACKBONE}.generator.flow_matching.model.FlowMatching": FlowGenerator,
    f"{_BACKBONE}.generator.classifier_free_guidance.ClassifierFreeGuidance": GuidedNetwork,
    f"{_BACKBONE}.generator.classifier_free_guidance.ClassifierFreeGuidanceWithExternalUnconditionalProbability": (
        GuidedNetwork
    ),
    f"{_BACKBONE}.generator.flow_matching.model.lognorm_sampler": logit_normal_times,
    f"{_DIT}.mot_sparse_structure_flow.SparseStructureFlowTdfyWrapper": StructureFlow,
    f"{_DIT}.mm_latent.Latent": Latent,
    f"{_DIT}.mm_latent.LearntPositionEmbedder": LearntPositionEmbedder,
    f"{_DIT}.mm_latent.ShapePositionEmbedder": ShapePositionEmbedder,
    f"{_DIT}.sparse_structure_vae.SparseStructureEncoderTdfyWrapper": StructureEncoder,
    f"{_DIT}.sparse_structure_vae.SparseStructureEncoder": StructureEncoder,
    f"{_DIT}.sparse_structure_vae.SparseStructureDecoderTdfyWrapper": StructureDecoder,
    f"{_DIT}.sparse_structure_vae.SparseStructureDecoder": StructureDecoder,
    f"{_DIT}.structured_latent_flow.SLatFlowModelTdfyWrapper": LatentFlow,
    f"{_DIT}.structured_latent_vae.encoder.SLatEncoderTdfyWrapper": LatentEncoder,
    f"{_DIT}.structured_latent_vae.encoder.SLatEncoder": LatentEncoder,
    f"{_DIT}.structured_latent_vae.decoder_mesh.SLatMeshDecoderTdfyWrapper": MeshDecoder,
    f"{_DIT}.structured_latent_vae.decoder_gs.SLatGaussianDecoderTdfyWrapper": GaussianDecoder,
    "sam3d_objects.config.utils.make_dict": dict,
}


def instantiate(config: Any) -> Any:
    """Build what a released YAML node describes.

    Mappings without `_target_` and lists are built element by element; other values are returned as they are.
    `_partial_: true` gives a function with the arguments filled in.

    Raises:
        ValueError: an unknown `_target_` (named, with the nearest known one), or arguments that the class refuses.
    """
    if isinstance(config, Mapping):
        built = {key: instantiate(value) for key, value in config.items() if key not in ("_target_", "_partial_")}
        target = config.get("_target_")
        if target is None:
            return built
        if target not in TARGETS:
            close = get_close_matches(str(target), TARGETS, n=1)
            hint = f"; the nearest known one is {close[0]}" if close else ""
            raise ValueError(f"unknown _target_ {target!r}{hint}")
        if config.get("_partial_"):
            return partial(TARGETS[target], **built)
        try:
            return TARGETS[target](**built)
        except TypeError as error:
            raise ValueError(f"{target}: its arguments {sorted(built)} do not fit: {error}") from error
    if isinstance(config, list | tuple):
        return [instantiate(value) for value in config]
    return config
