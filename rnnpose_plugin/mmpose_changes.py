"""How MMPose draws beside numpy 2.4, which does not convert an array of one element to a number."""

from __future__ import annotations

from functools import wraps
from typing import Any

import numpy as np
from mmpose.visualization.opencv_backend_visualizer import OpencvBackendVisualizer


def draw_circles_of_one_radius() -> None:
    """Gives OpenCV the radius as a number, where MMPose has it in an array. A second call makes no difference."""
    original = OpencvBackendVisualizer.draw_circles

    @wraps(original)
    def draw_circles(self: OpencvBackendVisualizer, center: np.ndarray, radius: Any, *args: Any, **kwargs: Any) -> None:
        if self.backend == 'opencv':
            radius = np.ravel(radius)[0]
        return original(self, center, radius, *args, **kwargs)

    OpencvBackendVisualizer.draw_circles = draw_circles
