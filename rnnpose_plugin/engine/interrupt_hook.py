"""Stop a run between two iterations on Ctrl-C, SIGTERM or SIGHUP, and save a checkpoint to resume from."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from multiprocessing.queues import Queue
from pathlib import Path
from threading import Thread

import torch
from mmengine.dist import all_reduce, barrier, get_world_size, is_main_process
from mmengine.hooks import CheckpointHook, Hook
from mmengine.runner import BaseLoop, EpochBasedTrainLoop, Runner
from mmpose.registry import HOOKS

from .resumable_loop import ResumableEpochLoop

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@HOOKS.register_module()
class InterruptHook(Hook):
    """Finish the iteration in which the signal came, save it, and raise ``KeyboardInterrupt(signal number)``.

    Raised wherever the signal arrives, the exception could cut a checkpoint off, and Python swallows it while a data
    loader forks its workers: exceptions of the callbacks around a fork are printed and ignored.

    A second Ctrl-C acts at once. A second SIGTERM does not, as ``timeout`` and schedulers send several. A signal that
    the process was started to ignore stays ignored: SIGHUP under ``nohup``, SIGINT in the background of a shell
    without job control. The workers of the data loaders leave all three to the main process; not so those of MMEngine's
    loop by iterations, which it starts before any hook.

    The checkpoint is written where CheckpointHook writes, unless that hook has just saved the same state, and once
    accumulated gradients are used up, as no checkpoint keeps them. mmengine's EpochBasedTrainLoop cannot resume within
    an epoch; there only the end of an epoch is saved.
    """

    priority = 'LOWEST'  # below CheckpointHook: what this iteration has to save is saved

    def before_run(self, runner: Runner) -> None:
        """Take over the signals.

        Args:
            runner (Runner): The runner of the training, validation or testing process.
        """
        self._number = self._agreed = 0  # of the signal; 0 for none
        self._training = self._saved = False
        self._main_process = os.getpid()
        caught = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
        self._previous = {number: signal.signal(number, self._ask) for number in caught}
        for loop in (runner._train_loop, runner._val_loop, runner._test_loop):
            if isinstance(loop, BaseLoop):
                loop.dataloader.worker_init_fn = WorkerInit(loop.dataloader.worker_init_fn)

    def after_run(self, runner: Runner) -> None:
        """Restore the signal handlers.

        Args:
            runner (Runner): The runner of the training, validation or testing process.
        """
        self._restore()

    def before_train(self, runner: Runner) -> None:
        """Note that there is something to save.

        Args:
            runner (Runner): The runner of the training process.
        """
        self._training = True

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None) -> None:
        """Let all processes agree whether this iteration is the last: each needs the others' gradients.

        Args:
            runner (Runner): The runner of the training process.
            batch_idx (int): Index of the batch in the epoch.
            data_batch (dict, optional): The batch. Not used.
        """
        self._saved = False
        if get_world_size() > 1:
            highest = torch.tensor(self._number)
            all_reduce(highest, 'max')
            self._agreed = int(highest)

    def stops_after(self, runner: Runner) -> bool:
        """Whether the running training iteration is the last one.

        Args:
            runner (Runner): The runner of the training process.

        Returns:
            bool: The same in all processes.
        """
        parts = getattr(runner.optim_wrapper, '_accumulative_counts', 1)
        return self._asked() and (runner.iter + 1) % parts == 0

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: dict | None = None
    ) -> None:
        """Save and stop, but leave an epoch's last iteration to ``after_train_epoch``.

        Args:
            runner (Runner): The runner of the training process.
            batch_idx (int): Index of the batch in the epoch.
            data_batch (dict, optional): The batch. Not used.
            outputs (dict, optional): The losses. Not used.
        """
        by_epoch = isinstance(runner.train_loop, EpochBasedTrainLoop)
        if self.stops_after(runner) and not (by_epoch and self.end_of_epoch(runner.train_dataloader, batch_idx)):
            if not by_epoch or isinstance(runner.train_loop, ResumableEpochLoop):
                self._save(runner, runner.epoch, runner.iter + 1)
            barrier()  # a launcher ends all processes when the first one has ended
            self._stop()

    def after_train_epoch(self, runner: Runner) -> None:
        """Save and stop when the signal came in the epoch's last iteration.

        Args:
            runner (Runner): The runner of the training process.
        """
        if self._asked():
            self._save(runner, runner.epoch + isinstance(runner.train_loop, EpochBasedTrainLoop), runner.iter)
            barrier()
            self._stop()

    def after_val_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: list | None = None
    ) -> None:
        """Save what a training has done before this validation, and stop.

        Args:
            runner (Runner): The runner of the validation process.
            batch_idx (int): Index of the batch.
            data_batch (dict, optional): The batch. Not used.
            outputs (Sequence, optional): The predictions. Not used.
        """
        if self._number:
            if self._training:
                self._save(runner, runner.epoch, runner.iter)
            self._stop()

    def after_test_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: list | None = None
    ) -> None:
        """Stop a test.

        Args:
            runner (Runner): The runner of the testing process.
            batch_idx (int): Index of the batch.
            data_batch (dict, optional): The batch. Not used.
            outputs (Sequence, optional): The predictions. Not used.
        """
        if self._number:
            self._stop()

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Note that this iteration is saved.

        Args:
            runner (Runner): The runner of the training process.
            checkpoint (dict): What is about to be written. Not changed.
        """
        self._saved = True

    def _asked(self) -> bool:
        return bool(self._agreed if get_world_size() > 1 else self._number)

    def _ask(self, number: int, frame: object) -> None:
        if os.getpid() != self._main_process:  # a worker that was forked from it
            return
        if self._number and number == signal.SIGINT:
            self._stop()
        if not self._number:
            again = b'; press it again to stop at once' if number == signal.SIGINT else b''
            # print is not allowed here: the signal may have come in the middle of a print.
            os.write(2, b'\n%s: stopping after this iteration%s\n' % (name_of(number).encode(), again))
        self._number = number

    def _save(self, runner: Runner, epoch: int, iteration: int) -> None:
        hooks = [hook for hook in runner.hooks if isinstance(hook, CheckpointHook)]
        if hooks and is_main_process() and not self._saved:
            path = Path(hooks[0].out_dir, f'iter_{iteration}.pth')
            runner.save_checkpoint(str(path.parent), path.name, meta=dict(epoch=epoch, iter=iteration), by_epoch=False)
            Path(runner.work_dir, 'last_checkpoint').write_text(str(path))

    def _stop(self) -> None:
        number = self._agreed or self._number or int(signal.SIGINT)
        self._restore()
        raise KeyboardInterrupt(number)

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)


