"""Options of evaluation."""

from dataclasses import dataclass

from sam3d_objects.files import nearest

from .option import check_options, option
from .reconstruct import STAGES, check_stages

MODEL_SYSTEMS = ("base", "adapted", "merged")
VARIANT_SUFFIXES = ("_k1", "_k8", "_nofit", "_noscale")
"""A model's other ways of being used (`adapted_k1`): one sample, eight, no fit to the slice, one that only moves."""
BASELINE_SYSTEMS = ("extrusion", "ellipsoid", "mean_shape", "nearest_shape", "pca_shape")
CEILING_SYSTEMS = ("ceiling_mesh", "ceiling_grid64", "ceiling_grid32", "ceiling_encode")
DEFAULT_SYSTEMS = (*MODEL_SYSTEMS, *BASELINE_SYSTEMS)
SYSTEMS = (
    *DEFAULT_SYSTEMS,
    *(f"{model}{suffix}" for model in MODEL_SYSTEMS for suffix in VARIANT_SUFFIXES),
    *CEILING_SYSTEMS,
)
"""All that can be judged by name; the direct-regression network is an option of its own."""
PATIENT, SLICE3D = "patient", "slice3d-2602"


@dataclass(frozen=True)
class EvaluateOptions:
    """What is judged, on which patients. What you leave out is as the adapter was validated."""

    base: str = option("tiny", "the base model that the adapter was trained on: tiny (built in) or a folder")
    systems: str = option(
        ",".join(DEFAULT_SYSTEMS),
        "what is judged, separated by commas; further: a model with _k1, _k8 (samples), _nofit or _noscale after its "
        "name, such as adapted_k1; ceiling_mesh, ceiling_grid64, ceiling_grid32, ceiling_encode",
    )
    direct: bool = option(
        False, "judge a direct-regression network, too; about 5 minutes of training for each organ, once"
    )
    protocol: str = option(
        PATIENT,
        "patient: patient mm, nothing aligned; slice3d-2602: as arXiv 2602.09407 scores (middle slice, aligned)",
        choices=(PATIENT, SLICE3D),
    )
    split: str = option("test", "the patients that are judged", choices=("test", "val", "train"))
    organs: str = option("", "structures, separated by commas; empty: all of the data set")
    samples: int | None = option(None, "samples that are averaged (K)", minimum=1)
    steps: int | None = option(None, "steps of the sampler", minimum=1)
    guidance: float | None = option(None, "strength of classifier-free guidance", minimum=0.0)
    threshold: float | None = option(None, "share of samples that makes a voxel solid", minimum=0.01, maximum=0.99)
    fit: bool | None = option(None, "move and scale samples, and lead their surface, so that its cut is the mask")
    stages: str = option("both", "both: the latent stage draws the surface; structure: its own surface", choices=STAGES)
    use_stages: tuple[str, ...] = option((), "take the adapters of these stages alone; empty: all of the checkpoint's")
    device: str = option("auto", "auto | cpu | cuda | cuda:N")
    workers: int | None = option(
        None,
        "processes of one thread each (Linux, CPU); 0: this process alone, with all its threads; default: one a core, "
        "8 at most; 0 for a large model or a GPU",
        minimum=0,
    )
    seed: int = option(0, "seed of the random slices and of the samples", minimum=0)

    def __post_init__(self) -> None:
        check_options(self)
        check_stages("use_stages", self.use_stages)
        unknown = [name for name in self.system_names or ("",) if name not in SYSTEMS]
        if unknown:
            hint = nearest(unknown[0], SYSTEMS)
            raise ValueError(f"EvaluateOptions.systems knows {', '.join(SYSTEMS)}; got {unknown[0]!r}.{hint}")

    @property
    def system_names(self) -> tuple[str, ...]:
        """The systems, in the order given, each once."""
        return tuple(dict.fromkeys(name.strip() for name in self.systems.split(",") if name.strip()))
