"""Cases of exported files: time of the shipped model exported and compiled, against the same model in torch.

Images have a fixed number of people: omega is so low that each runs all its ``max_instances`` steps.
"""

from __future__ import annotations

import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import torch
from mmengine.model import BaseModel
from torch import Tensor

from rnnpose_plugin.export.command import ExportOptions, export_model, load_model
from rnnpose_runtime import Poser

from .measure import Ratio, Row, Timer

ROOT = Path(__file__).resolve().parents[2]
CONFIG = str(ROOT / 'configs/rnnpose_context_crowdbench.py')
CHECKPOINT = str(ROOT / 'model_zoo/rnnpose_context_crowdbench.pth')
NEVER = 1e-12  # omega; a stop probability is larger
NUMBERS = (1, 5, 20)  # people
MOST_SECONDS = 600  # that torch.compile may take
CLOSE = 0.05  # pixels


@torch.no_grad()
def decode_eagerly(model: BaseModel, image: Tensor) -> np.ndarray:
    """What ``test_step`` does with one image, without data samples.

    Args:
        model (BaseModel): in evaluation mode.
        image (Tensor): (1, 3, h, w) uint8 in RGB.

    Returns:
        np.ndarray: keypoints (n, K, 2), in pixels.
    """
    norm, head = model.data_preprocessor, model.head
    (people,) = head(model.extract_feat((image.float() - norm.mean) / norm.std))
    keypoints, _, scores = head.decoder.decode(people)
    return keypoints[scores > 0]


def exported(name: str, timer: Timer) -> dict:
    """Torch against the forms ``whole`` and ``steps`` in onnxruntime and against torch.compile, on equal threads."""
    pixels = np.random.default_rng(0).integers(0, 256, (128, 128, 3), dtype=np.uint8)
    image = torch.from_numpy(pixels).permute(2, 0, 1)[None].contiguous()
    compiled, reason = _compile(image)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        steps = _export(max(NUMBERS), 'steps', Path(folder))
        for people in NUMBERS:
            whole, model = _export(people, 'whole', Path(folder)), _model(people)
            compiled.head.max_instances = steps.metadata['max_people'] = people
            runs = {'export, whole': partial(_poses, whole, pixels), 'export, steps': partial(_poses, steps, pixels)}
            if not reason:
                runs['torch.compile'] = partial(decode_eagerly, compiled, image)
            for what, run in runs.items():
                ratio = _ratio(what, run, partial(decode_eagerly, model, image), timer)
                rows.append(Row(f'speed-up from {what}, people: {people}', name, ratio.value, str(ratio)))
    if reason:
        rows.append(Row('speed-up from torch.compile', name, float('nan'), f'not measured: {reason}'))
    return dict(rows=rows)


def _model(people: int) -> BaseModel:
    model = load_model(CONFIG, CHECKPOINT)
    model.head.stop_threshold, model.head.max_instances = NEVER, people
    return model.eval()  # with channels-last weights


def _export(people: int, form: str, folder: Path) -> Poser:
    out = folder / (f'{people}.onnx' if form == 'whole' else str(people))
    export_model(_model(people), CHECKPOINT, str(out), ExportOptions(form))
    return Poser(out, threads=torch.get_num_threads())


def _poses(poser: Poser, pixels: np.ndarray) -> np.ndarray:
    return np.stack([person.keypoints for person in poser(pixels)])


def _ratio(what: str, run: Callable[[], np.ndarray], eager: Callable[[], np.ndarray], timer: Timer) -> Ratio:
    """The time of torch over that of another way, which has to find the same."""
    found, expected = run(), eager()
    if found.shape != expected.shape or np.abs(found - expected).max() > CLOSE:
        raise ArithmeticError(f'{what}: other keypoints than in torch')
    return timer.ratio(eager, run)


def _compile(image: Tensor) -> tuple[BaseModel, str]:
    """Backbone and step through torch.compile, as the loop over people stays in Python; and why it does not work."""
    model = _model(max(NUMBERS))
    model.backbone.forward = torch.compile(model.backbone.forward)
    model.head.first_lstm.step = torch.compile(model.head.first_lstm.step)
    try:
        with _time_limit(MOST_SECONDS):
            decode_eagerly(model, image)
    except Exception as error:  # of dynamo, of its backend, of the C++ compiler that it calls
        return model, next(iter(str(error).splitlines()), '') or type(error).__name__
    return model, ''


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    def stop(*_: object) -> None:
        raise TimeoutError(f'it took more than {seconds:g} s')

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
