from __future__ import annotations

from mmpose.models.data_preprocessors import PoseDataPreprocessor
from mmpose.registry import MODELS
from torch import Tensor


@MODELS.register_module()
class PoseScalesPreprocessor(PoseDataPreprocessor):
    """The toolbox's ``PoseDataPreprocessor`` for pictures in one size or several. Its arguments are the same.

    See ``PackPoseScales`` for what is mended.
    """

    def forward(self, data: dict, training: bool = False) -> dict:
        """Normalise a batch.

        Args:
            data (dict): ``data_samples``, and ``inputs`` as collated: the pictures, or for each scale the pictures.
            training (bool): whether to augment. Defaults to False.

        Returns:
            dict: ``data_samples``, and ``inputs``: a tensor (B, 3, h, w), or a tuple with one for each scale.
        """
        scales = data['inputs']
        if isinstance(scales, Tensor) or isinstance(scales[0], Tensor):
            return super().forward(data, training)
        inputs = []
        for pictures in reversed(scales):  # the main size last, so that the samples keep its shape
            batch = super().forward(dict(data, inputs=pictures), training)
            inputs.insert(0, batch['inputs'])
        return dict(batch, inputs=tuple(inputs))  # a list would be stacked by the estimator's forward
