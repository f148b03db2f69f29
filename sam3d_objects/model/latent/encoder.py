"""The latent encoder: per-voxel features -> mean and log-variance of the per-voxel latent."""

from torch import Tensor, nn

from sam3d_objects.model.latent.transformer import SparseTransformer, plain_norm
from sam3d_objects.model.sparse import SparseTensor

OUT_EPS = 1e-5


class LatentEncoder(SparseTransformer):
    """Encode features of the surface voxels.

    TRELLIS's recipe, which the release follows, feeds it DINOv2 features that are gathered from rendered views and
    averaged over them (1024 channels). `use_fp16` belongs to released configs and changes nothing here.
    """

    def __init__(
        self,
        resolution: int,
        in_channels: int,
        model_channels: int,
        latent_channels: int,
        num_blocks: int,
        num_heads: int,
        mlp_ratio: float = 4,
        attn_mode: str = "swin",
        window_size: int = 8,
        use_fp16: bool = False,
    ) -> None:
        super().__init__(
            resolution, in_channels, model_channels, num_blocks, num_heads, mlp_ratio, attn_mode, window_size
        )
        self.in_channels = in_channels
        self.out_layer = nn.Linear(model_channels, 2 * latent_channels)

    def forward(self, x: SparseTensor) -> tuple[Tensor, Tensor]:
        """Map features (N, in_channels) to (mean, logvar), each (N, latent_channels)."""
        mean, logvar = self.out_layer(plain_norm(self.transform(x).features, OUT_EPS)).chunk(2, dim=-1)
        return mean, logvar
