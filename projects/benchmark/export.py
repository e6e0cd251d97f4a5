"""Time of the shipped model exported, against the same model in torch: ``python -m projects.benchmark.export``.

Images have a fixed number of people: omega is so low that each runs all its ``max_instances`` steps.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from mmengine.model import BaseModel
from torch import Tensor

from projects.markdown import align
from rnnpose_plugin.export.command import ExportOptions, export_model, load_model
from rnnpose_plugin.runtime.errors import one_sentence_errors
from rnnpose_runtime import Poser

from .measure import Ratio, Timer, machine

ROOT = Path(__file__).resolve().parents[2]
CONFIG = str(ROOT / 'configs/rnnpose_context_crowdbench.py')
CHECKPOINT = str(ROOT / 'model_zoo/rnnpose_context_crowdbench.pth')
NEVER = 1e-12  # omega; a stop probability is larger


@torch.no_grad()
def decode_eagerly(model: BaseModel, image: Tensor) -> list[np.ndarray]:
    """What ``test_step`` does, without data samples.

    Args:
        model (BaseModel): in evaluation mode.
        image (Tensor): (1, 3, h, w) uint8 in RGB.

    Returns:
        list[np.ndarray]: keypoints (n, K, 2) of each image, in pixels.
    """
    norm, head = model.data_preprocessor, model.head
    people = head(model.extract_feat((image.float() - norm.mean) / norm.std))
    decoded = [head.decoder.decode(found) for found in people]
    return [keypoints[scores > 0] for keypoints, _, scores in decoded]


def compare(model: BaseModel, people: int, folder: Path, timer: Timer, threads: int) -> dict[str, Ratio]:
    """Time of torch over that of each form, on one image with a number of people.

    Args:
        model (BaseModel): the shipped model; its head is changed.
        people (int): on the image.
        folder (Path): for the exported files.
        timer (Timer): the timer.
        threads (int): of onnxruntime; torch's are set already.

    Returns:
        dict[str, Ratio]: by the name of the form.

    Raises:
        ArithmeticError: if a form gives other keypoints.
    """
    model.head.stop_threshold, model.head.max_instances = NEVER, people
    pixels = np.random.default_rng(0).integers(0, 256, (128, 128, 3), dtype=np.uint8)
    image = torch.from_numpy(pixels).permute(2, 0, 1)[None].contiguous()
    runs: dict[str, Callable[[], object]] = {}
    for form in ('whole', 'steps'):
        out = folder / (f'{people}.onnx' if form == 'whole' else f'{people}')
        export_model(model, CHECKPOINT, str(out), ExportOptions(form))
        poser = Poser(out, threads=threads)
        runs[form] = lambda poser=poser: poser(pixels)
        found = np.stack([person.keypoints for person in runs[form]()])
        if np.abs(found - decode_eagerly(model.eval(), image)[0]).max() > 0.05:
            raise ArithmeticError(f'the form {form} gives other keypoints than torch')
    model.eval()  # the export left the weights in the usual memory order, and torch is faster with the other
    return {form: timer.ratio(lambda: decode_eagerly(model, image), run) for form, run in runs.items()}


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description='Time of the shipped model exported, against torch, on the CPU.')
    parser.add_argument('--people', type=int, nargs='+', default=[1, 5, 20], help='default: 1 5 20')
    parser.add_argument('--threads', type=int, default=1, help='of torch and of onnxruntime (default: %(default)s)')
    parser.add_argument('--turns', type=int, default=9, help='runs of each function (default: %(default)s)')
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    with one_sentence_errors(), tempfile.TemporaryDirectory() as folder:
        model, timer = load_model(CONFIG, CHECKPOINT), Timer('cpu', args.turns)
        rows = [
            [f'torch / {form}', str(people), f'{ratio.value:.2f}', str(ratio)]
            for people in args.people
            for form, ratio in compare(model, people, Path(folder), timer, args.threads).items()
        ]
        print(f'{machine("cpu")}\n')
        print('\n'.join(align([['figure', 'people', 'ratio', 'how'], *rows])))


if __name__ == '__main__':
    main()
