from __future__ import annotations

from mmpose.models.data_preprocessors import PoseDataPreprocessor
from mmpose.registry import MODELS
from torch import Tensor


@MODELS.register_module()
class PoseScalesPreprocessor(PoseDataPreprocessor):
    """MMPose's ``PoseDataPreprocessor`` for images in one size or several. Its arguments are the same.

    See ``PackPoseScales`` for the repair.
    """

    def forward(self, data: dict, training: bool = False) -> dict:
        """Normalise a batch.

        Args:
            data (dict): ``data_samples``, and ``inputs`` as collated: the images, or for each scale the images.
            training (bool): whether to augment. Defaults to False.

        Returns:
            dict: ``data_samples``, and ``inputs``: a tensor (B, 3, h, w), or a tuple with one for each scale.
        """
        scales = data['inputs']
        if isinstance(scales, Tensor) or isinstance(scales[0], Tensor):
            return super().forward(data, training)
        inputs = []
        for images in reversed(scales):  # the main size last, so that the samples keep its shape
            batch = super().forward(dict(data, inputs=images), training)
            inputs.insert(0, batch['inputs'])
        return dict(batch, inputs=tuple(inputs))  # a list would be stacked by the estimator's forward
