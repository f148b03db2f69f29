"""What is made, not measured: procedural shapes for pretraining and phantom scans for the demo."""

from sam3d_objects.synthetic.phantoms import PHANTOM_ORGANS, write_phantoms
from sam3d_objects.synthetic.shapes import FAMILIES, random_shape

__all__ = ["FAMILIES", "PHANTOM_ORGANS", "random_shape", "write_phantoms"]
