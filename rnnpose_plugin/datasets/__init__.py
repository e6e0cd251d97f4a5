"""Transforms for MMPose's COCO-style data sets."""

from . import grouping  # noqa: F401
from .copy_paste import CopyPasteOcclusion
from .heatmap_mask import InstanceHeatmapMask
from .loading import LoadPoseImage
from .pack_scales import PackPoseScales
from .small_groups import SmallGroups

__all__ = [
    'CopyPasteOcclusion',
    'InstanceHeatmapMask',
    'LoadPoseImage',
    'PackPoseScales',
    'SmallGroups',
]
