from __future__ import annotations

from mmpose.datasets.transforms import PackPoseInputs
from mmpose.datasets.transforms.formatting import image_to_tensor
from mmpose.registry import TRANSFORMS


@TRANSFORMS.register_module()
class PackPoseScales(PackPoseInputs):
    """The toolbox's ``PackPoseInputs`` for a picture in one size or several. Its arguments are the same.

    MMPose 1.3.2 has both ends of ``multiscale_test``, ``BottomupResize(aug_scales=...)`` and a
    ``BottomupPoseEstimator.predict`` for lists, and nothing between: ``PackPoseInputs`` stacks the sizes of a picture
    and fails, ``PoseDataPreprocessor`` refuses lists of lists, ``BasePoseEstimator.forward`` stacks again, and
    ``AssociativeEmbeddingHead.predict`` lacks an argument where it averages the scales. Here, in
    ``PoseScalesPreprocessor``, ``FreezableBottomupPoseEstimator`` and ``TrainableAEHead`` they are mended.
    """

    def transform(self, results: dict) -> dict:
        """Pack a sample.

        Args:
            results (dict): with ``img``, an array (h, w, 3) or a list of them, one for each scale.

        Returns:
            dict: ``data_samples``, and ``inputs``: a tensor (3, h, w) or a list of them.
        """
        if not isinstance(results['img'], list):
            return super().transform(results)
        packed = super().transform(dict(results, img=results['img'][0]))
        return dict(packed, inputs=[image_to_tensor(image) for image in results['img']])
