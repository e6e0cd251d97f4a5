from __future__ import annotations

import cv2
import numpy as np
import xtcocotools.mask as coco_mask
from mmpose.datasets.transforms import BottomupGetHeatmapMask
from mmpose.registry import TRANSFORMS


@TRANSFORMS.register_module()
class InstanceHeatmapMask(BottomupGetHeatmapMask):
    """Where the picture is annotated, at the heatmaps' size: not in crowd regions, not on people without joints.

    The toolbox's transform takes its size from ``heatmaps`` among the targets, which are not shipped here, and it
    passes over every segmentation that is not a list, which is to say over COCO's crowd regions: those are RLE dicts.

    Args:
        heatmap_size (tuple[int, int]): [W, H] in cells.
    """

    def __init__(self, heatmap_size: tuple[int, int]) -> None:
        # Asked for the invalid region, the toolbox's warp leaves what lies outside the picture valid: nobody is
        # there, and the decoder has to learn to show nobody there.
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
            dict: with ``heatmap_mask`` (1, H, W) bool: true where more than half of a cell is annotated.
        """
        results = super().transform(results)
        invalid = results['heatmap_mask'].astype(np.float32)
        invalid = cv2.resize(invalid, self.heatmap_size, interpolation=cv2.INTER_AREA)
        results['heatmap_mask'] = (invalid < 0.5)[None]
        return results
