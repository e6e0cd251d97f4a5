"""Metrics that MMPose's CocoMetric lacks: AP without detections, the number of people, AP by crowding."""

from .coco_metric import BottomupCocoMetric
from .dump_predictions import DumpPredictions
from .person_count import PersonCountMetric

__all__ = ['BottomupCocoMetric', 'DumpPredictions', 'PersonCountMetric']
