"""Refuse settings of the Runner that would fail late, or train something other than they say."""

from __future__ import annotations

import os

from mmengine.config import Config
from mmengine.device import get_device

# The environment variables that a launcher sets for each process, and the command that does so.
LAUNCHERS = {
    'pytorch': (('RANK', 'WORLD_SIZE', 'MASTER_ADDR', 'MASTER_PORT'), 'torchrun, as in tools/dist_train.sh'),
    'slurm': (
        ('SLURM_PROCID', 'SLURM_NTASKS', 'SLURM_LOCALID', 'SLURM_NODELIST'),
        'srun, as in tools/slurm_train.sh',
    ),
    'mpi': (('OMPI_COMM_WORLD_RANK', 'OMPI_COMM_WORLD_SIZE', 'OMPI_COMM_WORLD_LOCAL_RANK'), 'mpirun'),
}
# The variable with the number of processes, by launcher: another launcher may have started this one.
SIZES = {'pytorch': 'WORLD_SIZE', 'slurm': 'SLURM_NTASKS', 'mpi': 'OMPI_COMM_WORLD_SIZE'}


def check_engine(cfg: Config, training: bool) -> None:
    """Raise a ``ValueError`` when the Runner cannot do what a config asks of it on this machine.

    Args:
        cfg (Config): The config, with all flags in it.
        training (bool): True to train, False to test.
    """
    _check_launcher(cfg.get('launcher', 'none'))
    if training:
        _check_loop(cfg)
        _check_activation_checkpointing(cfg)
        _check_sync_bn(cfg)
        _check_accumulation(cfg)
        _check_chunks(cfg)


def _check_launcher(launcher: str) -> None:
    if launcher == 'none':
        return
    if launcher not in LAUNCHERS:
        raise ValueError(f'launcher={launcher!r} is unknown; use none or one of {", ".join(LAUNCHERS)}')
    names, starter = LAUNCHERS[launcher]
    missing = [name for name in names if name not in os.environ]
    if missing:
        raise ValueError(
            f'--launcher {launcher} is for processes started by {starter}, but {missing[0]} is not set; start it '
            'with that, or leave --launcher out'
        )
    if launcher == 'mpi' and get_device() == 'cpu':
        raise ValueError(
            '--launcher mpi needs accelerators, and this machine has none (device cpu); use tools/dist_train.sh or '
            'tools/dist_test.sh'
        )


def _check_loop(cfg: Config) -> None:
    loop = cfg.get('train_cfg') or {}
    if 'type' in loop and 'by_epoch' in loop:
        raise ValueError(
            f'train_cfg has both type={loop.type!r} and by_epoch={loop.by_epoch}; leave by_epoch out, or replace the '
            f'whole of it by train_cfg = dict(_delete_=True, by_epoch={loop.by_epoch}, ...)'
        )


def _check_activation_checkpointing(cfg: Config) -> None:
    modules = cfg.get('activation_checkpointing') or []
    for name in [modules] if isinstance(modules, str) else modules:
        part = name.split('.')[0]
        if part not in ('backbone', 'neck'):
            raise ValueError(
                f'activation_checkpointing names {name!r}, which is not trained through its forward, so no memory '
                'would be saved; name parts of the backbone or the neck only'
            )
        if part == 'backbone' and cfg.model.get('freeze_backbone'):
            raise ValueError(
                f'activation_checkpointing names {name!r}, but a frozen backbone keeps no activations; leave it out, '
                'or train the backbone with model.freeze_backbone=False'
            )


def _check_sync_bn(cfg: Config) -> None:
    # A single process has nothing to synchronise: MMEngine and MMPose ignore both settings there.
    if cfg.get('launcher', 'none') == 'none' or get_device() != 'cpu':
        return
    for setting, value in (('sync_bn', cfg.get('sync_bn')), ('model.use_syncbn', cfg.model.get('use_syncbn'))):
        if value:
            raise ValueError(
                f'{setting}={value!r} needs accelerators, as torch has no synchronised batch norm for the CPU, and '
                'this machine has none (device cpu); leave it out'
            )


def _check_chunks(cfg: Config) -> None:
    """Refuse ``mode='step'`` where ChunkedBackpropHook would refuse it only after the data are loaded."""
    if _hooks(cfg).get('ChunkedBackpropHook', {}).get('mode') != 'step':
        return
    launcher = cfg.get('launcher', 'none')
    processes = 1 if launcher == 'none' else int(os.environ[SIZES[launcher]])
    if processes > 1:
        raise ValueError(
            f"ChunkedBackpropHook has mode='step', an optimizer step per chunk, and {processes} processes have "
            "different numbers of chunks; use mode='accumulate', or one process"
        )
    chunk_size = (cfg.model.get('head') or {}).get('chunk_size', 8)
    parts = cfg.optim_wrapper.get('accumulative_counts', 1)
    if isinstance(chunk_size, int) and chunk_size % parts:  # the head refuses what is not a number
        raise ValueError(
            f"ChunkedBackpropHook has mode='step', and model.head.chunk_size={chunk_size} people per step cannot be "
            f'split into optim_wrapper.accumulative_counts={parts} equal parts; use a chunk_size that {parts} divides'
        )


def _check_accumulation(cfg: Config) -> None:
    parts = (cfg.get('optim_wrapper') or {}).get('accumulative_counts', 1)
    if not isinstance(parts, int) or parts < 1:
        raise ValueError(
            f'optim_wrapper.accumulative_counts={parts!r}; it is the number of batches per step, 1 or more'
        )
    if _hooks(cfg).get('ChunkedBackpropHook', {}).get('mode') == 'step':  # there accumulation is within a chunk
        return
    # MMEngine saves no gradients. For checkpoints by epoch, ResumableEpochLoop warns of those that are lost.
    hook = (cfg.get('default_hooks') or {}).get('checkpoint') or {}
    interval = hook.get('interval', -1)
    if not hook.get('by_epoch', True) and interval > 0 and interval % parts:
        raise ValueError(
            f'default_hooks.checkpoint.interval={interval} iterations is not a multiple of '
            f'optim_wrapper.accumulative_counts={parts}, so a checkpoint would lose accumulated '
            f'gradients; use a multiple of {parts}'
        )


def _hooks(cfg: Config) -> dict[str, dict]:
    """The hooks of a config by the names of their classes."""
    hooks = [*(cfg.get('default_hooks') or {}).values(), *(cfg.get('custom_hooks') or [])]
    return {str(hook.get('type')).split('.')[-1]: hook for hook in hooks if hook}
