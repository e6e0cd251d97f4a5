from __future__ import annotations

from mmengine.logging import print_log
from mmpose.evaluation.metrics import CocoMetric
from mmpose.registry import METRICS

NAMES = ('AP', 'AP .5', 'AP .75', 'AP (M)', 'AP (L)', 'AR', 'AR .5', 'AR .75', 'AR (M)', 'AR (L)')


@METRICS.register_module()
class BottomupCocoMetric(CocoMetric):
    """The toolbox's CocoMetric, but a model that finds nobody scores 0 instead of raising.

    COCO's ``loadRes`` cannot read an empty list of results, and a recurrent decoder may well find nobody in the first
    epochs. Arguments and every other result are the toolbox's own.
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
        print_log(f'Nobody was found in any of {len(results)} images, so AP and AR are 0.', 'current', level=30)
        return {name: 0.0 for name in NAMES}
