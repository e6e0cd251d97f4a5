from __future__ import annotations

from collections.abc import Sequence

from mmengine.evaluator import BaseMetric
from mmpose.registry import METRICS

from .crowding import is_person


@METRICS.register_module()
class PersonCountMetric(BaseMetric):
    """How many people were found, and how many there are.

    A true person is an annotation with a labelled joint that is no crowd region, which is what the decoder is trained
    to count. Where annotators left people out (OCHuman), ``found`` may rightly exceed ``true``.

    Args:
        **kwargs: those of ``mmengine.evaluator.BaseMetric``.
    """

    default_prefix = 'people'

    def __init__(self, **kwargs) -> None:
        super().__init__(**kwargs)

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Count one batch.

        Args:
            data_batch (dict): unused.
            data_samples (Sequence[dict]): with ``pred_instances`` and the annotations ``raw_ann_info``.
        """
        for sample in data_samples:
            annotations = sample.get('raw_ann_info') or []
            if isinstance(annotations, dict):
                annotations = [annotations]
            true = sum(is_person(annotation) for annotation in annotations)
            self.results.append((len(sample['pred_instances']['keypoints']), true))

    def compute_metrics(self, results: list[tuple[int, int]]) -> dict[str, float]:
        """Sum up.

        Args:
            results (list[tuple[int, int]]): found and true count of each image.

        Returns:
            dict[str, float]: ``found`` and ``true``, totals; ``count_error``, the mean over images of |found - true|.
        """
        found, true = (sum(column) for column in zip(*results))
        error = sum(abs(f - t) for f, t in results) / len(results)
        return dict(found=found, true=true, count_error=error)
