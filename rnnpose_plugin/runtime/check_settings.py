"""Kinds and ranges of the settings of MMEngine's Runner, which it finds wrong late, in other words, or not at all."""

from __future__ import annotations

import inspect
import logging
import math
import multiprocessing
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config
from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner
from mmpose.registry import OPTIMIZERS

from .output_files import refuse_overwriting


def _number(value: Any, least: float = -math.inf) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value) and value >= least


def _count(value: Any, least: int) -> bool:
    return _number(value, least) and value == int(value)


def _is_level(value: Any) -> bool:
    return isinstance(value, str) and isinstance(logging.getLevelName(value), int)


# Path, whether a value is right, and what it has to be.
CHECKS = (
    ('log_level', lambda value: isinstance(value, int) or _is_level(value), 'such as INFO'),
    ('randomness.seed', lambda value: value is None or (_count(value, 0) and value < 2**32), 'from 0 to 2^32 - 1'),
    ('model.data_preprocessor.std', lambda value: value is None or np.all(np.greater(value, 0)), 'numbers above 0'),
    ('env_cfg.mp_cfg.mp_start_method', multiprocessing.get_all_start_methods().__contains__, 'such as fork'),
)
TRAINING_CHECKS = (
    (
        'model.backbone.init_cfg',
        lambda value: value is None or isinstance(value, (dict, list, tuple)),
        "a dict such as dict(type='Pretrained', checkpoint='a.pth')",
    ),
    ('train_cfg.max_epochs', lambda value: _count(value, 1), 'a whole number, 1 or more'),
    ('train_cfg.max_iters', lambda value: _count(value, 1), 'a whole number, 1 or more'),
    ('optim_wrapper.optimizer.type', lambda value: not isinstance(value, str) or OPTIMIZERS.get(value), 'such as Adam'),
    ('optim_wrapper.optimizer.lr', lambda value: _number(value, 0), 'a number, 0 or more'),
    ('default_hooks.checkpoint.interval', _number, 'a number of epochs or iterations'),
    ('default_hooks.checkpoint.max_keep_ckpts', lambda value: _count(value, -1), 'a whole number, -1 for all'),
)
TRAINING_NEEDS = ('train_dataloader', 'train_cfg', 'optim_wrapper')
TEST_NEEDS = ('test_dataloader', 'test_cfg', 'test_evaluator')
LOADER_CHECKS = (
    ('batch_size', lambda value: type(value) is int and value >= 1, 'a whole number, 1 or more'),
    ('num_workers', lambda value: type(value) is int and value >= 0, 'a whole number, 0 or more'),
)


def check_settings(cfg: Config, training: bool) -> None:
    """Refuse settings of a kind or range that the run cannot use.

    Args:
        cfg (Config): The config, with all flags in it.
        training (bool): True to train, False to test.

    Raises:
        ValueError: for the first one that is wrong.
    """
    for name in TRAINING_NEEDS if training else TEST_NEEDS:
        if cfg.get(name) is None:
            raise ValueError(f'{name} is None; {"training" if training else "a test"} needs it, give it in the config')
    loaders = ('train_dataloader', 'val_dataloader') if training else ('test_dataloader',)
    checks = [(f'{loader}.{name}', *rest) for loader in loaders for name, *rest in LOADER_CHECKS]
    for path, is_right, wanted in (*CHECKS, *(TRAINING_CHECKS if training else ()), *checks):
        found, value = _setting(cfg, path)
        if found and not is_right(value):
            raise ValueError(f'{path}={value}; it has to be {wanted}')
    if training and cfg.get('val_dataloader') and _setting(cfg, 'train_cfg.val_interval')[1] == 0:
        raise ValueError('train_cfg.val_interval=0; it is 1 or more, and --no-validate leaves validation out')
    _check_saving(cfg, training)
    if training:
        _check_start(cfg)


def _check_saving(cfg: Config, training: bool) -> None:
    """CheckpointHook hands arguments that it does not know to the Runner, which refuses them after an epoch."""
    given = _setting(cfg, 'default_hooks.checkpoint')[1] or {}
    if training and isinstance(given, dict) and given.get('type') == 'CheckpointHook':
        known = {*inspect.signature(CheckpointHook).parameters, *inspect.signature(Runner.save_checkpoint).parameters}
        for name in set(given) - known - {'type', 'priority'}:
            raise ValueError(f'CheckpointHook has no argument {name!r}; check the spelling, or remove it')
        if given.get('out_dir') and os.path.isfile(given['out_dir']):
            raise ValueError(f'default_hooks.checkpoint.out_dir={given["out_dir"]} is a file; name a folder')
        try:
            str(given.get('filename_tmpl') or '{}').format(1)
        except (LookupError, ValueError):
            name = f'default_hooks.checkpoint.filename_tmpl={given["filename_tmpl"]}'
            raise ValueError(f'{name} has no place for one number; use one such as epoch_{{}}.pth') from None


def _check_start(cfg: Config) -> None:
    """Weights to start from that a checkpoint of this run would replace; a resumed run goes on from its own."""
    epochs, iterations = (_setting(cfg, f'train_cfg.max_{unit}')[1] for unit in ('epochs', 'iters'))
    last, work_dir = dict(epoch=epochs or 0, iter=iterations or math.inf), str(cfg.get('work_dir') or '')
    out_dir, save_best = (_setting(cfg, f'default_hooks.checkpoint.{name}')[1] for name in ('out_dir', 'save_best'))
    folders = [work_dir, os.path.join(out_dir or work_dir, os.path.basename(work_dir.rstrip(os.sep)))]
    own = []
    for path in [path for folder in folders for path in Path(folder).glob('*.pth')]:
        found = re.fullmatch(r'(best_.*)?(epoch|iter)_(\d+)', path.stem)
        if found and int(found[3]) <= last[found[2]] and (save_best or not found[1]):
            own.append(path)
    init = _setting(cfg, 'model.backbone.init_cfg')[1] or []
    parts = [part for part in (init if isinstance(init, (list, tuple)) else [init]) if isinstance(part, dict)]
    read = [part.get('checkpoint') for part in parts] + [None if cfg.get('resume') else cfg.get('load_from')]
    refuse_overwriting(own, [path for path in read if path])


def _setting(node: Any, path: str) -> tuple[bool, Any]:
    """Whether a config has a setting, and its value."""
    for name in path.split('.'):
        if not isinstance(node, (dict, Config)) or name not in node:
            return False, None
        node = node[name]
    return True, node
