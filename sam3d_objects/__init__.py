"""Fine-tune SAM 3D Objects on medical scans. Research use, not for diagnosis."""

__version__ = "0.1.0"
