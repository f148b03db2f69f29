"""The released wrappers around a network: they fix the names of its state dict and carry its sampling constants."""

from collections.abc import Callable, Mapping, Sequence

from torch import nn

from sam3d_objects.model.sampler import TIME_SCALE, check_solver


class GuidedNetwork(nn.Module):
    """A network with its classifier-free guidance constants (Ho and Salimans 2022, arXiv 2207.12598).

    Args:
        backbone: the velocity network.
        strength: s in (1 + s) conditional - s unconditional; interval: of 1000 t within which it applies.
        p_unconditional: how often training drops the condition.
    """

    def __init__(
        self,
        backbone: nn.Module,
        strength: float = 0.0,
        interval: Sequence[float] | None = None,
        p_unconditional: float = 0.1,
        unconditional_handling: str = "add_flag",
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.strength, self.p_unconditional = strength, p_unconditional
        self.interval = None if interval is None else (float(interval[0]), float(interval[1]))
        self.unconditional_handling = unconditional_handling


class FlowGenerator(nn.Module):
    """A flow model as the release configures it, shortcut model or plain flow; `reverse_fn` holds the network.

    `solver_method` is 'euler', 'midpoint' or 'rk4'. The shortcut arguments (Frans et al. 2024, arXiv 2410.12557) are
    kept as attributes for the training stages.
    """

    def __init__(
        self,
        reverse_fn: GuidedNetwork,
        sigma_min: float = 0.0,
        inference_steps: int = 25,
        time_scale: float = 1000.0,
        training_time_sampler_fn: Callable[..., object] | Mapping[str, float] | None = None,
        rescale_t: float = 1.0,
        loss_weights: Mapping[str, float] | float | None = None,
        loss_fn: object | None = None,
        self_consistency_prob: float = 0.25,
        shortcut_loss_weight: float = 1.0,
        self_consistency_cfg_strength: float = 2.0,
        ratio_cfg_samples_in_self_consistency_target: float = 0.25,
        cfg_modalities: Sequence[str] = (),
        batch_mode: bool = True,
        solver_method: str = "euler",
    ) -> None:
        super().__init__()
        if (sigma_min, time_scale) != (0.0, TIME_SCALE):
            raise ValueError(f"this flow knows sigma_min 0 and time_scale 1000, got {sigma_min} and {time_scale}")
        check_solver(solver_method)
        self.reverse_fn = reverse_fn
        self.inference_steps, self.rescale_t, self.solver_method = inference_steps, rescale_t, solver_method
        self.loss_weights, self.batch_mode = loss_weights, batch_mode
        self.self_consistency_prob, self.shortcut_loss_weight = self_consistency_prob, shortcut_loss_weight
        self.self_consistency_cfg_strength = self_consistency_cfg_strength
        self.ratio_cfg_samples = ratio_cfg_samples_in_self_consistency_target
        self.cfg_modalities = tuple(cfg_modalities)
