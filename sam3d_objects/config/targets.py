"""Options of `targets`: what training learns from is made ahead of it."""

from dataclasses import dataclass

from .option import check_options, option


@dataclass(frozen=True)
class TargetOptions:
    """Which training targets are made, by which base model, and how good they must be.

    `variants`, `seed` and `allow_mirror` are those of training: they say which warps of an organ there are.
    """

    base: str = option("tiny", "the base model: tiny (built in) or a folder")
    stage: str = option(
        "all",
        "structure: tokens of the voxel grid; latent: latents of surface voxels, for the stages latent and decoder",
        choices=("structure", "latent", "all"),
    )
    source: str = option(
        "auto",
        "who makes latents: the encoder, or an inversion of the mesh decoder; auto: the encoder where it can be run",
        choices=("auto", "encoder", "inversion"),
    )
    organs: str = option("", "structures, separated by commas; empty: all of the data set")
    variants: int = option(8, "warped copies of each training organ's geometry; 1: the organ itself", minimum=1)
    seed: int = option(0, "seed of the warps", minimum=0)
    allow_mirror: bool = option(False, "let warps turn a left organ into a right one")
    target_iou_bar: float = option(
        0.6, "fails where encoder and decoder keep less of a shape (IoU); 0 accepts all", minimum=0.0, maximum=1.0
    )
    target_distance_bar: float = option(
        0.01,
        "fails where a decoded surface is farther off, as a share of the shape's size; 0 accepts all",
        minimum=0.0,
    )
    inversion_steps: int = option(40, "steps of the search for latents", minimum=1)
    inversion_prior: float = option(0.01, "weight of the latents' mean square, in normalised space", minimum=0.0)
    workers: int | None = option(
        None, "processes, each with one thread; 0: none beside the main one; default: one for each CPU", minimum=0
    )
    device: str = option("auto", "auto | cpu | cuda | cuda:N")

    def __post_init__(self) -> None:
        check_options(self)
