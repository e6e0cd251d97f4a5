"""Images given as arrays at inference: grey and transparent ones as B, G, R; refusing what is no image of 0 to 255."""

from __future__ import annotations

from typing import Any

import numpy as np

CURE = 'give a path, or an array of shape (height, width, 3) in the order B, G, R with values from 0 to 255'


def as_bgr(image: Any) -> np.ndarray:
    """The array that the network is trained on.

    Args:
        image (Any): what the user gave; an array (h, w), (h, w, 1), (h, w, 3) or (h, w, 4), whose alpha is left out.

    Returns:
        np.ndarray: (h, w, 3), float32 where floats were given, else uint8.

    Raises:
        ValueError: for what is no array, another shape, or values of another range.
    """
    if not isinstance(image, np.ndarray):
        what = (
            'None, as readers give for a file that they cannot read' if image is None else f'a {type(image).__name__}'
        )
        raise ValueError(f'the image is {what}; {CURE}')
    if image.dtype.kind not in 'buif':
        raise ValueError(f'the image has the dtype {image.dtype}; {CURE}')
    shaped = image[..., None] if image.ndim == 2 else image
    if shaped.ndim != 3 or shaped.shape[-1] not in (1, 3, 4) or not shaped.size:
        raise ValueError(f'the image has the shape {image.shape}; {CURE}')
    _check_range(image)
    if shaped.shape[-1] != 3:
        shaped = np.repeat(shaped, 3, axis=-1) if shaped.shape[-1] == 1 else shaped[..., :3]
    return np.ascontiguousarray(shaped, np.float32 if image.dtype.kind == 'f' else np.uint8)


def _check_range(image: np.ndarray) -> None:
    """Whole numbers lie in 0 to 255; floats may exceed it a little, as after bicubic resizing, but fill it."""
    low, high = float(image.min()), float(image.max())
    if image.dtype.kind in 'ui':
        fits = 0 <= low and high <= 255
    else:
        fits = low == high == 0 or (-255 <= low and (4 if low < 0 else 1) < high <= 510)
    if not fits:
        cure = 'multiply by 255' if 0 <= low and high <= 1 else 'convert them to 0 to 255'
        raise ValueError(f'the image has {image.dtype} values from {low:.4g} to {high:.4g}; {cure}')
