"""Random numbers that depend only on seed, rank and epoch, so that a resumed run repeats the uninterrupted one."""

from __future__ import annotations

import random

import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.registry import FUNCTIONS
from mmengine.runner import Runner, set_random_seed
from mmpose.registry import HOOKS


@HOOKS.register_module()
class SeedEpochHook(Hook):
    """Seed python, numpy and torch at the start of every training epoch.

    MMEngine saves no random state in a checkpoint. With this hook the state at the start of an epoch is a pure function
    of (``randomness.seed``, rank, epoch), and ``--resume`` from the checkpoint of an epoch continues as the
    uninterrupted run would have. Random numbers of a validation have no effect. It needs two settings:

    - ``randomness = dict(seed=...)``: the order of the images comes from the sampler, whose seed is fixed when the
      training starts, before a checkpoint is read.
    - ``worker_init_fn=dict(type='seed_worker')`` in the training data loader, see :func:`seed_worker`.

    ResumableEpochLoop adds a seed for every iteration. An iteration-based loop is a single epoch: it is seeded once, at
    its start.
    """

    priority = 'VERY_HIGH'  # before any hook that draws a random number

    def before_train(self, runner: Runner) -> None:
        """Warn about persistent workers: their random state cannot be restored.

        Args:
            runner (Runner): The runner of the training process.
        """
        if getattr(runner.train_dataloader, 'persistent_workers', False):
            runner.logger.warning(
                'A resumed run will see other augmentations than an uninterrupted one: set '
                'train_dataloader.persistent_workers=False to make them equal.'
            )

    def before_train_epoch(self, runner: Runner) -> None:
        """Seed this epoch. The data loader makes its iterator, and draws its workers' seed, after this.

        Args:
            runner (Runner): The runner of the training process.
        """
        set_random_seed(mix_seed(runner.seed, runner.rank, runner.epoch))


def mix_seed(seed: int, rank: int, epoch: int, iteration: int | None = None) -> int:
    """Mix three or four numbers into one seed; neighbouring numbers give unrelated seeds.

    Args:
        seed (int): Seed of the run.
        rank (int): Rank of the process.
        epoch (int): Number of finished epochs.
        iteration (int, optional): Number of finished iterations of this epoch. Defaults to None, the epoch's own seed.

    Returns:
        int: A number from 0 to 2**32 - 1.
    """
    # From 1 on, as numpy treats a missing number as 0.
    numbers = [seed, rank, epoch] if iteration is None else [seed, rank, epoch, iteration + 1]
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


# Registered at MMEngine's root, where Runner.build_dataloader looks the name up. Without ``worker_init_fn`` it uses
# ``mmengine.dataset.default_worker_init_fn``, which gives a worker the same seed in every epoch, so that every epoch
# repeats the first one's augmentations (mmengine 0.10.7, runner.py build_dataloader, dataset/utils.py).
@FUNCTIONS.register_module()
def seed_worker(worker_id: int) -> None:
    """Seed numpy and random of a data loader's worker from the seed that torch gave it for this epoch.

    Args:
        worker_id (int): Index of the worker. Already part of torch's seed.
    """
    seed = torch.initial_seed() % 2**32
    np.random.seed(seed)
    random.seed(seed)
