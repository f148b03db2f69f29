"""The image and mask embedder: a DINOv2 ViT and how its tokens are read. Letters: B batch, T tokens, C channels."""

import torch
from torch import Tensor, nn

from sam3d_objects.model.condition.vit import VisionTransformer

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

# Architectures by the names of facebookresearch/dinov2; `vit` in a config overrides them, as the tiny model's does.
ARCHITECTURES: dict[str, dict[str, int]] = {
    "dinov2_vits14_reg": {"img_size": 518, "patch_size": 14, "embed_dim": 384, "depth": 12, "num_heads": 6},
    "dinov2_vitb14_reg": {"img_size": 518, "patch_size": 14, "embed_dim": 768, "depth": 12, "num_heads": 12},
    "dinov2_vitl14_reg": {"img_size": 518, "patch_size": 14, "embed_dim": 1024, "depth": 24, "num_heads": 16},
}


class Dino(nn.Module):
    """Embed an image or a mask with DINOv2.

    Args:
        input_size: the side (pixels) to which inputs are resized.
        normalize_images: apply ImageNet's mean and standard deviation.
        prenorm_features: read the sequence before the last norm, cls and registers included, through an affine-free
            layer norm (as the latent stage does); otherwise cls and patches after the last norm.
    """

    def __init__(
        self,
        input_size: int = 518,
        dino_model: str = "dinov2_vitl14_reg",
        normalize_images: bool = True,
        prenorm_features: bool = False,
        vit: dict[str, int] | None = None,
        **released: object,
    ) -> None:
        super().__init__()
        unknown = set(released) - {"repo_or_dir", "source", "backbone_kwargs", "freeze_backbone"}
        if unknown:
            raise ValueError(f"Dino does not know the arguments {sorted(unknown)}")
        if vit is None and dino_model not in ARCHITECTURES:
            raise ValueError(f"dino_model must be one of {sorted(ARCHITECTURES)}, got {dino_model!r}")
        self.input_size, self.normalize_images, self.prenorm_features = (
            input_size,
            normalize_images,
            prenorm_features,
        )
        self.backbone = VisionTransformer(**(vit or ARCHITECTURES[dino_model]))
        self.embed_dim = self.backbone.embed_dim

    def preprocess(self, image: Tensor) -> Tensor:
        """Resize (B, 1 or 3, Y, X) to the input size (bilinear, no antialias), repeat one channel, normalise."""
        size = (self.input_size, self.input_size)
        image = nn.functional.interpolate(image, size=size, mode="bilinear", align_corners=False)
        if image.shape[1] == 1:
            image = image.expand(-1, 3, -1, -1)
        if self.normalize_images:
            image = (image - image.new_tensor(IMAGENET_MEAN)[:, None, None]) / image.new_tensor(IMAGENET_STD)[
                :, None, None
            ]
        return image

    def forward(self, image: Tensor) -> Tensor:
        """Map (B, 1 or 3, Y, X) in [0, 1] to tokens (B, 1 + patches, C), or with the registers where prenorm is set."""
        prenorm = self.backbone(self.preprocess(image).to(self.backbone.pos_embed.dtype))
        if self.prenorm_features:
            return nn.functional.layer_norm(prenorm, prenorm.shape[-1:], eps=1e-5)
        normed = self.backbone.norm(prenorm)
        return torch.cat([normed[:, :1], normed[:, 1 + self.backbone.register_count :]], dim=1)
