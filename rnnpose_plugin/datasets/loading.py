"""Image loading with clear errors."""

from __future__ import annotations

import io
import os
from typing import NamedTuple

import cv2
import mmcv
import mmengine.fileio as fileio
import numpy as np
from mmpose.datasets.transforms import LoadImage
from mmpose.registry import TRANSFORMS
from PIL import Image

from .given_image import as_bgr

# First bytes and last bytes of a whole file: JPEG, PNG.
MARKS = ((b'\xff\xd8', b'\xff\xd9'), (b'\x89PNG', b'IEND\xaeB`\x82'))
ORIENTATION = 0x0112  # EXIF; from 5 on width and height are exchanged
MOST_PIXELS = 2 * Image.MAX_IMAGE_PIXELS  # 179 million: Pillow opens no larger image


@TRANSFORMS.register_module()
class LoadPoseImage(LoadImage):
    """MMPose's ``LoadImage`` with a one-sentence error for a missing, undecodable, cut-off or gigantic image.

    Depending on its version, OpenCV returns a cut-off image with the missing part in grey, or None. A JPEG or PNG that
    does not end with its end mark is therefore decoded once more by Pillow, which refuses incomplete files.

    MMPose rotates images as their EXIF data say. Here an image is left as stored if only then its size is the annotated
    one; an image that has another size either way is refused.
    All arguments are those of ``LoadImage``.
    """

    def transform(self, results: dict) -> dict | None:
        """Read ``results['img_path']`` unless the image is loaded already, as an array at inference.

        Args:
            results (dict): The result dict; optionally with ``annotated_size`` (height, width).

        Returns:
            dict | None: The result dict with ``img``, ``img_shape`` and ``ori_shape``; None for an unreadable image
            with ``ignore_empty``.

        Raises:
            FileNotFoundError: for a missing image.
            ValueError: for one that cannot be decoded, or has another size than annotated.
        """
        if isinstance(results.get('img'), os.PathLike):  # inference_bottomup takes only a str for a path
            results['img_path'] = os.fspath(results.pop('img'))
        if 'img' in results:
            in_colour = self.color_type.startswith('color')
            return super().transform(dict(results, img=as_bgr(results['img'])) if in_colour else results)
        size = results.get('annotated_size') or (None, None)
        # At inference the sample has the model's metainfo, but no image id.
        annotated = 'img_id' in results or 'dataset_name' not in results
        try:
            image = self._read(results['img_path'], None if None in size else tuple(size), annotated)
        except (OSError, ValueError):
            if self.ignore_empty:
                return None
            raise
        results['img'] = image.astype(np.float32) if self.to_float32 else image
        results['img_shape'] = results['ori_shape'] = image.shape[:2]
        return results

    def _read(self, path: str, size: tuple[int, int] | None, annotated: bool) -> np.ndarray:
        data = self._bytes(path, annotated)
        header = read_header(io.BytesIO(data), path)
        if header and size and size not in (header.shown, header.stored):
            refuse_size(path, header.shown, size)
        if is_cut_off(data):
            raise ValueError(f'image {path} is cut off after {len(data)} bytes; fetch it again')
        image = self._decode(data, self.color_type)
        if image is None:
            cure = 'replace it' + (' or take it out of the annotation file' if annotated else '')
            raise ValueError(f'image {path} cannot be decoded ({len(data)} bytes); {cure}')
        if size and image.shape[:2] != size and self.color_type in ('color', 'grayscale'):
            image = self._decode(data, f'{self.color_type}_ignore_orientation')
        if size and image.shape[:2] != size:
            refuse_size(path, image.shape[:2], size)
        return image

    def _bytes(self, path: str, annotated: bool) -> bytes:
        if os.path.exists(path) and not os.path.isfile(path):
            raise ValueError(f'image {path} is a folder, a device or a pipe; name an image file')
        try:
            return fileio.get(path, backend_args=self.backend_args)
        except FileNotFoundError:
            cure = 'check data_root and data_prefix' if annotated else 'check the path'
            raise FileNotFoundError(f'image {path} does not exist; {cure}') from None
        except OSError as error:  # of a server, which does not name the image
            raise OSError(f'image {path} cannot be read: {error}') from None

    def _decode(self, data: bytes, flag: str) -> np.ndarray | None:
        try:
            return mmcv.imfrombytes(data, flag=flag, backend=self.imdecode_backend) if data else None
        except cv2.error:  # of a codec that OpenCV was built without, such as OpenEXR
            return None


class Header(NamedTuple):
    """The size of an image without its pixels.

    Args:
        stored: Height and width as stored.
        shown: Height and width after the rotation that its EXIF data ask for.
        turned: Whether they ask for one.
    """

    stored: tuple[int, int]
    shown: tuple[int, int]
    turned: bool


def read_header(source: str | io.BytesIO, path: str = '') -> Header | None:
    """Read the size of an image.

    Args:
        source (str | io.BytesIO): Path or content of the file.
        path (str): Its path, where that is not the source. Defaults to ''.

    Returns:
        Header | None: None for a file that Pillow does not know.

    Raises:
        ValueError: for more pixels than ``MOST_PIXELS``, which a small file may claim.
    """
    try:
        with Image.open(source) as image:
            width, height = image.size
            # Pillow decodes a whole PNG to find EXIF data behind its pixels.
            has_exif = image.format != 'PNG' or 'exif' in image.info
            orientation = image.getexif().get(ORIENTATION, 1) if has_exif else 1
    except Image.DecompressionBombError:
        raise ValueError(
            f'image {path or source} has more than {MOST_PIXELS // 10**6} million pixels; scale it and its annotations '
            'down'
        ) from None
    except Exception:  # what Pillow raises depends on the format; OpenCV may know others
        return None
    shown = (width, height) if orientation in (5, 6, 7, 8) else (height, width)
    return Header((height, width), shown, orientation in range(2, 9))


def refuse_size(path: str, size: tuple[int, int], annotated: tuple[int, int]) -> None:
    """Raise the error for an image of another size than annotated.

    Args:
        path (str): Of the image.
        size (tuple[int, int]): Its height and width, pixels.
        annotated (tuple[int, int]): Those of the annotation file.

    Raises:
        ValueError: always.
    """
    swapped = tuple(size) == tuple(annotated)[::-1]
    cure = 'correct its width and height, which are exchanged' if swapped else 'correct it or fetch the image again'
    raise ValueError(
        f'image {path} has {size[0]} x {size[1]} pixels (height x width) but the annotation file says '
        f'{annotated[0]} x {annotated[1]}; {cure}'
    )


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
