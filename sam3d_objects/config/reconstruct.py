"""Options of sampling and reconstruction."""

from dataclasses import dataclass

from sam3d_objects.files import nearest

from .option import check_options, option

DTYPES = ("float32", "bfloat16", "float16")
STAGES = ("both", "structure")
ADAPTED_STAGES = ("structure", "latent", "decoder")
MESH_FORMATS = ("stl", "ply", "obj", "glb", "vtk")
SPACES = ("LPS", "RAS")


def check_stages(name: str, stages: tuple[str, ...]) -> None:
    """Raise ValueError, naming the nearest, if one of the stages that can be adapted is called otherwise."""
    for stage in stages:
        if stage not in ADAPTED_STAGES:
            hint = nearest(stage, ADAPTED_STAGES)
            raise ValueError(f"{name} knows {', '.join(ADAPTED_STAGES)}; got {stage!r}.{hint}")


@dataclass(frozen=True)
class ReconstructOptions:
    """How a mesh is drawn from the model. What you leave out is as the adapter was validated."""

    base: str = option("tiny", "the base model that the adapter was trained on: tiny (built in) or a folder")
    samples: int | None = option(None, "samples that are averaged (K)", minimum=1)
    steps: int | None = option(None, "steps of the sampler", minimum=1)
    guidance: float | None = option(None, "strength of classifier-free guidance", minimum=0.0)
    threshold: float | None = option(None, "share of samples that makes a voxel solid", minimum=0.01, maximum=0.99)
    fit: bool | None = option(None, "move and scale samples, and lead their surface, so that its cut is the mask")
    stages: str = option("both", "both: the latent stage draws the surface; structure: its own surface", choices=STAGES)
    use_stages: tuple[str, ...] = option((), "take the adapters of these stages alone; empty: all of the checkpoint's")
    device: str = option("auto", "auto | cpu | cuda | cuda:N")
    dtype: str = option("float32", "number type of the weights: half precision halves the memory", choices=DTYPES)
    offload: bool = option(False, "keep the weights in host memory; each network is on the device only while it runs")
    seed: int = option(0, "seed of the samples", minimum=0)
    formats: tuple[str, ...] = option(
        ("stl", "ply"), "mesh files: stl, ply, obj, glb, vtk; ply, glb and vtk hold spread_mm at the vertices"
    )
    space: str = option("LPS", "frame of mesh files in the patient: as in DICOM and 3D Slicer, or RAS", choices=SPACES)

    def __post_init__(self) -> None:
        check_options(self)
        check_stages("use_stages", self.use_stages)
        for name in self.formats:
            if name not in MESH_FORMATS:
                hint = nearest(name, MESH_FORMATS)
                raise ValueError(f"formats knows {', '.join(MESH_FORMATS)}; got {name!r}.{hint}")
        if not self.formats:
            raise ValueError(f"formats is empty: name at least one of {', '.join(MESH_FORMATS)}")
