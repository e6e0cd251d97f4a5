"""The convolutions of a step in int8, with ranges of values measured on images."""

from __future__ import annotations

import logging
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from ..runtime.prediction_inputs import find_inputs

IMAGES = 60  # the first so many are shown
STEPS = 64  # at most so many steps of them, evenly spaced, are measured
MOST_CHANGE = 0.1  # mean change of a stop probability


class _Recorder:
    """A session that keeps the input and stop probability of every step, and of fewer steps the more there are."""

    def __init__(self, session: Any) -> None:
        self.session, self.get_inputs = session, session.get_inputs
        self.count, self.every, self.kept = 0, 1, []

    def run(self, names: None, feed: dict[str, np.ndarray]) -> list[np.ndarray]:
        results = self.session.run(names, feed)
        if self.count % self.every == 0:
            self.kept.append((feed, float(results[2][0])))
        if len(self.kept) > STEPS:
            self.kept, self.every = self.kept[::2], 2 * self.every
        self.count += 1
        return results


def quantise_step(folder: Path, images: str, facts: dict) -> None:
    """Replace ``step.onnx`` by one with int8 convolutions.

    The encoder stays in float32: in int8 it was not faster and AP fell by 2. Everything but convolutions stays too.

    Args:
        folder (Path): with ``encode.onnx`` and ``step.onnx``.
        images (str): an image, folder or pattern, of the kind that the file is for.
        facts (dict[str, str]): metadata of the new file.

    Raises:
        FileNotFoundError: without images.
        ValueError: if no step could be measured.
        ArithmeticError: if the stop probabilities change too much.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quant_pre_process, quantize_static

    recorded, step = _record(folder, images), folder / 'step.onnx'
    logging.getLogger().addFilter(_no_advice)
    with TemporaryDirectory() as scratch:
        folded = Path(scratch, 'step.onnx')  # the share of a weight that a slice cuts off becomes a weight
        quant_pre_process(str(step), str(folded), skip_symbolic_shape=True)
        quantize_static(str(folded), str(step), _Feeds(recorded), op_types_to_quantize=['Conv'], per_channel=True,
                        weight_type=QuantType.QInt8, activation_type=QuantType.QUInt8)  # fmt: skip
    logging.getLogger().removeFilter(_no_advice)
    written = onnx.load(step)
    del written.metadata_props[:]
    onnx.helper.set_model_props(written, facts)
    onnx.save(written, step)
    _check(step, recorded)


def _record(folder: Path, images: str) -> list[tuple[dict, float]]:
    from rnnpose_runtime import Poser  # needs onnxruntime

    poser = Poser(folder)
    recorder = poser.sessions[1] = _Recorder(poser.sessions[1])
    for _, _, image in islice(find_inputs(images), IMAGES):
        if image is not None:
            list(poser.stream(image, channels='bgr'))
    if not recorder.kept:
        raise ValueError(f'--int8 {images}: none of its images can be read; give images like those to come.')
    return recorder.kept


class _Feeds:
    """As ``CalibrationDataReader`` of onnxruntime: one feed after the other, then None."""

    def __init__(self, recorded: list[tuple[dict, float]]) -> None:
        self._feeds = (feed for feed, _ in recorded)

    def get_next(self) -> dict | None:
        return next(self._feeds, None)


def _no_advice(record: logging.LogRecord) -> bool:
    return 'pre-processing before quantization' not in record.getMessage()


def _check(step: Path, recorded: list[tuple[dict, float]]) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(step), providers=['CPUExecutionProvider'])
    change = np.mean([abs(session.run(['stop_probability'], feed)[0][0] - stop) for feed, stop in recorded])
    if not change < MOST_CHANGE:
        raise ArithmeticError(
            f'in int8 the stop probabilities change by {change:.2f} on average, and {MOST_CHANGE} is the most; leave '
            '--int8 out, or give other images.'
        )
