"""Refuse a checkpoint that does not fit the model, or was trained with another normalisation of the images.

MMEngine loads both without an error: the model then has random weights, or gets images unlike those it was trained on.
"""

from __future__ import annotations

import re
from collections import OrderedDict

import numpy as np
from mmengine.hooks import Hook
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.runner import BaseLoop, Runner, find_latest_checkpoint
from mmengine.runner.checkpoint import CheckpointLoader
from mmpose.registry import HOOKS
from torch import Tensor
from torch.nn import Module


@HOOKS.register_module()
class CheckpointFitHook(Hook):
    """Raise a ``ValueError`` when weights are missing or have other shapes; superfluous weights only warn.

    MMEngine loads with ``strict=False``: it logs a mismatch and continues with random weights. This hook loads the
    weights once as a trial, by torch itself, so that the model's own conversions of old checkpoints apply.

    It also writes the normalisation of the images into each checkpoint, as ``tools/convert_checkpoint.py`` does, and
    refuses a checkpoint whose normalisation differs from that of the model's ``data_preprocessor``.
    """

    priority = 'VERY_HIGH'  # before EMAHook exchanges the weights of the checkpoint with the averaged ones

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Try the checkpoint on the model, before MMEngine loads it.

        Args:
            runner (Runner): The runner of the training, validation or testing process.
            checkpoint (dict): What was read from the file.
        """
        source = runner.cfg.get('load_from') or runner._load_from or find_latest_checkpoint(runner.work_dir)
        superfluous = refuse_misfit(_unwrap(runner.model), checkpoint, source)
        refuse_other_normalisation(_unwrap(runner.model), checkpoint, source)
        if superfluous:
            runner.logger.warning(
                f'checkpoint {source} has weights that the model does not use: {_count("superfluous", superfluous)}'
            )

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Add the normalisation of the images.

        Args:
            runner (Runner): The runner of the training process.
            checkpoint (dict): What is about to be written; its ``meta`` gets ``data_preprocessor``.
        """
        normalisation = _normalisation(_unwrap(runner.model))
        if normalisation is not None:
            checkpoint['meta']['data_preprocessor'] = normalisation

    def before_run(self, runner: Runner) -> None:
        """Before a training, also try a pretrained backbone's weights, which MMEngine then loads as loosely.

        Args:
            runner (Runner): The runner of the training, validation or testing process.
        """
        if isinstance(runner._test_loop, BaseLoop):  # a test loads all of the model from its checkpoint
            return
        backbone = getattr(_unwrap(runner.model), 'backbone', None)
        for init in _as_list(getattr(backbone, 'init_cfg', None)):
            if init.get('type') == 'Pretrained':
                checkpoint = CheckpointLoader.load_checkpoint(init['checkpoint'], map_location='cpu')
                refuse_misfit(backbone, checkpoint, init['checkpoint'], init.get('prefix') or '')
                refuse_other_normalisation(_unwrap(runner.model), checkpoint, init['checkpoint'])


def refuse_misfit(model: Module, checkpoint: dict, source: str, prefix: str = '') -> list[str]:
    """Load weights as a trial and raise a ``ValueError`` if some are missing or have other shapes.

    Args:
        model (Module): Gets the weights that fit.
        checkpoint (dict): What was read from the file.
        source (str): The file, for the message.
        prefix (str): Of the weights to load; it is removed from their names. Defaults to ''.

    Returns:
        list[str]: Names of weights that the model does not use.
    """
    state_dict = state_dict_of(checkpoint, source)
    if prefix:
        state_dict = _without_prefix(state_dict, prefix)
    _refuse_odd_values(model, state_dict, source)
    missing, superfluous, reshaped = _try_to_load(model, state_dict)
    if missing or reshaped:
        raise ValueError(
            f'checkpoint {source} does not fit the {"backbone" if prefix else "model"}: {_count("missing", missing)}, '
            f'{_count("of another shape", reshaped)}; use the config it was trained with'
        )
    return superfluous


