"""Evaluation: what the toolbox's CocoMetric does not say."""

from .coco_metric import BottomupCocoMetric
from .person_count import PersonCountMetric

__all__ = ['BottomupCocoMetric', 'PersonCountMetric']
