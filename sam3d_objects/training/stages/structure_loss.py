"""What the structure flow is trained on: flow matching and, where wanted, self-consistency over random paths.

Letters: B samples, D paths (a time and a noise, and perhaps a step size) of each, T tokens, C channels.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from sam3d_objects.model.flow_matching import flow_matching_loss
from sam3d_objects.model.sampler import Latents
from sam3d_objects.model.shortcut import draw_step_sizes, shortcut_loss
from sam3d_objects.training.flow_times import even_times, stratified_times
from sam3d_objects.training.sharding import sharded
from sam3d_objects.training.stage import Batch
from sam3d_objects.training.stages.structure_options import StructureOptions

TIME, STEP, GUIDED, NOISE = "t", "d", "guided", "noise."
# As the release was distilled: a quarter of the rows are self-consistency rows, a quarter of those guided.
_CONSISTENT_SHARE = 0.25
_GUIDED_SHARE = 0.25
_VALIDATION_DRAWS = 4

Shapes = Mapping[str, tuple[int, ...]]  # latent -> (1, T, C)


def draw_paths(shapes: Shapes, count: int, options: StructureOptions, generator: torch.Generator) -> Batch:
    """Draw the paths of `count` samples.

    Returns:
        `t` (count, D) and `noise.NAME` (count, D, T, C); with a self-consistency term also `d` (count, D), the
        teacher's step size (half the student's), 0 for flow matching, and `guided` (count, D), 1 where the teacher is
        guided.
    """
    paths = count * options.draws
    t = stratified_times(paths, options.time_mean, options.time_std, generator)
    drawn = _noise(shapes, count, options.draws, generator)
    if options.shortcut_weight:
        step = draw_step_sizes(paths, generator)
        # Two of the teacher's steps must end at 1 at most: the student's steps start at multiples of their size.
        start = (torch.rand(paths, generator=generator) / step).floor() * step
        consistent = torch.rand(paths, generator=generator) < _CONSISTENT_SHARE
        guided = consistent & (torch.rand(paths, generator=generator) < _GUIDED_SHARE)
        t = torch.where(consistent, start, t)
        drawn[STEP] = torch.where(consistent, step / 2, 0).view(count, options.draws)
        drawn[GUIDED] = guided.float().view(count, options.draws)
    return {TIME: t.view(count, options.draws), **drawn}


def even_paths(shapes: Shapes, count: int, options: StructureOptions, generator: torch.Generator) -> Batch:
    """Draw 4 paths of each sample at even times, for validation by flow matching alone."""
    times = even_times(_VALIDATION_DRAWS, options.time_mean, options.time_std)
    return {TIME: times.repeat(count, 1), **_noise(shapes, count, _VALIDATION_DRAWS, generator)}


def _noise(shapes: Shapes, count: int, draws: int, generator: torch.Generator) -> Batch:
    return {
        NOISE + name: torch.randn((count, draws, *shapes[name][1:]), generator=generator) for name in sorted(shapes)
    }


def path_loss(
    network: nn.Module, latents: Latents, condition: Tensor, kept: Tensor, draws: Batch, options: StructureOptions
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the loss, a mean over the B x D paths, and its terms.

    Args:
        latents: the samples' targets (B, T, C).
        condition: tokens (B, S, C), one for each sample's D paths.
        kept: (B,) 0 where the condition is forced to zero.
        draws: B rows of what `draw_paths` or `even_paths` drew.

    Raises:
        ValueError: self-consistency paths for a network whose weights are spread over processes.
    """
    count = draws[TIME].shape[1]
    data = {name: value.repeat_interleave(count, 0) for name, value in latents.items()}
    noise = {name.removeprefix(NOISE): value.flatten(0, 1) for name, value in draws.items() if name.startswith(NOISE)}
    t = draws[TIME].flatten()
    seen = condition * kept.to(condition)[:, None, None]
    if STEP not in draws:
        # One condition serves D rows of the flow, so its keys and values are made once.
        loss, parts = flow_matching_loss(network, data, seen, t, noise, options.weights)
        return loss, {name: part for name, part in parts.items() if options.weights[name]}
    if sharded(network):
        # The teacher is called only where a process's own rows want it, and each call gathers weights from all
        # processes: they would wait for each other for ever. Options say it earlier, but `fabric run` has its own.
        raise ValueError(
            f"shortcut_weight {options.shortcut_weight:g} does not go with weights spread over processes: take "
            "strategy ddp, or shortcut_weight 0"
        )
    d = draws[STEP].flatten()
    _, terms = shortcut_loss(
        network,
        data,
        condition.repeat_interleave(count, 0),
        seen.repeat_interleave(count, 0),
        t,
        noise,
        d,
        draws[GUIDED].flatten() > 0,
        options.weights,
    )
    # Each term is a mean over its own rows; weighted by their share the loss is a mean over all, and batches add up.
    share = (d > 0).float().mean()
    parts = {
        "flow_matching": terms["flow_matching"] * (1 - share),
        "self_consistency": terms["self_consistency"] * share,
    }
    return parts["flow_matching"] + options.shortcut_weight * parts["self_consistency"], parts
