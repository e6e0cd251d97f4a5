from __future__ import annotations

import cv2
import numpy as np
import xtcocotools.mask as coco_mask
from mmpose.datasets.transforms import BottomupGetHeatmapMask
from mmpose.registry import TRANSFORMS

from .segmentation import to_rle


@TRANSFORMS.register_module()
class InstanceHeatmapMask(BottomupGetHeatmapMask):
    """The mask of the heatmap loss: False in crowd regions and on people without joints.

    MMPose's transform takes its size from ``heatmaps`` among the targets, which the data loader does not produce here,
    and it skips every segmentation that is not a list: COCO's crowd regions, which are RLE dicts. A segmentation that
    is malformed or of another image size (``segmentation.to_rle``) masks nothing.

    Args:
        heatmap_size (tuple[int, int]): [W, H] in cells.
    """

    def __init__(self, heatmap_size: tuple[int, int]) -> None:
        # get_invalid makes MMPose's warp keep the area outside the image valid: there are no people in it, and the
        # decoder has to learn that.
        super().__init__(get_invalid=True)
        self.heatmap_size = tuple(heatmap_size)

    def _segs_to_mask(self, segs: list, img_shape: tuple[int, int]) -> np.ndarray:
        parts = []
        for seg in segs:  # CopyPasteOcclusion puts an RLE into a list
            parts += seg if isinstance(seg, list) and seg and isinstance(seg[0], dict) else [seg]
        rles = [rle for part in parts if (rle := to_rle(part, tuple(img_shape))) is not None]
        mask = coco_mask.decode(coco_mask.merge(rles)) if rles else np.zeros(img_shape, np.uint8)
        return np.ascontiguousarray(mask)  # the flip is in place

    def transform(self, results: dict) -> dict:
        """Add ``heatmap_mask``.

        Args:
            results (dict): with ``img_shape``, ``input_size``; optionally ``warp_mat``, ``invalid_segs``, ``flip``.

        Returns:
            dict: with ``heatmap_mask`` (1, H, W) bool: True where more than half of a cell is valid.
        """
        results = super().transform(results)
        invalid = results['heatmap_mask'].astype(np.float32)
        invalid = cv2.resize(invalid, self.heatmap_size, interpolation=cv2.INTER_AREA)
        results['heatmap_mask'] = (invalid < 0.5)[None]
        return results
