"""Publish a checkpoint: weights in float16 and only the metadata that testing needs."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import torch

from ..engine.checkpoint_fit_hook import state_dict_of
from .checkpoint_file import check_output_file, check_output_folder, whole_file
from .errors import is_disk_full
from .restricted_load import read_checkpoint

KEPT = ('cfg', 'dataset_meta', 'data_preprocessor', 'epoch', 'iter', 'seed', 'mmengine_version')


def publish(source: str, target: str) -> dict[str, str | int]:
    """Write the smaller file. A model that loads it has float32 weights, rounded to float16.

    After a training with ``EMAHook``, ``state_dict`` and so the file hold the averaged weights. The config is kept
    without ``work_dir``: the same training in another folder gives the same file.

    Args:
        source (str): a checkpoint of ``tools/train.py``.
        target (str): the file to write.

    Returns:
        dict[str, str | int]: ``bytes`` and ``sha256`` of the file.

    Raises:
        FileNotFoundError: if the checkpoint or the folder of the file does not exist.
        ValueError: if it is damaged or was not written by ``tools/train.py``, float16 cannot hold a weight, or the
            target is the checkpoint.
    """
    check_output_file('OUT', target, '', [source])
    check_output_folder(target)
    checkpoint = read_checkpoint(source)
    weights = {name: _halved(name, value) for name, value in state_dict_of(checkpoint, source).items()}
    found = checkpoint.get('meta')
    if not isinstance(found, dict) or not isinstance(found.get('cfg'), str):
        raise ValueError(
            f'{source} does not say with which config it was trained; give a file that tools/train.py wrote'
        )
    meta = {key: found[key] for key in KEPT if key in found}
    meta['cfg'] = re.sub(r'^work_dir = .*\n?', '', meta['cfg'], flags=re.MULTILINE)
    write_checkpoint(dict(state_dict=weights, meta=meta), target)
    content = Path(target).read_bytes()
    return dict(bytes=len(content), sha256=hashlib.sha256(content).hexdigest())


def write_checkpoint(checkpoint: dict, path: str) -> None:
    """Write a file that gets its name when it is complete.

    Args:
        checkpoint (dict): What is saved.
        path (str): The file, replaced if it is there.

    Raises:
        OSError: if there is no space left.
    """
    try:
        with whole_file(path) as file:
            torch.save(checkpoint, file)
    except Exception as error:
        if is_disk_full(error) or is_disk_full(error.__context__):  # torch's own writer fails after the first error
            raise OSError(f'no space left to write {path} (disk full, quota or file-size limit); free some') from error
        raise


def _halved(name: str, value: torch.Tensor) -> torch.Tensor:
    if not isinstance(value, torch.Tensor) or not value.is_floating_point():
        return value
    if not value.isfinite().all():
        raise ValueError(f'weight {name} is not finite: the training diverged; publish an earlier checkpoint')
    half = value.half()
    if not half.isfinite().all():
        raise ValueError(
            f'weight {name} reaches {value.abs().max():.3g}, more than float16 holds; publish the checkpoint unchanged'
        )
    return half
