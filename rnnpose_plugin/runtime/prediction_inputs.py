"""What a prediction reads: an image, a folder, a glob pattern, a video or a camera."""

from __future__ import annotations

import glob
import itertools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import mmcv
import numpy as np
from torchvision.datasets.folder import IMG_EXTENSIONS

from ..datasets.loading import LoadPoseImage


class Images:
    """Image files, read one after the other; one that cannot be read is remembered in ``unreadable`` and left out.

    Args:
        paths (Sequence[str]): The files, at least one.
    """

    def __init__(self, paths: Sequence[str]) -> None:
        self.paths = list(paths)
        folder = os.path.commonpath([os.path.dirname(os.path.abspath(path)) for path in paths])
        self.names = [os.path.relpath(os.path.abspath(path), folder) for path in paths]
        stems = [Path(path).stem for path in paths]
        numbered = all(stem.isdecimal() for stem in stems) and len({int(stem) for stem in stems}) == len(stems)
        self.ids = [int(stem) for stem in stems] if numbered else list(range(1, len(stems) + 1))  # COCO's names are ids
        self.unreadable: list[str] = []

    def __len__(self) -> int:
        return len(self.paths)

    def __iter__(self) -> Iterator[tuple[int, str, np.ndarray | None]]:
        """Id, name and the image (h, w, 3) uint8 BGR, None where it cannot be read."""
        load = LoadPoseImage()
        for number, name, path in zip(self.ids, self.names, self.paths):
            try:
                yield number, name, load(dict(img_path=path))['img']
            except (OSError, ValueError) as error:
                self.unreadable.append(f'image {path} could not be read ({error})')
                yield number, name, None


class Video:
    """The frames of a video, numbered from 1.

    Args:
        path (str): The file.

    Raises:
        ValueError: if no frame of it can be decoded.
    """

    def __init__(self, path: str) -> None:
        self.paths, self.name = [path], os.path.basename(path)
        if mmcv.VideoReader(path).read() is None:
            raise ValueError(f'{path} is neither an image nor a video that OpenCV can decode; give another file')
        self.reader = mmcv.VideoReader(path)
        self.fps = self.reader.fps if 0 < self.reader.fps < 1000 else 25.0
        self.unreadable: list[str] = []

    def __len__(self) -> int:
        """0 of a stream of unknown length, for which OpenCV gives a negative number."""
        return max(self.reader.frame_cnt, 0)

    def __iter__(self) -> Iterator[tuple[int, str, np.ndarray | None]]:
        """Number, name such as ``video.mp4#1`` and the frame (h, w, 3) uint8 BGR."""
        for number, frame in enumerate(self.reader, start=1):
            yield number, f'{self.name}#{number}', frame


class Camera(Video):
    """The frames of a camera, until it is stopped or gives none.

    Args:
        number (int): Of the device, from 0.

    Raises:
        ValueError: if it gives no frame.
    """

    def __init__(self, number: int) -> None:
        self.paths, self.name, self.unreadable = [], f'camera{number}', []
        set_level = getattr(cv2, 'setLogLevel', None) or cv2.utils.logging.setLogLevel  # of OpenCV 4, and of 5
        level = set_level(0)  # OpenCV would report in several lines what is said below
        self.reader = cv2.VideoCapture(number)
        set_level(level)
        if not self.reader.read()[0]:
            raise ValueError(
                f'camera {number} gives no frame; connect it, close other programs that use it, or give another number'
            )
        fps = self.reader.get(cv2.CAP_PROP_FPS)
        self.fps = fps if 0 < fps < 1000 else 25.0

    def __len__(self) -> int:
        """0, unknown."""
        return 0

    def __iter__(self) -> Iterator[tuple[int, str, np.ndarray | None]]:
        """Number, name such as ``camera0#1`` and the frame (h, w, 3) uint8 BGR."""
        for number in itertools.count(1):
            read, frame = self.reader.read()
            if not read:
                return
            yield number, f'{self.name}#{number}', frame


def find_inputs(name: str) -> Images | Video:
    """Find what a command-line argument names.

    Args:
        name (str): An image, a video, a folder, whose images are taken in the order of their names, without
            subfolders, a glob pattern, ``**`` for all subfolders, or the number of a camera, from 0.

    Returns:
        Images | Video: at least one image, or a video with at least one frame.

    Raises:
        FileNotFoundError: if there is no such file, or no image among them.
        ValueError: if a file is neither an image nor a video, or a camera gives no frame.
    """
    if os.path.isfile(name):
        return Images([name]) if is_image(name) else Video(name)
    if os.path.isdir(name):
        found, where = [entry.path for entry in os.scandir(name)], f'the folder {name} has'
    elif name.isdecimal():
        return Camera(int(name))
    elif glob.has_magic(name):
        found, where = glob.glob(name, recursive=True), f'the pattern {name!r} matches'
    else:
        raise FileNotFoundError(f'{name!r} is no file, folder or pattern of files; check the path')
    images = sorted(path for path in found if is_image(path) and os.path.isfile(path))
    if not images:
        raise FileNotFoundError(f'{where} no image ({", ".join(sorted(IMG_EXTENSIONS))}); give another one')
    return Images(images)


def is_image(path: str) -> bool:
    """Whether a file's name is that of an image.

    Args:
        path (str): The file.

    Returns:
        bool: By its extension.
    """
    return path.lower().endswith(IMG_EXTENSIONS)
