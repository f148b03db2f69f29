"""Options of sampling, reconstruction and evaluation."""

from dataclasses import dataclass

from sam3d_objects.files import nearest

from .option import check_options, option

MODEL_SYSTEMS = ("base", "adapted", "merged")
DTYPES = ("float32", "bfloat16", "float16")
STAGES = ("both", "structure")
ADAPTED_STAGES = ("structure", "latent", "decoder")
SYSTEMS = (*MODEL_SYSTEMS, "extrusion", "ellipsoid", "mean_shape", "nearest_shape", "pca_shape")


def check_stages(name: str, stages: tuple[str, ...]) -> None:
    """Raise ValueError, naming the nearest, if one of the stages that can be adapted is called otherwise."""
    for stage in stages:
        if stage not in ADAPTED_STAGES:
            hint = nearest(stage, ADAPTED_STAGES)
            raise ValueError(f"{name} knows {', '.join(ADAPTED_STAGES)}; got {stage!r}.{hint}")


@dataclass(frozen=True)
class ReconstructOptions:
    """How a mesh is drawn from the model. What is `None` is taken from the adapter's inference contract."""

    base: str = option("tiny", "the base model that the adapter was trained on: tiny (built in) or a folder")
    samples: int | None = option(None, "samples that are averaged (K)", minimum=1)
    steps: int | None = option(None, "steps of the sampler", minimum=1)
    guidance: float | None = option(None, "strength of classifier-free guidance", minimum=0.0)
    threshold: float | None = option(None, "share of samples that makes a voxel solid", minimum=0.01, maximum=0.99)
    fit: bool | None = option(None, "move and scale the mesh so that its cut agrees with the given mask")
    stages: str = option("both", "both: the latent stage draws the surface; structure: its own surface", choices=STAGES)
    use_stages: tuple[str, ...] = option((), "take the adapters of these stages alone; empty: all of the checkpoint's")
    device: str = option("auto", "auto | cpu | cuda | cuda:N")
    dtype: str = option("float32", "as what the weights are kept: half precision halves the memory", choices=DTYPES)
    offload: bool = option(False, "keep the weights in host memory; each network is on the device only while it runs")
    seed: int = option(0, "seed of the samples", minimum=0)

    def __post_init__(self) -> None:
        check_options(self)
        check_stages("use_stages", self.use_stages)


@dataclass(frozen=True)
class EvaluateOptions:
    """What is judged, on which patients. What is `None` is taken from the adapter's inference contract."""

    base: str = option("tiny", "the base model that the adapter was trained on: tiny (built in) or a folder")
    systems: str = option(",".join(SYSTEMS), "what is judged, separated by commas")
    direct: bool = option(
        False, "judge a direct-regression network, too; about 5 minutes of training for each organ, once"
    )
    split: str = option("test", "the patients that are judged", choices=("test", "val", "train"))
    organs: str = option("", "structures, separated by commas; empty: all of the data set")
    samples: int | None = option(None, "samples that are averaged (K)", minimum=1)
    steps: int | None = option(None, "steps of the sampler", minimum=1)
    guidance: float | None = option(None, "strength of classifier-free guidance", minimum=0.0)
    threshold: float | None = option(None, "share of samples that makes a voxel solid", minimum=0.01, maximum=0.99)
    fit: bool | None = option(None, "move and scale the mesh so that its cut agrees with the given mask")
    stages: str = option("both", "both: the latent stage draws the surface; structure: its own surface", choices=STAGES)
    use_stages: tuple[str, ...] = option((), "take the adapters of these stages alone; empty: all of the checkpoint's")
    device: str = option("auto", "auto | cpu | cuda | cuda:N")
    seed: int = option(0, "seed of the random slices and of the samples", minimum=0)

    def __post_init__(self) -> None:
        check_options(self)
        check_stages("use_stages", self.use_stages)
        unknown = sorted(set(self.system_names) - set(SYSTEMS))
        if unknown or not self.system_names:
            raise ValueError(f"EvaluateOptions.systems knows {', '.join(SYSTEMS)}; got {self.systems!r}")

    @property
    def system_names(self) -> tuple[str, ...]:
        """The systems, in the order given."""
        return tuple(name.strip() for name in self.systems.split(",") if name.strip())
