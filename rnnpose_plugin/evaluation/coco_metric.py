"""COCO's keypoint metric for models that may detect no people."""

from __future__ import annotations

from mmengine.logging import print_log
from mmpose.evaluation.metrics import CocoMetric
from mmpose.registry import METRICS

NAMES = ('AP', 'AP .5', 'AP .75', 'AP (M)', 'AP (L)', 'AR', 'AR .5', 'AR .75', 'AR (M)', 'AR (L)')


@METRICS.register_module()
class BottomupCocoMetric(CocoMetric):
    """MMPose's CocoMetric, but a model without detections scores 0 instead of raising.

    COCO's ``loadRes`` cannot read an empty list of results, and a recurrent decoder may detect no people in the first
    epochs. Arguments and all other results are those of CocoMetric.
    """

    def compute_metrics(self, results: list) -> dict[str, float]:
        """See ``CocoMetric.compute_metrics``.

        Args:
            results (list): pairs of prediction and ground truth, one per image.

        Returns:
            dict[str, float]: the ten COCO figures.
        """
        if any(len(prediction['keypoints']) for prediction, _ in results):
            return super().compute_metrics(results)
        print_log(f'No people were detected in {len(results)} images, so AP and AR are 0.', 'current', level=30)
        return {name: 0.0 for name in NAMES}
