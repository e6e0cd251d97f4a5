"""Before a run is resumed: whether the checkpoint has what the run needs, and settings that have changed since."""

from __future__ import annotations

import math
import os
import re
import warnings
from typing import Any

from mmengine.hooks import CheckpointHook, EMAHook, Hook
from mmengine.optim import OptimWrapperDict
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner, find_latest_checkpoint
from mmpose.registry import HOOKS
from torch import Tensor

from .config_changes import config_changes
from .resumable_loop import LENGTH, ResumableEpochLoop

# Of a scheduler's state: what changes while it runs, not a setting.
PROGRESS = {'last_step', '_global_step', '_last_value', 'base_values', 'verbose', 'print_freq'}
PROGRESS |= {'best', 'num_bad_epochs', 'cooldown_counter', 'mode_worse'}  # of ReduceOnPlateau


@HOOKS.register_module()
class ResumeHook(Hook):
    """Refuse a checkpoint that this run cannot be resumed from, and follow settings changed since it was written.

    MMEngine resumes silently without optimizer, schedulers or averaged weights, and takes learning rates, the other
    numbers of the optimizer and the whole schedule from the checkpoint. Here those of the config hold: the schedule is
    repeated from its start up to the checkpoint's iteration, and one warning lists what differs. Only the seed stays
    that of the checkpoint, as the order of an epoch's images depends on it. ``build_runner`` adds this hook.
    """

    priority = 'VERY_HIGH'  # after CheckpointFitHook, before other hooks use the checkpoint

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Check the checkpoint of a run to be resumed, and bring its optimizer and schedulers up to date.

        Args:
            runner (Runner): The runner of the training process.
            checkpoint (dict): What was read from the file; changed where settings are.
        """
        if not runner._resume or not isinstance(runner._train_loop, (EpochBasedTrainLoop, IterBasedTrainLoop)):
            return
        source = runner._load_from or find_latest_checkpoint(runner.work_dir)
        _refuse_incomplete(runner, checkpoint, source)
        _refuse_progress(runner, checkpoint, source)
        _forget_files_elsewhere(runner, checkpoint['message_hub'].get('runtime_info'))
        _try_parts(runner, checkpoint, source)
        changes = config_changes(checkpoint['meta'].get('cfg'), runner.cfg)
        if 'optimizer' in checkpoint and not isinstance(runner.optim_wrapper, OptimWrapperDict):
            changes += follow_settings(runner, checkpoint, changes)
        changes += _keep_seed(runner, checkpoint['meta'].get('seed'))
        if changes:
            more = f' and {len(changes) - 12} more' if len(changes) > 12 else ''
            runner.logger.warning(
                f'settings differ from those of checkpoint {source}: {"; ".join(changes[:12])}{more}. Optimizer, '
                'learning rate and schedule follow the settings of this run from here on'
            )


def follow_settings(runner: Runner, checkpoint: dict, changes: list[str]) -> list[str]:
    """Write this run's optimizer settings and schedule into the states that MMEngine is about to load.

    Args:
        runner (Runner): Its optimizer and schedulers are as built, but for what `_try_parts` has loaded.
        checkpoint (dict): Changed in place.
        changes (list[str]): Of the config, as `config_changes` gives them.

    Returns:
        list[str]: Further changes, that the config does not show, such as a scaled learning rate.
    """
    wrapper, saved = runner.optim_wrapper, checkpoint['optimizer']['param_groups']
    schedulers = runner.param_schedulers if isinstance(runner.param_schedulers, list) else []
    scheduled = {scheduler.param_name for scheduler in schedulers}
    scheduled |= {'betas'} if 'momentum' in scheduled else set()
    different = _different_values(wrapper.param_groups, saved, scheduled)
    rates = [name for name, *_ in different if name.startswith('initial_')]
    states = checkpoint.get('param_schedulers', [])
    if schedulers and (rates or _schedule_differs(schedulers, states)):
        _repeat_schedule(runner, schedulers, checkpoint['meta'])
        checkpoint['param_schedulers'] = [
            state if getattr(scheduler, 'need_val_args', False) else scheduler.state_dict()
            for scheduler, state in zip(schedulers, [*states, *[None] * len(schedulers)])
        ]
        scheduled = set()
    for group, old in zip(wrapper.param_groups, saved):
        old.update({name: value for name, value in group.items() if name != 'params' and name not in scheduled})
    if any(change.startswith('optim_wrapper.optimizer.type') for change in changes):
        checkpoint['optimizer']['state'] = {}  # averages of another optimizer
    explained = any(change.startswith(('optim_wrapper', 'param_scheduler')) for change in changes)
    return [] if explained else list(dict.fromkeys(f'{name} {old} -> {new}' for name, old, new in different))


def _refuse_incomplete(runner: Runner, checkpoint: dict, source: str) -> None:
    """Refuse a checkpoint without a part that this run needs, which CheckpointHook's settings say."""
    saver = next((hook for hook in runner.hooks if isinstance(hook, CheckpointHook)), None)
    needed = {'meta': True, 'state_dict': True, 'message_hub': True}
    needed['optimizer'] = getattr(saver, 'save_optimizer', True)
    needed['param_schedulers'] = getattr(saver, 'save_param_scheduler', True) and bool(runner.param_schedulers)
    averages = any(isinstance(hook, EMAHook) for hook in runner.hooks)
    text = str((checkpoint.get('meta') or {}).get('cfg'))
    added = 'custom_hooks' in text and 'EMAHook' not in text  # since the checkpoint was written
    needed['ema_state_dict'] = averages and not added
    for part, is_needed in needed.items():
        kinds = (dict, list) if part == 'param_schedulers' else dict
        if (is_needed and part not in checkpoint) or not isinstance(checkpoint.get(part, {}), kinds):
            found = type(checkpoint[part]).__name__ if part in checkpoint else 'no'
            raise ValueError(
                f'checkpoint {source} has {found} {part} and cannot be resumed from; use another one, or start a new '
                f'training from its weights: --cfg-options load_from={source}, without --resume'
            )