def state_dict_of(checkpoint: object, source: str) -> OrderedDict:
    """The weights of a checkpoint, without the prefix that a wrapper for several devices adds.

    Args:
        checkpoint (object): A checkpoint or, as MMEngine also accepts, a bare state dict.
        source (str): The file, for the message.

    Returns:
        OrderedDict: Weights by name.

    Raises:
        ValueError: if there are no weights in it.
    """
    state_dict = checkpoint.get('state_dict', checkpoint) if isinstance(checkpoint, dict) else None
    weights = state_dict.items() if isinstance(state_dict, dict) else ()
    if not any(isinstance(name, str) and isinstance(value, Tensor) for name, value in weights):
        raise ValueError(f'{source} is not a checkpoint: no weights in it; give a file that CheckpointHook wrote')
    odd = [name for name in state_dict if not isinstance(name, str)]
    if odd:
        raise ValueError(f'checkpoint {source} has a weight named {odd[0]!r}, not a text; use another one')
    stripped = OrderedDict((re.sub(r'^module\.', '', name), value) for name, value in state_dict.items())
    # The version of each module, by which it decides whether to convert old names.
    stripped._metadata = getattr(state_dict, '_metadata', OrderedDict())
    return stripped


def refuse_other_normalisation(model: Module, checkpoint: dict, source: str) -> None:
    """Raise a ``ValueError`` if the normalisation of images in the checkpoint is not the model's.

    Args:
        model (Module): An estimator; without a ``data_preprocessor`` that normalises, nothing is compared.
        checkpoint (dict): What was read from the file; without a normalisation in it, nothing is compared.
        source (str): The file, for the message.
    """
    noted, own = (checkpoint.get('meta') or {}).get('data_preprocessor') or {}, _normalisation(model) or {}
    try:  # the model's numbers have been through float32
        different = [key for key in own if key in noted and not np.allclose(noted[key], own[key], rtol=1e-5)]
    except (TypeError, ValueError):
        raise ValueError(f'checkpoint {source} notes a normalisation of {noted!r:.80}; use another one') from None
    if different:
        theirs, ours = (', '.join(f'{key}={part[key]}' for key in different) for part in (noted, own))
        options = ' '.join(f'model.data_preprocessor.{key}={noted[key]}'.replace(' ', '') for key in different)
        raise ValueError(
            f'checkpoint {source} was trained on images normalised with {theirs}, but the config has {ours}; '
            f'give --cfg-options {options}'
        )


def _normalisation(model: Module) -> dict | None:
    preprocessor = getattr(model, 'data_preprocessor', None)
    if not getattr(preprocessor, '_enable_normalize', False):
        return None
    numbers = {key: [round(n, 4) for n in getattr(preprocessor, key).flatten().tolist()] for key in ('mean', 'std')}
    return dict(numbers, bgr_to_rgb=preprocessor._channel_conversion)


def _as_list(value: list | dict | None) -> list[dict]:
    return list(value) if isinstance(value, (list, tuple)) else [value] if value else []


def _without_prefix(state_dict: OrderedDict, prefix: str) -> OrderedDict:
    prefix = prefix.rstrip('.') + '.'
    part = OrderedDict((name[len(prefix) :], v) for name, v in state_dict.items() if name.startswith(prefix))
    part._metadata = OrderedDict()
    return part


def _unwrap(model):
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = model.module
    return model


def _refuse_odd_values(model: Module, state_dict: OrderedDict, source: str) -> None:
    """Values that torch would load by dropping a part of them, or with which the model only gives NaN."""
    own, parameters = model.state_dict(), dict(model.named_parameters())
    for name in [name for name in own if name in state_dict]:
        value = state_dict[name]
        fits = isinstance(value, Tensor) and value.is_complex() == own[name].is_complex()
        if not fits or (own[name].is_floating_point() and not value.is_floating_point()):
            kind = value.dtype if isinstance(value, Tensor) else type(value).__name__
            raise ValueError(f'checkpoint {source}: {name} is {kind}, not {own[name].dtype}; use another one')
        bad = value.isnan() if name not in parameters else ~value.isfinite()
        if bad.any() and not own[name].isnan().any():
            raise ValueError(
                f'checkpoint {source}: {name} is not finite, the training diverged or the file is damaged; use an '
                'earlier one'
            )


def _try_to_load(model, state_dict: OrderedDict):
    own = model.state_dict()
    reshaped = [name for name in own if name in state_dict and state_dict[name].shape != own[name].shape]
    fitting = OrderedDict((name, value) for name, value in state_dict.items() if name not in reshaped)
    fitting._metadata = state_dict._metadata
    missing, superfluous = model.load_state_dict(fitting, strict=False)
    # MMEngine does not require these counters either: checkpoints older than torch 0.4.1 have none.
    missing = [name for name in missing if name not in reshaped and 'num_batches_tracked' not in name]
    return missing, superfluous, reshaped


def _count(what: str, names: list) -> str:
    return f'{len(names)} weights {what}' + (f' ({", ".join(names[:3])})' if names else '')
