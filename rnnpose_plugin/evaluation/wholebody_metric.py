"""COCO-WholeBody's metric for models that may detect no people."""

from __future__ import annotations

from mmengine.logging import print_log
from mmpose.evaluation.metrics import CocoWholeBodyMetric
from mmpose.registry import METRICS


@METRICS.register_module()
class BottomupWholeBodyMetric(CocoWholeBodyMetric):
    """MMPose's CocoWholeBodyMetric, but a model without detections scores 0 for the whole body instead of raising.

    Arguments and all other results are those of CocoWholeBodyMetric.
    """

    def compute_metrics(self, results: list) -> dict[str, float]:
        """See ``CocoWholeBodyMetric.compute_metrics``.

        Args:
            results (list): pairs of prediction and ground truth, one per image.

        Returns:
            dict[str, float]: AP and AR of body, feet, face, hands and the whole body.
        """
        if any(len(prediction['keypoints']) for prediction, _ in results):
            return super().compute_metrics(results)
        print_log(f'No people were detected in {len(results)} images, so AP and AR are 0.', 'current', level=30)
        parts = ('body', 'foot', 'face', 'lefthand', 'righthand', 'wholebody')
        return {f'{part}/{figure}': 0.0 for part in parts for figure in ('AP', 'AR')}
