from __future__ import annotations

import cv2
import numpy as np
import xtcocotools.mask as coco_mask
from mmpose.datasets.transforms import BottomupGetHeatmapMask
from mmpose.registry import TRANSFORMS


@TRANSFORMS.register_module()
class InstanceHeatmapMask(BottomupGetHeatmapMask):
    """The mask of the heatmap loss: False in crowd regions and on people without joints.

    MMPose's transform takes its size from ``heatmaps`` among the targets, which the data loader does not produce here,
    and it skips every segmentation that is not a list: COCO's crowd regions, which are RLE dicts.

    Args:
        heatmap_size (tuple[int, int]): [W, H] in cells.
    """

    def __init__(self, heatmap_size: tuple[int, int]) -> None:
        # get_invalid makes MMPose's warp keep the area outside the image valid: there are no people in it, and the
        # decoder has to learn that.
        super().__init__(get_invalid=True)
        self.heatmap_size = tuple(heatmap_size)

    def _segs_to_mask(self, segs: list, img_shape: tuple[int, int]) -> np.ndarray:
        mask = super()._segs_to_mask(segs, img_shape)
        for seg in segs:
            if isinstance(seg, dict):
                rle = coco_mask.frPyObjects(seg, *img_shape) if isinstance(seg['counts'], list) else seg
                mask = np.maximum(mask, coco_mask.decode(rle))
        return mask

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
