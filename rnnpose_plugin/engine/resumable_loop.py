"""A training by epochs that can be resumed after any iteration."""

from __future__ import annotations

from itertools import count
from typing import Iterator

import torch
from mmengine.runner import EpochBasedTrainLoop, set_random_seed
from mmpose.registry import LOOPS

from .seed_epoch_hook import mix_seed

LENGTH = 'iterations_per_epoch'  # kept in the message hub, and so in every checkpoint


@LOOPS.register_module()
class ResumableEpochLoop(EpochBasedTrainLoop):
    """MMEngine's loop by epochs, which resumes at the iteration of the checkpoint.

    MMEngine's own starts the epoch again. This one loads and skips the batches that are done, so that the workers'
    random states advance as before, and seeds python, numpy and torch before each batch, so that the random numbers of
    an iteration are a pure function of (``randomness.seed``, rank, epoch, iteration). A run resumed from any
    checkpoint then gives the weights of the uninterrupted one, bit for bit on a CPU, for any number of processes: no
    random state is saved. It needs SeedEpochHook, with that hook's two settings, and SyncedSaveHook.

    A checkpoint by iterations of an epoch's last iteration is written before the epoch ends (schedulers by epoch,
    validation); a run resumed from it ends the epoch first.

    Its arguments are those of ``EpochBasedTrainLoop``.
    """

    def run(self) -> torch.nn.Module:
        """Train, from the iteration of the checkpoint if there is one.

        Returns:
            Module: The model.
        """
        self._fit_to_length()
        self.runner.message_hub.update_info(LENGTH, len(self.dataloader))
        return super().run()

    def run_epoch(self) -> None:
        """Run the rest of one epoch."""
        length = len(self.dataloader)
        done = self._iter - self._epoch * length
        if done:
            self.runner.logger.info(f'epoch {self._epoch + 1}: skipping {done} of {length} iterations, done before')
        self.runner.call_hook('before_train_epoch')
        self.runner.model.train()
        # An epoch that only has to be ended needs no data.
        first, batches = (0, self.dataloader) if done < length else (length, [])
        for index, batch in zip(self._seeded_from(first), batches):
            if index >= done:
                self.run_iter(index, batch)
        self._warn_of_lost_gradients()
        self.runner.call_hook('after_train_epoch')
        self._epoch += 1

    def _seeded_from(self, first: int) -> Iterator[int]:
        """Indices of iterations; each is seeded before its batch is loaded."""
        for index in count(first):
            set_random_seed(mix_seed(self.runner.seed, self.runner.rank, self._epoch, index))
            yield index

    def _warn_of_lost_gradients(self) -> None:
        """When the epoch ends between two steps of the optimizer: no checkpoint keeps gradients."""
        parts = self.runner.optim_wrapper._accumulative_counts
        if self._iter % parts and self._iter < self._max_iters:
            self.runner.logger.warning(
                f'epoch {self._epoch + 1} ends with the accumulated gradients of {self._iter % parts} batches '
                f'(accumulative_counts={parts}); a run resumed from its checkpoint continues without them'
            )

    def _fit_to_length(self) -> None:
        """Correct the number of the iteration when the length of an epoch has changed since the checkpoint.

        That happens with another batch size or number of processes; MMEngine keeps the old number.
        """
        length = len(self.dataloader)
        before = self.runner.message_hub.get_info(LENGTH, length)
        done = self._iter - self._epoch * before
        if self._iter == 0 or (before == length and 0 <= done <= length):
            return
        if 0 < done < before:
            raise ValueError(
                f'the checkpoint was written after {done} of {before} iterations of epoch {self._epoch + 1}, and an '
                f'epoch has {length} now; resume with the same number of processes, batch size and data, or from '
                "an epoch's checkpoint"
            )
        self._iter = (self._epoch + (done == before)) * length
        self.runner.optim_wrapper.initialize_count_status(self.runner.model, self._iter, self._max_iters)
        self.runner.logger.warning(
            f'an epoch has {length} iterations now, not {before} as in the checkpoint: it continues at '
            f'iteration {self._iter}'
        )
