"""Options of training."""

from dataclasses import dataclass

from .option import check_options, option


@dataclass(frozen=True)
class TrainOptions:
    """How an adapter is trained on a prepared data set."""

    stage: str = option("structure", "the part of the model that is adapted", choices=("structure",))
    base: str = option("tiny", "the base model: tiny (built in) or a folder")
    organs: str = option("", "structures to train on, separated by commas; empty: all of the data set")
    epochs: int = option(45, "passes over the training samples", minimum=1)
    batch_size: int = option(16, "samples in a step", minimum=1)
    accumulate: int = option(1, "batches whose gradients are added up before a step", minimum=1)
    lr: float = option(2e-3, "highest learning rate", minimum=0.0)
    weight_decay: float = option(0.0, "weight decay of AdamW", minimum=0.0)
    warmup_steps: int = option(50, "steps until the highest learning rate", minimum=0)
    lr_floor: float = option(0.02, "part of lr at which the cosine ends", minimum=0.0, maximum=1.0)
    ema_decay: float = option(0.99, "running average of the trained weights; 0: none", minimum=0.0, maximum=0.9999)
    clip_norm: float = option(1.0, "largest norm of the gradient; 0: no clipping", minimum=0.0)
    lora_rank: int = option(16, "rank of the LoRA matrices", minimum=1)
    lora_alpha: float = option(32.0, "LoRA is scaled by alpha / rank", minimum=0.0)
    lora_dropout: float = option(0.0, "dropout before the LoRA matrices", minimum=0.0, maximum=0.95)
    lora_targets: tuple[str, ...] = option((), "globs or re:REGEX of full paths; empty: attention and --lora_mlp")
    lora_mlp: bool = option(True, "adapt the feed-forward layers beside attention")
    train_heads: bool = option(True, "train the output layers beside LoRA; they are saved with the adapter")
    condition_dropout: float = option(
        0.1, "share of samples without the condition, for guidance", minimum=0.0, maximum=1.0
    )
    time_mean: float = option(0.0, "mean of the logit-normal flow time; the release was trained with -1")
    time_std: float = option(1.2, "standard deviation of the logit-normal flow time; the release: 1", minimum=0.0)
    draws: int = option(2, "draws of time and noise for each slice in a batch", minimum=1)
    pointmap: str = option("plane", "the slice's positions as tokens, or none of them", choices=("plane", "drop"))
    target_iou_bar: float = option(
        0.6, "training refuses shapes that encoder and decoder keep less of (IoU)", minimum=0.0, maximum=1.0
    )
    slices_per_plane: int = option(4, "slices of each organ and plane that an epoch draws", minimum=1)
    augment: bool = option(True, "augment training samples (image, mask and geometry together)")
    variants: int = option(8, "warped copies of each organ's geometry; 1: the organ itself", minimum=1)
    allow_mirror: bool = option(False, "let augmentation turn a left organ into a right one")
    validate_every: int = option(9, "epochs between validations", minimum=1)
    patience: int = option(5, "validations without gain before training stops; 0: never", minimum=0)
    checkpoint_steps: int = option(100, "steps between checkpoints to resume from", minimum=1)
    validation_slices: int = option(36, "slices that a validation reconstructs, at most", minimum=1)
    validation_samples: int = option(4, "samples that are averaged (K) in a validation", minimum=1)
    samples: int = option(8, "kept with the adapter: samples that are averaged (K)", minimum=1)
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
    device: str = option("auto", "auto | cpu | cuda | cuda:N")
    num_workers: int = option(0, "processes that prepare samples; 0: none beside the main one", minimum=0)
    seed: int = option(0, "seed of everything random in training", minimum=0)
    resume: bool = option(False, "continue the run of the checkpoint folder where it stopped")

    def __post_init__(self) -> None:
        check_options(self)
        if self.lr == 0:
            raise ValueError("TrainOptions.lr is above 0; a learning rate of 0 trains nothing")
