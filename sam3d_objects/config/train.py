"""Options of training."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .option import check_options, option
from .reconstruct import ADAPTED_STAGES

ALL = "all"
LORA = "lora"
METHODS = (LORA, "full", "scratch")
BASE_DTYPES = ("fp32", "bf16", "int8")
LATENT_SOURCES = ("auto", "encoder", "inversion")
RECIPES = ("none", "small", "medium", "large", "auto")
LORA_DEFAULTS: Mapping[str, float] = {"lora_rank": 16, "lora_alpha": 32.0, "lora_dropout": 0.0}
"""What these are without a recipe: measured with the built-in model on a few hundred slices."""
LORA_ONLY = (*LORA_DEFAULTS, "lora_targets", "lora_mlp", "preset", "freeze", "train_heads")
"""What only the method lora reads: with another one all weights train, and nobody may think that these count."""

STAGE_DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "structure": {
        "epochs": 75,
        "batch_size": 16,
        "lr": 2e-3,
        "lora_mlp": True,
        "train_heads": True,
        "time_mean": -1.0,
        "time_std": 1.4,
        "draws": 1,
        "validate_every": 15,
        "validation_slices": 36,
    },
    "latent": {
        "epochs": 6,
        "batch_size": 8,
        "lr": 1e-3,
        "lora_mlp": True,
        "train_heads": True,
        "time_mean": 0.0,
        "time_std": 1.2,
        "draws": 2,
        "validate_every": 2,
        "validation_slices": 18,
    },
    # A sample is a shape here, not a slice: an epoch is short.
    "decoder": {
        "epochs": 12,
        "batch_size": 4,
        "lr": 1e-3,
        "lora_mlp": False,
        "train_heads": False,
        "validate_every": 3,
        "validation_slices": 18,
    },
}
"""What an option that is not given is in each stage."""

OVERFIT_DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "structure": {"epochs": 12, "validate_every": 4},
    "latent": {"epochs": 12, "validate_every": 4},
    "decoder": {"epochs": 2, "validate_every": 1},
}
"""And where a few samples are learnt by heart, each of which comes 25 times an epoch."""


def _by_stage(name: str, help: str, minimum: float | None = None) -> Any:
    """Return an option whose default the stages have, and whose help says so."""
    defaults = ", ".join(f"{stage} {values[name]}" for stage, values in STAGE_DEFAULTS.items() if name in values)
    return option(None, f"{help} [{defaults}]", minimum=minimum)


def _or_recipe(name: str, help: str, minimum: float, maximum: float | None = None) -> Any:
    """Return an option that a recipe may say, and whose help names the default without one."""
    return option(None, f"{help} [{LORA_DEFAULTS[name]:g}, or the recipe's]", minimum=minimum, maximum=maximum)


@dataclass(frozen=True)
class TrainOptions:
    """How an adapter is trained on a prepared data set."""

    stage: str = option(
        "structure",
        "what is adapted: where the organ is; its surface's latents; their decoder; or the three in turn",
        choices=(*ADAPTED_STAGES, ALL),
    )
    method: str = option(
        "lora", "low-rank updates; all weights of the stage; or all of them, drawn anew", choices=METHODS
    )
    base: str = option("tiny", "the base model: tiny (built in) or a folder")
    organs: str = option("", "structures to train on, separated by commas; empty: all of the data set")
    overfit: int = option(
        0, "learn so many fixed samples by heart, to see that training works; fails where it does not", minimum=0
    )
    epochs: int | None = _by_stage("epochs", "passes over the training samples", minimum=1)
    batch_size: int | None = _by_stage("batch_size", "samples in a step, of each process", minimum=1)
    accumulate: int = option(1, "batches whose gradients are added up before a step", minimum=1)
    lr: float | None = _by_stage("lr", "highest learning rate", minimum=0.0)
    weight_decay: float = option(0.0, "weight decay of AdamW", minimum=0.0)
    warmup_steps: int = option(50, "steps until the highest learning rate", minimum=0)
    lr_floor: float = option(0.02, "part of lr at which the cosine ends", minimum=0.0, maximum=1.0)
    ema_decay: float = option(0.99, "running average of the trained weights; 0: none", minimum=0.0, maximum=0.9999)
    clip_norm: float = option(1.0, "largest norm of the gradient; 0: no clipping", minimum=0.0)
    recipe: str = option(
        "none",
        "rank, alpha, dropout and learning rate by the size of the data set, where they are not given: small (under "
        "2,000 samples), medium (to 5,000), large, or auto, which counts",
        choices=RECIPES,
    )
    lora_rank: int | None = _or_recipe("lora_rank", "rank of the LoRA matrices", minimum=1)
    lora_alpha: float | None = _or_recipe("lora_alpha", "LoRA is scaled by alpha / rank", minimum=0.0)
    lora_dropout: float | None = _or_recipe("lora_dropout", "dropout before the LoRA matrices", 0.0, 0.95)
    lora_targets: tuple[str, ...] = option((), "globs or re:REGEX of full paths; empty: attention and --lora_mlp")
    lora_mlp: bool | None = _by_stage("lora_mlp", "adapt the feed-forward layers beside attention")
    preset: str = option(
        "",
        "which layers LoRA adapts: a preset's name, its YAML file, or auto, which proposes them; empty: attention and "
        "--lora_mlp",
    )
    freeze: tuple[str, ...] = option(
        (),
        "what trains beside LoRA: adapters_only, or heads, norms, backbone_only; empty: as --preset or --train_heads",
    )
    train_heads: bool | None = _by_stage("train_heads", "train the output layers beside LoRA; they are saved with it")
    condition_dropout: float = option(
        0.1, "share of samples without the condition, for guidance", minimum=0.0, maximum=1.0
    )
    time_mean: float | None = _by_stage("time_mean", "mean of the logit-normal flow time; the release: -1")
    time_std: float | None = _by_stage("time_std", "its standard deviation; the release: 1", 0.0)
    draws: int | None = _by_stage("draws", "draws of time and noise for each slice in a batch", minimum=1)
    shortcut_weight: float = option(
        0.0, "structure: weight of the self-consistency that keeps a distilled model distilled", minimum=0.0
    )
    pointmap: str = option("plane", "the slice's positions as tokens, or none of them", choices=("plane", "drop"))
    scene_scale_mm: float | None = option(
        None,
        "structure: what is 1 in the slices' positions, the same for all, so that the network sees real sizes; 0: each "
        "slice's own extent, as the release; not given: a typical one of the training slices",
        minimum=0.0,
    )
    target_iou_bar: float = option(
        0.6, "training refuses shapes that encoder and decoder keep less of (IoU)", minimum=0.0, maximum=1.0
    )
    target_distance_bar: float = option(
        0.01,
        "latent, decoder: refuses shapes whose latents decode to a surface farther off (share of the size); 0: none",
        minimum=0.0,
    )
    latent_source: str = option(
        "auto", "latent, decoder: who makes latents of shapes; auto: the encoder where it can", choices=LATENT_SOURCES
    )
    inversion_steps: int = option(40, "latent, decoder: steps of the search for latents, where they are", minimum=1)
    inversion_prior: float = option(
        0.01, "latent, decoder: weight of the latents' mean square in that search", minimum=0.0
    )
    slices_per_plane: int = option(4, "slices of each organ and plane that an epoch draws", minimum=1)
    augment: bool = option(True, "augment training samples (image, mask and geometry together)")
    variants: int = option(8, "warped copies of each organ's geometry; 1: the organ itself", minimum=1)
    allow_mirror: bool = option(False, "let augmentation turn a left organ into a right one")
    cache_epochs: int = option(
        0, "structure, latent: slices of so many epochs are cut and embedded once and used again; 0: never", minimum=0
    )
    validate_every: int | None = _by_stage("validate_every", "epochs between validations", minimum=1)
    # The default epochs have no more validations than that: what was measured with them ran to its end.
    patience: int = option(
        5,
        "validations in a row without gain after which training stops; 0: never; the best is kept anyway; the default "
        "epochs have too few validations for a stop: give more --epochs or a smaller --validate_every",
        minimum=0,
    )
    checkpoint_steps: int = option(100, "steps between checkpoints to resume from", minimum=1)
    validation_slices: int | None = _by_stage(
        "validation_slices", "slices that a validation reconstructs, at most", minimum=1
    )
    validation_samples: int = option(8, "samples that are averaged (K) in a validation", minimum=1)
    samples: int = option(
        16,
        "kept with the adapter: most samples that are averaged (K); after the structure stage one, half or all of them "
        "are chosen on validation",
        minimum=1,
    )
    steps: int | None = option(
        None, "kept with the adapter: steps of the sampler; default: the base model's", minimum=1
    )
    guidance: float | None = option(
        None, "kept with the adapter: classifier-free guidance; default: the base model's", minimum=0.0
    )
    threshold: float | None = option(
        None,
        "kept with the adapter: share of samples that makes a voxel solid; default: the best on validation",
        minimum=0.01,
        maximum=0.99,
    )
    fit: bool = option(True, "kept with the adapter: fit the mesh to the given mask")
    precision: str = option("auto", "number format", choices=("auto", "32", "bf16", "16"))
    base_dtype: str = option(
        "fp32", "as what frozen weights are kept; what trains is in fp32 (int8 needs torchao)", choices=BASE_DTYPES
    )
    checkpoint_activations: bool = option(False, "compute blocks again in the backward pass instead of keeping them")
    compile: bool = option(False, "compile the structure flow: a later start, faster steps, other rounding")
    device: str = option("auto", "auto | cpu | cuda | cuda:N")
    devices: int = option(1, "processes on this machine, each on its own device; torchrun says it itself", minimum=1)
    strategy: str = option(
        "auto", "what several processes share: ddp all weights, fsdp a part each", choices=("auto", "ddp", "fsdp")
    )
    num_workers: int = option(0, "threads that prepare samples; 0: none beside the main one", minimum=0)
    seed: int = option(0, "seed of everything random in training", minimum=0)
    resume: bool = option(False, "continue the run of the checkpoint folder where it stopped")

    def __post_init__(self) -> None:
        check_options(self)
        if self.lr == 0:
            raise ValueError("TrainOptions.lr is above 0; a learning rate of 0 trains nothing")
        if self.base_dtype != "fp32" and (self.method != "lora" or self.precision == "32"):
            raise ValueError(
                f"TrainOptions.base_dtype {self.base_dtype} is for a frozen base under mixed precision: it goes with "
                f"method lora and a precision other than 32; got {self.method} and {self.precision}"
            )

        for name in LORA_ONLY if self.method != LORA else ():
            if getattr(self, name) not in (None, "", ()):
                raise ValueError(
                    f"TrainOptions.{name} is for method lora; got method {self.method}, which trains all weights: "
                    f"leave {name} out, or take method lora"
                )
        if self.preset and self.lora_targets:
            raise ValueError("TrainOptions.preset and lora_targets both say what is adapted: give one of them")
        if self.compile and self.stage != ADAPTED_STAGES[0]:
            raise ValueError(
                f"TrainOptions.compile is for the stage {ADAPTED_STAGES[0]}: the others work on voxels, as many as a "
                f"batch has, and would be compiled anew for each; got stage {self.stage}"
            )
        if self.shortcut_weight and self.strategy == "fsdp" and ADAPTED_STAGES[0] in self.stages:
            raise ValueError(
                f"TrainOptions.shortcut_weight {self.shortcut_weight:g} does not go with strategy fsdp: how often the "
                "network is called depends on a process's own samples, and spread weights want as many calls of each; "
                "take strategy ddp, or shortcut_weight 0"
            )

    @property
    def stages(self) -> tuple[str, ...]:
        """The stages that are trained, in order."""
        return ADAPTED_STAGES if self.stage == ALL else (self.stage,)

    def of_stage(self, stage: str) -> "TrainOptions":
        """Return the options of one stage, those that were not given as the stage has them.

        LoRA's are left open where a recipe says them (`cli.recipe.stage_options`), and without LoRA.
        """
        usual = {**STAGE_DEFAULTS[stage], **(OVERFIT_DEFAULTS[stage] if self.overfit else {})}
        if self.recipe == RECIPES[0]:
            usual |= LORA_DEFAULTS
        if self.method != LORA:
            usual = {name: value for name, value in usual.items() if name not in LORA_ONLY}
        fill = {name: value for name, value in usual.items() if getattr(self, name) is None}
        return dataclasses.replace(self, stage=stage, **fill)