def _refuse_progress(runner: Runner, checkpoint: dict, source: str) -> None:
    meta, info = checkpoint['meta'], checkpoint['message_hub'].get('runtime_info')
    epoch, iteration, seed = meta.get('epoch'), meta.get('iter'), meta.get('seed')
    length = info.get(LENGTH) if isinstance(info, dict) and isinstance(runner.train_loop, ResumableEpochLoop) else None
    whole = all(type(number) is int and 0 <= number < 10**9 for number in (epoch, iteration))
    if not whole or epoch > iteration:
        raise ValueError(f'checkpoint {source} says epoch {epoch!r} and iteration {iteration!r}; use another one')
    if length is not None and not (type(length) is int and 0 <= iteration - epoch * length <= length > 0):
        raise ValueError(
            f'checkpoint {source} says epoch {epoch}, iteration {iteration} and {length!r} iterations in an epoch, '
            'which does not fit together; use another one'
        )
    by_epoch = isinstance(runner.train_loop, EpochBasedTrainLoop)
    done, last = (epoch, runner.train_loop.max_epochs) if by_epoch else (iteration, runner.train_loop.max_iters)
    if done > last:
        setting = f'train_cfg.{"max_epochs" if by_epoch else "max_iters"}={last}'
        raise ValueError(f'checkpoint {source} is at {done}, beyond {setting}; raise that, or use another one')
    if seed is not None and not (type(seed) is int and 0 <= seed < 2**32):
        raise ValueError(f'checkpoint {source} says seed {seed!r}, which no run has; use another one')


def _forget_files_elsewhere(runner: Runner, info: object) -> None:
    """CheckpointHook deletes the best checkpoint of before, and those out of ``max_keep_ckpts``, by what is noted."""
    for name in [name for name in info if str(name).startswith('best_ckpt')] if isinstance(info, dict) else []:
        folder, file = os.path.split(os.path.realpath(str(info[name])))
        saver = next((hook for hook in runner.hooks if isinstance(hook, CheckpointHook)), None)
        own = os.path.join(getattr(saver, 'out_dir', None) or '', os.path.basename(runner.work_dir.rstrip(os.sep)))
        folders = [os.path.realpath(runner.work_dir), os.path.realpath(own)]
        if folder not in folders or not file.startswith('best_'):
            del info[name]
    if isinstance(info, dict) and not all(type(step) is int for step in info.get('keep_ckpt_ids') or []):
        del info['keep_ckpt_ids']


def _try_parts(runner: Runner, checkpoint: dict, source: str) -> None:
    """Load the parts as MMEngine will, and compare their numbers with those of the run as built."""
    wrapper, optimizer = runner.optim_wrapper, checkpoint.get('optimizer')
    schedulers = runner.param_schedulers if isinstance(runner.param_schedulers, list) else []
    try:
        runner.message_hub.load_state_dict(checkpoint['message_hub'])
        if optimizer is not None and not isinstance(wrapper, OptimWrapperDict):
            groups = [dict(group) for group in wrapper.param_groups]
            wrapper.load_state_dict(dict(optimizer))
            _compare_moments(wrapper.param_groups, wrapper.optimizer.state)
            for group, fresh in zip(wrapper.param_groups, groups):
                _compare_values(group, fresh)
                group.update(fresh)
        for scheduler, state in zip(schedulers, checkpoint.get('param_schedulers', [])):
            _compare_values(state, scheduler.state_dict())
        _compare_averages(checkpoint)
    except Exception as error:  # what the parts raise depends on what is wrong in them
        reason = re.sub(r'\s+', ' ', str(error)).strip()
        reason = reason if isinstance(error, ValueError) else 'parts of the optimizer or of the log are missing or odd'
        raise ValueError(
            f'checkpoint {source} does not fit this run: {reason}; use another one, or start a new training from its '
            f'weights: --cfg-options load_from={source}, without --resume'
        ) from error


