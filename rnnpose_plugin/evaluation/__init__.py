"""Metrics that MMPose's CocoMetric lacks: AP without detections, the number of people, mixed people."""

from .coco_metric import BottomupCocoMetric
from .dump_predictions import DumpPredictions
from .mixing import MixingMetric
from .person_count import PersonCountMetric
from .wholebody_metric import BottomupWholeBodyMetric

__all__ = ['BottomupCocoMetric', 'BottomupWholeBodyMetric', 'DumpPredictions', 'MixingMetric', 'PersonCountMetric']
