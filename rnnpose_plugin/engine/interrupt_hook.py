"""Let Ctrl-C end a run between two iterations."""

from __future__ import annotations

import os
import signal

from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop, Runner
from mmpose.registry import HOOKS

NOTICE = b'\nCtrl-C: stopping after this iteration; press it again to stop at once\n'


@HOOKS.register_module()
class InterruptHook(Hook):
    """Raise the ``KeyboardInterrupt`` of a Ctrl-C after the iteration in which it came; a second one acts at once.

    Raised wherever the signal arrives, it could cut a checkpoint off, and Python swallows it while a data loader
    forks its workers: exceptions of the callbacks around a fork are printed and ignored, and the run goes on. The
    workers, which inherit the handler, leave the signal to the main process.
    """

    priority = 'LOWEST'  # below CheckpointHook: what this iteration has to save is saved

    def before_run(self, runner: Runner) -> None:
        """Take over the signal.

        Args:
            runner (Runner): The runner of the training, validation or testing process.
        """
        self._asked = False
        self._main_process = os.getpid()
        self._previous = signal.signal(signal.SIGINT, self._ask)

    def after_run(self, runner: Runner) -> None:
        """Give the signal back.

        Args:
            runner (Runner): The runner of the training, validation or testing process.
        """
        signal.signal(signal.SIGINT, self._previous)

    def _after_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: dict | None = None,
        mode: str = 'train',
    ) -> None:
        # The end of an epoch has its own checkpoint to save first, see after_train_epoch; an iteration-based loop has
        # no end of an epoch.
        ends_epoch = mode == 'train' and self.end_of_epoch(runner.train_dataloader, batch_idx)
        if self._asked and not (ends_epoch and isinstance(runner.train_loop, EpochBasedTrainLoop)):
            self._stop()

    def after_train_epoch(self, runner: Runner) -> None:
        """Stop here when the signal came in the epoch's last iteration, now that the epoch is saved.

        Args:
            runner (Runner): The runner of the training process.
        """
        if self._asked:
            self._stop()

    def _ask(self, signal_number, frame) -> None:
        if os.getpid() != self._main_process:
            return
        if self._asked:
            self._stop()
        self._asked = True
        os.write(2, NOTICE)  # print is not allowed here: the signal may have come in the middle of a print

    def _stop(self) -> None:
        signal.signal(signal.SIGINT, self._previous)
        raise KeyboardInterrupt