def _compare_values(state: dict, fresh: dict) -> None:
    for name, value in state.items():
        number = isinstance(fresh.get(name), (int, float))
        if number and (not isinstance(value, (int, float, Tensor)) or not math.isfinite(value)):
            raise ValueError(f'{name} is {value!r}, not a number')
        if name in ('last_step', '_global_step') and value < -1:
            raise ValueError(f'{name} is {value!r}, before the first step')


def _compare_moments(groups: list[dict], state: dict) -> None:
    for parameter in (parameter for group in groups for parameter in group['params']):
        for name, value in state.get(parameter, {}).items():
            if isinstance(value, Tensor) and (value.is_complex() or not value.isfinite().all()):
                raise ValueError(f'{name} of the optimizer is not finite and real')
            if re.match('exp_avg|momentum', name) and getattr(value, 'shape', parameter.shape) != parameter.shape:
                raise ValueError(f'{name} of the optimizer is {tuple(value.shape)}, not {tuple(parameter.shape)}')


def _compare_averages(checkpoint: dict) -> None:
    weights, averages = checkpoint['state_dict'], checkpoint.get('ema_state_dict')
    averages = {name[7:]: value for name, value in (averages or {}).items() if name.startswith('module.')}
    for name in weights if averages else ():
        value = averages.get(name)
        if not isinstance(value, Tensor) or value.shape != weights[name].shape or value.is_complex():
            raise ValueError(f'ema_state_dict has no {name} like that in state_dict')
        if not value.isfinite().all():
            raise ValueError(f'{name} in ema_state_dict is not finite')


def _different_values(groups: list[dict], saved: list[dict], scheduled: set[str]) -> list[tuple[str, Any, Any]]:
    """(name, value in the checkpoint, value now); a scheduled number is compared by its initial value."""
    return [
        (name, old[name], value)
        for group, old in zip(groups, saved)
        for name, value in group.items()
        if name != 'params' and name not in scheduled and name in old and not _same(old[name], value)
    ]


def _same(old: Any, new: Any) -> bool:
    return old == new or (isinstance(old, float) and isinstance(new, float) and math.isclose(old, new, rel_tol=1e-9))


def _schedule_differs(schedulers: list, states: list[dict]) -> bool:
    def settings(state: dict) -> dict:
        return {name: value for name, value in state.items() if name not in PROGRESS}

    now = [settings(scheduler.state_dict()) for scheduler in schedulers]
    return len(now) != len(states) or any(settings(state) != new for state, new in zip(states, now))


def _repeat_schedule(runner: Runner, schedulers: list, meta: dict) -> None:
    """Step the schedulers as ParamSchedulerHook has done up to the checkpoint."""
    by_epoch = isinstance(runner.train_loop, EpochBasedTrainLoop)
    length, epochs = len(runner.train_dataloader), meta['epoch'] if by_epoch else 0
    done = meta['iter'] - epochs * length  # of the epoch begun; another number when its length has changed
    schedulers = [scheduler for scheduler in schedulers if not getattr(scheduler, 'need_val_args', False)]
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # that no step of the optimizer came before
        for iteration in range(epochs * length + (done if not by_epoch or 0 <= done <= length else 0)):
            for scheduler in schedulers:
                if not scheduler.by_epoch:
                    scheduler.step()
            ends = by_epoch and (iteration + 1) % length == 0 and (iteration + 1) // length <= epochs
            for scheduler in schedulers if ends else []:
                if scheduler.by_epoch:
                    scheduler.step()


def _keep_seed(runner: Runner, seed: int | None) -> list[str]:
    """Set the checkpoint's seed as MMEngine does, but without a warning of its own."""
    own = runner._randomness_cfg.get('seed')
    if seed is None or own is None or seed == own:
        return []
    runner._randomness_cfg.update(seed=seed)
    runner.set_randomness(**runner._randomness_cfg)
    return [f'randomness.seed stays {seed}, that of the checkpoint, instead of {own}']
