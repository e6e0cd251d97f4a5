"""A written file against the module it was made of: an exporter that freezes a size says nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from .graph import import_onnx

TOLERANCE = 1e-3  # of the largest value; sums in another order differ by 1e-5, a wrong graph by its whole size


@torch.no_grad()
def check_file(module: nn.Module, path: Path, *inputs: Tensor) -> None:
    """Run a file and compare.

    Args:
        module (nn.Module): what was exported.
        path (Path): the file.
        *inputs (Tensor): of other sizes than those it was traced with.

    Raises:
        ArithmeticError: if it fails or differs.
    """
    expected = module(*inputs)
    try:
        results = _run_pt2(path, inputs) if path.suffix == '.pt2' else _run_onnx(path, inputs)
    except Exception as error:  # each runtime has its own classes
        raise ArithmeticError(f'the exported {path.name} does not run: {str(error).splitlines()[0]}') from error
    for place, (one, other) in enumerate(zip(expected, results)):
        one = one.numpy()
        scale = max(1.0, float(np.abs(one).max(initial=0)))
        if one.shape != other.shape or np.abs(one - other).max(initial=0) > TOLERANCE * scale:
            raise ArithmeticError(f'output {place} of the exported {path.name} is not what the model gives')


def _run_pt2(path: Path, inputs: tuple[Tensor, ...]) -> list[np.ndarray]:
    return [result.numpy() for result in torch.export.load(str(path)).module()(*inputs)]


def _run_onnx(path: Path, inputs: tuple[Tensor, ...]) -> list[np.ndarray]:
    _, runtime = import_onnx()
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    session = runtime.InferenceSession(str(path), options, providers=['CPUExecutionProvider'])
    return session.run(None, {given.name: tensor.numpy() for given, tensor in zip(session.get_inputs(), inputs)})
