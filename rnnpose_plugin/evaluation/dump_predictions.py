"""Predictions of a test as a file, without losing the metrics where it cannot be written."""

from __future__ import annotations

from mmengine.evaluator import DumpResults
from mmpose.registry import METRICS


@METRICS.register_module()
class DumpPredictions(DumpResults):
    """MMEngine's DumpResults, but an error while writing is kept in ``error`` until the metrics are saved.

    Its arguments are those of ``DumpResults``.
    """

    error: OSError | None = None

    def compute_metrics(self, results: list) -> dict:
        """Write the file.

        Args:
            results (list): Predictions of all images.

        Returns:
            dict: Empty.
        """
        try:
            return super().compute_metrics(results)
        except OSError as error:
            self.error = error
            return {}