class WorkerInit:
    """The ``worker_init_fn`` of a data loader, in a worker that obeys no SIGTERM but the main process's own.

    torch's handler in a worker ends it at any SIGTERM. When a scheduler sends one to the whole process group, the main
    process could then not finish its iteration. A worker that cannot send a batch ends, see :func:`end_if_not_sent`.

    Args:
        init (Callable, optional): The loader's own function, called afterwards.
    """

    def __init__(self, init: Callable[[int], None] | None) -> None:
        self.init = init

    def __call__(self, worker_id: int) -> None:
        """Set up a worker.

        Args:
            worker_id (int): Index of the worker.
        """
        if hasattr(signal, 'sigwaitinfo'):  # macOS lacks it
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
            Thread(target=_exit_on_sigterm_from, args=(os.getppid(),), daemon=True).start()
        Queue._on_queue_feeder_error = staticmethod(end_if_not_sent)
        if self.init is not None:
            self.init(worker_id)


def end_if_not_sent(error: Exception, batch: object) -> None:
    """End a worker that cannot send a batch; Python only prints the error, and the main process would wait forever.

    Args:
        error (Exception): why; torch's own says that shared memory is exhausted, of which else SIGBUS is the sign.
        batch (object): what was to be sent.
    """
    full = 'shared memory' in str(error)
    if not full:
        print(f'a batch cannot be sent to the main process: {error}', file=sys.stderr, flush=True)
    os.kill(os.getpid(), signal.SIGBUS if full else signal.SIGABRT)


def _exit_on_sigterm_from(parent: int) -> None:
    """The main process ends its workers by SIGTERM, and waits for them without limit."""
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(0)


def name_of(number: int) -> str:
    """A signal's name as a user knows it.

    Args:
        number (int): Of the signal.

    Returns:
        str: Such as ``'SIGTERM'``; ``'Ctrl-C'`` for SIGINT.
    """
    return 'Ctrl-C' if number == signal.SIGINT else signal.Signals(number).name
