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
from sam3d_objects.model.node_values import check_node_values
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
# What constructors raise over values that do not suit them; test_broken_nodes.py walks through such values.
REFUSALS = (TypeError, ValueError, AttributeError, AssertionError, ArithmeticError, LookupError, RuntimeError)


def instantiate(config: Any, where: str = "") -> Any:
    """Build what a released YAML node describes.

    Mappings without `_target_` and lists are built element by element; other values are returned as they are.
    `_partial_: true` gives a function with the arguments filled in.

    Args:
        where: the dotted key of the node, which errors name.

    Raises:
        ValueError: an unknown `_target_` (named, with the nearest known one), or arguments that the class refuses; the
            node's key and its target are named.
    """
    if isinstance(config, list | tuple):
        return [instantiate(value, _below(where, index)) for index, value in enumerate(config)]
    if not isinstance(config, Mapping):
        return config
    label = f"{where}: " if where else ""
    target = config.get("_target_")
    if target is not None and (not isinstance(target, str) or target not in TARGETS):
        close = get_close_matches(str(target), TARGETS, n=1)
        hint = f"; the nearest known one is {close[0]}" if close else ""
        raise ValueError(f"{label}unknown _target_ {target!r}{hint}")
    built = {
        key: instantiate(value, _below(where, key))
        for key, value in config.items()
        if key not in ("_target_", "_partial_")
    }
    try:
        check_node_values(built)
        if target is None:
            return built
        return partial(TARGETS[target], **built) if config.get("_partial_") else TARGETS[target](**built)
    except REFUSALS as error:
        label += f"{target}: " if target else ""
        if isinstance(error, ValueError):
            raise ValueError(f"{label}{error}") from error
        raise ValueError(
            f"{label}its arguments {sorted(map(str, built))} do not fit: {type(error).__name__}: {error}"
        ) from error


def _below(where: str, key: object) -> str:
    return f"{where}.{key}" if where else str(key)
