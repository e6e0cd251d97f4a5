"""The number of people detected and annotated, in total and per image."""

from __future__ import annotations

from collections.abc import Sequence

from mmengine.evaluator import BaseMetric
from mmpose.registry import METRICS

from .truth import annotations_of, is_person


@METRICS.register_module()
class PersonCountMetric(BaseMetric):
    """The number of people detected, and of people annotated.

    Annotated people are those with a labelled joint, without crowd regions: the decoder is trained to count them. Where
    annotators left people out (OCHuman), ``found`` may rightly exceed ``true``.

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
            true = sum(is_person(annotation) for annotation in annotations_of(sample))
            self.results.append((len(sample['pred_instances']['keypoints']), true))

    def compute_metrics(self, results: list[tuple[int, int]]) -> dict[str, float]:
        """Sum over images.

        Args:
            results (list[tuple[int, int]]): detected and annotated people of each image.

        Returns:
            dict[str, float]: ``found`` and ``true``, totals; ``count_error``, the mean over images of |found - true|.
        """
        found, true = (sum(column) for column in zip(*results))
        error = sum(abs(f - t) for f, t in results) / len(results)
        return dict(found=found, true=true, count_error=error)
