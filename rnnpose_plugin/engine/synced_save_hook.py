"""Average the buffers over all processes before they are saved."""

from __future__ import annotations

from mmengine.dist import all_reduce_params
from mmengine.hooks import CheckpointHook, SyncBuffersHook
from mmengine.runner import Runner
from mmpose.registry import HOOKS

from .interrupt_hook import InterruptHook


@HOOKS.register_module()
class SyncedSaveHook(SyncBuffersHook):
    """MMEngine's SyncBuffersHook, but before EMAHook and also for checkpoints within an epoch.

    Each process has its own running statistics, and a checkpoint holds only those of the main process. MMEngine
    averages them at the end of an epoch: a run of several processes resumed within an epoch would continue with other
    statistics than the uninterrupted run, and EMAHook, which copies them after each iteration, would save the main
    process's.
    """

    priority = 'HIGH'  # before EMAHook copies the buffers and before CheckpointHook saves them

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: dict | None = None
    ) -> None:
        """Average the buffers when this iteration is saved, or is the last one of its epoch.

        Args:
            runner (Runner): The runner of the training process.
            batch_idx (int): Index of the batch in the epoch.
            data_batch (dict, optional): The batch. Not used.
            outputs (dict, optional): The losses. Not used.
        """
        if self.distributed and (self.end_of_epoch(runner.train_dataloader, batch_idx) or self._is_saved(runner)):
            all_reduce_params(runner.model.buffers(), op='mean')

    def _is_saved(self, runner: Runner) -> bool:
        stops = any(isinstance(hook, InterruptHook) and hook.stops_after(runner) for hook in runner.hooks)
        return stops or any(
            self.every_n_train_iters(runner, hook.interval, hook.save_begin)
            or (hook.save_last and self.is_last_train_iter(runner))
            for hook in runner.hooks
            if isinstance(hook, CheckpointHook) and not hook.by_epoch
        )
