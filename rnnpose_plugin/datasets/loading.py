"""Image loading with clear errors."""

from __future__ import annotations

import io
import os

import mmcv
import mmengine.fileio as fileio
import numpy as np
from mmpose.datasets.transforms import LoadImage
from mmpose.registry import TRANSFORMS
from PIL import Image

from .given_image import as_bgr

# First bytes and last bytes of a whole file: JPEG, PNG.
MARKS = ((b'\xff\xd8', b'\xff\xd9'), (b'\x89PNG', b'IEND\xaeB`\x82'))


@TRANSFORMS.register_module()
class LoadPoseImage(LoadImage):
    """MMPose's ``LoadImage`` with a one-sentence error for a missing, undecodable or cut-off image.

    Depending on its version, OpenCV returns a cut-off image with the missing part in grey, or None. A JPEG or PNG that
    does not end with its end mark is therefore decoded once more by Pillow, which refuses incomplete files.
    All arguments are those of ``LoadImage``.
    """

    def transform(self, results: dict) -> dict | None:
        """Read ``results['img_path']`` unless the image is loaded already, as an array at inference.

        Args:
            results (dict): The result dict.

        Returns:
            dict | None: The result dict with ``img``, ``img_shape`` and ``ori_shape``; None for an unreadable image
            with ``ignore_empty``.
        """
        if isinstance(results.get('img'), os.PathLike):  # inference_bottomup takes only a str for a path
            results['img_path'] = os.fspath(results.pop('img'))
        if 'img' in results:
            in_colour = self.color_type.startswith('color')
            return super().transform(dict(results, img=as_bgr(results['img'])) if in_colour else results)
        try:
            # At inference the sample has the model's metainfo, but no image id.
            image = self._read(results['img_path'], annotated='img_id' in results or 'dataset_name' not in results)
        except (OSError, ValueError):
            if self.ignore_empty:
                return None
            raise
        results['img'] = image.astype(np.float32) if self.to_float32 else image
        results['img_shape'] = results['ori_shape'] = image.shape[:2]
        return results

    def _read(self, path: str, annotated: bool) -> np.ndarray:
        try:
            data = fileio.get(path, backend_args=self.backend_args)
        except FileNotFoundError:
            cure = 'check data_root and data_prefix' if annotated else 'check the path'
            raise FileNotFoundError(f'image {path} does not exist; {cure}') from None
        if is_cut_off(data):
            raise ValueError(f'image {path} is cut off after {len(data)} bytes; fetch it again')
        image = mmcv.imfrombytes(data, flag=self.color_type, backend=self.imdecode_backend) if data else None
        if image is None:
            cure = 'replace it' + (' or take it out of the annotation file' if annotated else '')
            raise ValueError(f'image {path} cannot be decoded ({len(data)} bytes); {cure}')
        return image


def is_cut_off(data: bytes) -> bool:
    """Whether a JPEG or PNG ends too early. Other formats are not checked.

    Args:
        data (bytes): The file.

    Returns:
        bool: True if the end mark is missing and Pillow cannot decode the whole image either.
    """
    suspicious = any(data.startswith(start) and not data.endswith(end) for start, end in MARKS)
    return suspicious and not _is_decodable(data)  # cameras append data of their own, so decode to be sure


def _is_decodable(data: bytes) -> bool:
    try:
        Image.open(io.BytesIO(data)).load()
    except (OSError, SyntaxError):  # Pillow raises SyntaxError for a broken PNG
        return False
    return True
