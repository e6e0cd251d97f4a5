from __future__ import annotations

from contextlib import nullcontext

import torch
from mmpose.models import BottomupPoseEstimator
from mmpose.registry import MODELS
from torch import Tensor

PRECISIONS = ('float32', 'bfloat16', 'float16')


@MODELS.register_module()
class FreezableBottomupPoseEstimator(BottomupPoseEstimator):
    """MMPose's bottom-up estimator with a switch to freeze the backbone and one for the precision of testing.

    A frozen backbone stays in evaluation mode (its batch norms keep their statistics), keeps no graph, and its
    parameters need no gradient, before an optimizer or DDP sees them. The paper trains its decoder on an AE network
    "which had been trained on COCO" (section 3.3).

    A head with a ``check_test_settings`` checks ``test_cfg`` at construction, so that a misspelt setting does not
    wait for the first validation; images of sizes other than ``test_cfg`` wants are refused with the cure.

    Args:
        freeze_backbone (bool): see above. Defaults to False.
        precision (str): of convolutions and matrix products when testing: ``'float32'``, or by
            torch's autocast ``'bfloat16'`` or ``'float16'``. For training there is ``--amp``. Defaults to
            ``'float32'``.
        **kwargs: those of ``BottomupPoseEstimator``.

    Raises:
        ValueError: for a ``test_cfg`` that the head refuses, an unknown precision, or a ``freeze_backbone`` of other
            type.
    """

    def __init__(self, freeze_backbone: bool = False, precision: str = PRECISIONS[0], **kwargs) -> None:
        super().__init__(**kwargs)
        if not isinstance(freeze_backbone, bool):  # any word, such as 'no', would count as True
            raise ValueError(f'freeze_backbone is {freeze_backbone!r}; use True or False.')
        if precision not in PRECISIONS:
            raise ValueError(f'precision is {precision!r}; use one of {PRECISIONS}.')
        self.precision = precision
        self.freeze_backbone = freeze_backbone
        if freeze_backbone:
            self.backbone.requires_grad_(False)
        if hasattr(self.head, 'check_test_settings'):
            self.head.check_test_settings(self.test_cfg)

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

    def predict(self, inputs: Tensor | tuple[Tensor, ...] | list[Tensor], data_samples: list) -> list:
        """MMPose's prediction, after a check that the images fit ``test_cfg``.

        Args:
            inputs (Tensor | tuple[Tensor, ...] | list[Tensor]): (B, 3, h, w), preprocessed; with ``multiscale_test``
                one for each scale.
            data_samples (list[PoseDataSample]): of the batch; with ``multiscale_test`` they name their ``aug_scales``.

        Returns:
            list[PoseDataSample]: the same, with ``pred_instances``.

        Raises:
            ValueError: if the pipeline gave one size and ``multiscale_test`` wants several, or the other way round.
        """
        inputs = list(inputs) if isinstance(inputs, tuple) else inputs  # a tuple, see PoseScalesPreprocessor
        self._check_scales(inputs, data_samples[0].metainfo.get('aug_scales'))
        device = (inputs if isinstance(inputs, Tensor) else inputs[0]).device.type
        reduced = self.precision != PRECISIONS[0]
        with torch.autocast(device, getattr(torch, self.precision)) if reduced else nullcontext():
            return super().predict(inputs, data_samples)

    def _check_scales(self, inputs: Tensor | list[Tensor], scales: list[float] | None) -> None:
        several = not isinstance(inputs, Tensor)
        if not self.test_cfg.get('multiscale_test', False):
            if several:
                raise ValueError(
                    f'The pipeline gives {len(inputs)} sizes of an image (aug_scales={scales}), but multiscale_test '
                    "is off; set multiscale_test=True in the model's test_cfg, or remove aug_scales from "
                    'BottomupResize.'
                )
        elif not isinstance(scales, list):
            raise ValueError(
                f'multiscale_test=True needs the list of scales, but the samples have aug_scales={scales}; set '
                "aug_scales=[...] in the test pipeline's BottomupResize and add 'aug_scales' to the meta_keys of its "
                'PackPoseScales.'
            )
        elif not several or len(inputs) != len(scales) + 1:
            raise ValueError(
                f'multiscale_test=True with aug_scales={scales} needs {len(scales) + 1} sizes of an image, but '
                f"{len(inputs) if several else 1} came; use PackPoseScales and, as the model's data_preprocessor, "
                'PoseScalesPreprocessor.'
            )
