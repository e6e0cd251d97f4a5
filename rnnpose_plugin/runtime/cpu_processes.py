"""Several processes on a machine without accelerator, which MMEngine 0.10.7 does not support by itself."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import torch.distributed
from mmengine.device import get_device


def init_cpu_process_group(launcher: str) -> bool:
    """Starts torch.distributed with gloo where MMEngine cannot: by torchrun or slurm on a machine without accelerator.

    MMEngine's `init_dist` calls `torch.cuda.set_device` first; its Runner skips that when a process group exists.

    Args:
        launcher: The launcher that the Runner will be given.

    Returns:
        Whether it started a process group. If so, the Runner also needs `cpu_model_wrapper`.
    """
    if launcher not in ('pytorch', 'slurm') or get_device() != 'cpu' or torch.distributed.is_initialized():
        return False
    if launcher == 'slurm':
        _take_over_from_slurm()
    torch.distributed.init_process_group('gloo')
    return True


def end_cpu_process() -> None:
    """Exits at once from a process of a successful gloo run; without such a run it does nothing.

    When the interpreter ends normally, torch's gloo threads sometimes abort the process ("terminate called without an
    active exception", torch 2.14; pytorch issue 190489), and the launcher reports a failed run. Destroying the process
    group first does not help.
    """
    if _is_gloo_run():
        torch.distributed.barrier()
        _exit(0)


def end_failed_cpu_process() -> None:
    """Exits at once from a process of a failed gloo run; without such a run it does nothing.

    After an error the interpreter's normal end took 7 s, as gloo waits for processes that have ended already.
    """
    if _is_gloo_run():
        _exit(1)


def cpu_model_wrapper(find_unused_parameters: bool = False) -> dict[str, Any]:
    """Gives the `model_wrapper_cfg` of a distributed run on the CPU.

    By default MMEngine's Runner passes DistributedDataParallel a device id, which it refuses for a model on the CPU.
    The other values are the Runner's defaults.

    Args:
        find_unused_parameters: As in DistributedDataParallel.

    Returns:
        The setting for the Runner or the config.
    """
    return dict(
        type='MMDistributedDataParallel',
        device_ids=None,
        broadcast_buffers=False,
        find_unused_parameters=find_unused_parameters,
    )


def _is_gloo_run() -> bool:
    return torch.distributed.is_initialized() and torch.distributed.get_backend() == 'gloo'


def _exit(status: int) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _take_over_from_slurm() -> None:
    """Translates slurm's environment into torch's, as MMEngine's `_init_dist_slurm` does for CUDA."""
    if 'MASTER_ADDR' not in os.environ:
        hosts = ['scontrol', 'show', 'hostnames', os.environ['SLURM_NODELIST']]
        os.environ['MASTER_ADDR'] = subprocess.run(hosts, capture_output=True, text=True, check=True).stdout.split()[0]
    os.environ.setdefault('MASTER_PORT', '29500')
    for name, origin in dict(RANK='PROCID', WORLD_SIZE='NTASKS', LOCAL_RANK='LOCALID').items():
        os.environ[name] = os.environ[f'SLURM_{origin}']
