from __future__ import annotations

import torch
from mmpose.models import BottomupPoseEstimator
from mmpose.registry import MODELS
from torch import Tensor


@MODELS.register_module()
class FreezableBottomupPoseEstimator(BottomupPoseEstimator):
    """The toolbox's bottom-up estimator with one switch more: a backbone that is used but not trained.

    A frozen backbone stays in evaluation mode (its batch norms keep their statistics), keeps no graph, and its
    parameters want no gradient, before an optimizer or DDP sees them. The paper trains its decoder on an AE network
    "which had been trained on COCO" (section 3.3).

    Args:
        freeze_backbone (bool): see above. Defaults to False.
        **kwargs: those of ``BottomupPoseEstimator``.
    """

    def __init__(self, freeze_backbone: bool = False, **kwargs) -> None:
        super().__init__(**kwargs)
        self.freeze_backbone = freeze_backbone
        if freeze_backbone:
            self.backbone.requires_grad_(False)

    def train(self, mode: bool = True) -> FreezableBottomupPoseEstimator:
        """Training mode for everything that is trained.

        Args:
            mode (bool): as in torch. Defaults to True.

        Returns:
            FreezableBottomupPoseEstimator: itself.
        """
        super().train(mode)
        if self.freeze_backbone:
            self.backbone.eval()
        return self

    def extract_feat(self, inputs: Tensor) -> tuple[Tensor, ...]:
        """Features of the backbone, through the neck where there is one.

        Args:
            inputs (Tensor): (B, 3, h, w), preprocessed.

        Returns:
            tuple[Tensor, ...]: what the neck, else the backbone, gives.
        """
        if not self.freeze_backbone:
            return super().extract_feat(inputs)
        with torch.no_grad():
            x = self.backbone(inputs)
        return self.neck(x) if self.with_neck else x
