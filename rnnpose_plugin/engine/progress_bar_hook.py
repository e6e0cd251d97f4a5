"""A progress bar on stderr for the training, validation and test loops."""

from __future__ import annotations

import sys
from math import ceil

from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmengine.utils import ProgressBar
from mmpose.registry import HOOKS


class LoopBar(ProgressBar):
    """The bar of one loop: one line drawn again and again on a terminal, at most eleven lines in a log.

    Args:
        name (str): What the loop does, printed before the bar.
        total (int): Number of steps of the loop.
        interval (int): Steps between two drawings on a terminal. Elsewhere a line is printed every 10 %.
    """

    def __init__(self, name: str, total: int, interval: int) -> None:
        self.name = name
        self.note = ''
        self.stream = sys.stderr
        self.on_terminal = self.stream.isatty()
        self.stride = interval if self.on_terminal else max(1, ceil(total / 10))
        self.pending = 0
        super().__init__(total, bar_width=30, file=self)  # the first drawing is not fitted to the terminal

    @property
    def terminal_width(self) -> int:
        """Columns left for the bar beside its name and its note."""
        return super().terminal_width - len(self.name) - len(self.note) - 2

    def is_due(self) -> bool:
        """Count one step and tell whether the bar has to be drawn after it."""
        self.pending += 1
        return self.pending >= self.stride or self.completed + self.pending >= self.task_num

    def draw(self, note: str = '') -> None:
        """Draw all steps counted since the last drawing.

        Args:
            note (str): Text after the bar, for example the loss.
        """
        self.note = note
        self.update(self.pending)
        self.pending = 0

    def write(self, text: str) -> None:
        """Print what mmengine's bar draws, with name and note; the bar is its own ``file``.

        Args:
            text (str): The bar, led by a carriage return when it is not the first drawing.
        """
        line = f'{self.name} {text.lstrip(chr(13))} {self.note}'.rstrip()
        # The cursor waits in column 0, so that a line of the logger replaces the bar instead of following it.
        self.stream.write(f'\r{line}\x1b[K\r' if self.on_terminal else f'{line}\n')

    def flush(self) -> None:
        """Flush stderr."""
        self.stream.flush()

    def close(self) -> None:
        """Leave the finished bar on the terminal and go to the next line."""
        if self.on_terminal:
            self.stream.write('\n')
            self.flush()


@HOOKS.register_module()
class ProgressBarHook(Hook):
    """Show on stderr how far the run is: iterations, time left and, while training, the loss.

    Only the main process draws. The training bar covers the whole run, or what is left of it after a resume, because
    mmengine's bar estimates the time left from all steps it counts. The loss is the number that ``RuntimeInfoHook`` has
    put into the message hub, so it costs no synchronisation with the accelerator.

    Args:
        interval (int): Iterations between two drawings on a terminal. When stderr is no terminal a line is printed
            every 10 % instead. Defaults to 10.
    """

    priority = 'LOWEST'  # below LoggerHook, so that the bar stands under the iteration's log line

    def __init__(self, interval: int = 10) -> None:
        if interval < 1:
            raise ValueError(f'ProgressBarHook.interval must be at least 1, got {interval}')
        self.interval = interval

    @master_only
    def before_train(self, runner: Runner) -> None:
        """Open the bar of the run.

        Args:
            runner (Runner): The runner of the training process.
        """
        self._train_bar = LoopBar('train', runner.max_iters - runner.iter, self.interval)

    @master_only
    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: dict | None = None
    ) -> None:
        """Count a training iteration.

        Args:
            runner (Runner): The runner of the training process.
            batch_idx (int): Index of the batch in the epoch.
            data_batch (dict, optional): The batch. Not used.
            outputs (dict, optional): The losses. Not used: reading them would wait for the accelerator.
        """
        if self._train_bar.is_due():
            self._train_bar.draw(_loss_note(runner.message_hub.log_scalars))

    @master_only
    def after_train(self, runner: Runner) -> None:
        """Close the bar of the run.

        Args:
            runner (Runner): The runner of the training process.
        """
        self._train_bar.close()

    @master_only
    def before_val(self, runner: Runner) -> None:
        """Open a bar for one validation.

        Args:
            runner (Runner): The runner of the validation process.
        """
        self._eval_bar = LoopBar('val', len(runner.val_dataloader), self.interval)

    @master_only
    def after_val_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: list | None = None
    ) -> None:
        """Count a validation iteration.

        Args:
            runner (Runner): The runner of the validation process.
            batch_idx (int): Index of the batch.
            data_batch (dict, optional): The batch. Not used.
            outputs (Sequence, optional): The predictions. Not used.
        """
        self._count_eval_iter()

    @master_only
    def after_val(self, runner: Runner) -> None:
        """Close the bar of the validation.

        Args:
            runner (Runner): The runner of the validation process.
        """
        self._eval_bar.close()

    @master_only
    def before_test(self, runner: Runner) -> None:
        """Open the bar of the test.

        Args:
            runner (Runner): The runner of the testing process.
        """
        self._eval_bar = LoopBar('test', len(runner.test_dataloader), self.interval)

    @master_only
    def after_test_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: list | None = None
    ) -> None:
        """Count a test iteration.

        Args:
            runner (Runner): The runner of the testing process.
            batch_idx (int): Index of the batch.
            data_batch (dict, optional): The batch. Not used.
            outputs (Sequence, optional): The predictions. Not used.
        """
        self._count_eval_iter()

    @master_only
    def after_test(self, runner: Runner) -> None:
        """Close the bar of the test.

        Args:
            runner (Runner): The runner of the testing process.
        """
        self._eval_bar.close()

    def _count_eval_iter(self) -> None:
        if self._eval_bar.is_due():
            self._eval_bar.draw()


def _loss_note(log_scalars: dict) -> str:
    return f'loss {log_scalars["train/loss"].current():.4g}' if 'train/loss' in log_scalars else ''
