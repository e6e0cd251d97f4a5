from __future__ import annotations

from mmpose.datasets.transforms import PackPoseInputs
from mmpose.datasets.transforms.formatting import image_to_tensor
from mmpose.registry import TRANSFORMS


@TRANSFORMS.register_module()
class PackPoseScales(PackPoseInputs):
    """MMPose's ``PackPoseInputs`` for an image at one scale or several, with the same arguments.

    MMPose 1.3.2 has both ends of ``multiscale_test``, ``BottomupResize(aug_scales=...)`` and a
    ``BottomupPoseEstimator.predict`` for lists, but not the steps between: ``PackPoseInputs`` stacks the scales of an
    image and fails, ``PoseDataPreprocessor`` refuses lists of lists, ``BasePoseEstimator.forward`` stacks again, and
    ``AssociativeEmbeddingHead.predict`` lacks an argument where it averages the scales. This class,
    ``PoseScalesPreprocessor``, ``FreezableBottomupPoseEstimator`` and ``TrainableAEHead`` fix them.
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
