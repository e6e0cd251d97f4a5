"""Poses from the files of ``tools/export.py``, with numpy and onnxruntime alone::

    people = Poser('model.onnx')(image)

This file stands alone: without torch, MMPose or the rest of the package it may be installed or copied.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnxruntime

CONTRACT = 1  # of the files that this module reads
FORMS = ('whole', 'steps', 'unrolled')


@dataclass
class Person:
    """One person.

    Args:
        keypoints (np.ndarray): (K, 2) float32, x and y in pixels of the image, (0, 0) the centre of the first pixel.
        keypoint_scores (np.ndarray): (K,) float32; 0 where the joint was not found, whose place then means little.
        score (float): by which people are ranked.
        stop_probability (float, optional): that this is one more person; known for the form ``steps`` only.
    """

    keypoints: np.ndarray
    keypoint_scores: np.ndarray
    score: float
    stop_probability: float | None = None


class Poser:
    """An exported model.

    Args:
        path (str): the file, or for the form ``steps`` the folder.
        input_size (tuple[int, int], optional): width and height that images are fitted into, multiples of the file's
            ``size_multiple``. Defaults to None, the size of the config.
        threads (int, optional): of onnxruntime. Defaults to None, its own choice.
        providers (list, optional): of onnxruntime. Defaults to None, the CPU's.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: for a file of another kind, two files that do not belong together, or a size that does not fit.
    """

    def __init__(
        self,
        path: str,
        input_size: tuple[int, int] | None = None,
        threads: int | None = None,
        providers: list | None = None,
    ) -> None:
        path = os.fspath(path)
        names = ('encode.onnx', 'step.onnx')
        files = [os.path.join(path, name) for name in names] if os.path.isdir(path) else [path]
        self.sessions = [_open(file, threads, providers or ['CPUExecutionProvider']) for file in files]
        self.metadata = _read_metadata(self.sessions[0], files[0])
        if (self.metadata['form'] == 'steps') != (len(files) == 2):
            raise ValueError(f"{path} is one of two files of the form 'steps'; give the folder that holds both.")
        if len(files) == 2 and _read_metadata(self.sessions[1], files[1])['pair'] != self.metadata['pair']:
            raise ValueError(f'{files[0]} and {files[1]} come from two exports; export again.')
        self.input_size = self._checked(tuple(input_size or self.metadata['input_size']))

    def _checked(self, size: tuple[int, int]) -> tuple[int, int]:
        multiple = self.metadata['size_multiple']
        if not multiple and size != tuple(self.metadata['input_size']):
            raise ValueError(f'input_size is {size}, but the file takes {tuple(self.metadata["input_size"])} only.')
        if multiple and any(side <= 0 or side % multiple for side in size):
            raise ValueError(f'input_size is {size}; use multiples of {multiple} pixels.')
        return size

    def __call__(self, image: np.ndarray, channels: str = 'rgb') -> list[Person]:
        """Everybody in an image.

        Args:
            image (np.ndarray): (height, width, 3) uint8, of any size, or (height, width) for a grey one.
            channels (str): ``'rgb'``, or ``'bgr'`` for what OpenCV reads. Defaults to ``'rgb'``.

        Returns:
            list[Person]: in the order in which the model found them.

        Raises:
            ValueError: for an array that is no such image.
        """
        if self.metadata['form'] == 'steps':
            return list(self.stream(image, channels))
        fitted, to_image = self._fit(image, channels)
        keypoints, scores, counts = self.sessions[0].run(None, {'image': fitted})
        return [_person(keypoints[0, n], scores[0, n], to_image) for n in range(counts[0])]

    def stream(self, image: np.ndarray, channels: str = 'rgb', stop_threshold: float | None = None) -> Iterator[Person]:
        """People one after the other, each as soon as it is found; for the form ``steps``.

        Args:
            image (np.ndarray): as for a call.
            channels (str): as for a call. Defaults to ``'rgb'``.
            stop_threshold (float, optional): the first step with a lower stop probability ends it. Defaults to None,
                the model's omega. With 0 all ``max_people`` steps are run, and the caller stops.

        Yields:
            Person: with its stop probability. Those without a single joint are left out.

        Raises:
            ValueError: for another form.
        """
        if self.metadata['form'] != 'steps':
            raise ValueError(
                f"stream needs the form 'steps', and this file is {self.metadata['form']!r}; export again."
            )
        omega = self.metadata['omega'] if stop_threshold is None else stop_threshold
        encode, step = self.sessions
        fitted, to_image = self._fit(image, channels)
        _, *names = [given.name for given in step.get_inputs()]
        encoded = dict(zip(names, encode.run(names, {'image': fitted})))
        states = [name for name in names if not name.startswith('maps_')]
        for number in range(self.metadata['max_people']):
            keypoints, scores, stops, *new = step.run(None, {'number': np.array(number, np.int64), **encoded})
            if stops[0] < omega:
                return
            encoded.update(zip(states, new))
            if scores[0] > 0:
                yield _person(keypoints[0], scores[0], to_image, float(stops[0]))

    def _fit(self, image: np.ndarray, channels: str) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
        if channels not in ('rgb', 'bgr'):
            raise ValueError(f"channels is {channels!r}; use 'rgb' or 'bgr'.")
        image = np.asarray(image)
        if image.ndim == 2:
            image = np.repeat(image[..., None], 3, axis=2)
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
            raise ValueError(
                f'the image is {image.dtype} of shape {image.shape}; give uint8 (height, width, 3) or (height, width).'
            )
        fitted, to_image = letterbox(image[..., ::-1] if channels == 'bgr' else image, self.input_size)
        return np.ascontiguousarray(fitted.transpose(2, 0, 1)[None], self.metadata['image_type']), to_image


def letterbox(image: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """Fit an image into a size with its sides' ratio kept and black around it, as MMPose's BottomupResize does.

    Args:
        image (np.ndarray): (height, width, 3) uint8.
        size (tuple[int, int]): width and height in pixels.

    Returns:
        tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]: (size's height, width, 3) uint8; and scale and offset, (2,)
        each, so that ``pixel of image = scale * pixel of size + offset``.
    """
    sides = np.array([image.shape[1], image.shape[0]], np.float64)
    target = np.array(size, np.float64)
    scale = np.repeat((sides / target).max(), 2)
    offset = sides / 2 - scale * target / 2
    fitted = image.astype(np.float32)
    for axis, side in ((1, 0), (0, 1)):
        fitted = _resample(fitted, axis, size[side], scale[side], offset[side])
    return np.rint(fitted).astype(np.uint8), (scale, offset)


def _resample(image: np.ndarray, axis: int, length: int, scale: float, offset: float) -> np.ndarray:
    """Linear along one axis, with 0 beyond the image; in float32, as OpenCV 5 does."""
    places = np.arange(length, dtype=np.float32) * np.float32(scale) + np.float32(offset)
    lower = np.floor(places)
    weight = (places - lower)[(...,) + (None,) * (2 - axis)]
    index = lower.astype(np.int64) + 1  # of the padded image
    padded = np.pad(image, [(int(axis == k),) * 2 for k in range(3)])
    below, above = (np.take(padded, (index + k).clip(0, image.shape[axis] + 1), axis) for k in (0, 1))
    return below + weight * (above - below)


def _person(
    keypoints: np.ndarray, score: np.ndarray, to_image: tuple[np.ndarray, np.ndarray], stop: float | None = None
) -> Person:
    scale, offset = to_image
    places = (keypoints[:, :2] * scale + offset).astype(np.float32)
    return Person(places, keypoints[:, 2].copy(), float(score), stop)


def _open(path: str, threads: int | None, providers: list) -> onnxruntime.InferenceSession:
    if not os.path.isfile(path):
        raise FileNotFoundError(f'{path} does not exist; check the path, or write it by tools/export.py.')
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if threads is not None:
        options.intra_op_num_threads = threads
    try:
        return onnxruntime.InferenceSession(path, options, providers=providers)
    except Exception as error:  # onnxruntime's errors have no class in common
        raise ValueError(f'{path} is no model that onnxruntime {onnxruntime.__version__} reads: {error}') from error


def _is_json(text: str) -> bool:
    """What other programs note in a file is not."""
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _read_metadata(session: onnxruntime.InferenceSession, path: str) -> dict:
    texts = session.get_modelmeta().custom_metadata_map
    if 'contract' not in texts:
        raise ValueError(f'{path} was not written by tools/export.py; export the model with it.')
    metadata = {name: json.loads(text) for name, text in texts.items() if _is_json(text)}
    if metadata['contract'] != CONTRACT or metadata['form'] not in FORMS:
        raise ValueError(
            f'{path} has contract {metadata["contract"]}, form {metadata["form"]!r}, and this module reads contract '
            f'{CONTRACT}; use the module of the version that wrote it, {metadata.get("version")}.'
        )
    return metadata
