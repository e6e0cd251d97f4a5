"""Stop a training whose loss or weights are no longer finite, before they are saved."""

from __future__ import annotations

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner, find_latest_checkpoint
from mmpose.registry import HOOKS


@HOOKS.register_module()
class InvalidLossHook(Hook):
    """Raise a ``FloatingPointError`` that names the iteration, the bad losses, the images and the cure.

    It follows MMDetection's ``CheckInvalidLossHook``, whose message names none of these and which lets the bad weights
    be saved. Without it a training continues with NaN to its end.

    Args:
        interval (int): Iterations between two checks of the loss; each waits once for the accelerator.
            Defaults to 1.
    """

    priority = 'HIGH'  # before EMAHook takes in the weights and before CheckpointHook saves them

    def __init__(self, interval: int = 1) -> None:
        if interval < 1:
            raise ValueError(f'InvalidLossHook.interval must be at least 1, got {interval}')
        self.interval = interval

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: dict | None = None
    ) -> None:
        """Check the loss of this iteration.

        Args:
            runner (Runner): The runner of the training process.
            batch_idx (int): Index of the batch in the epoch.
            data_batch (dict, optional): The batch; its data samples name the images.
            outputs (dict, optional): The losses. ``loss`` is the sum of all others, so checking it is enough.
        """
        if not self.every_n_train_iters(runner, self.interval) or _is_finite(outputs['loss']):
            return
        bad = {name: torch.as_tensor(value).detach() for name, value in outputs.items() if not _is_finite(value)}
        entries = ', '.join(f'{name}={float(value)}' for name, value in bad.items())
        raise FloatingPointError(
            f'the loss is not finite at iteration {runner.iter + 1}, epoch '
            f'{runner.epoch + 1} ({entries}), images {_image_names(data_batch)}; {_cure(runner)}'
        )

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Refuse to save weights that are not finite: the last update may have spoilt them after a finite loss.

        Args:
            runner (Runner): The runner of the training process.
            checkpoint (dict): What is about to be written.
        """
        bad = [name for name, value in checkpoint['state_dict'].items() if not _is_finite(value)]
        if bad:
            raise FloatingPointError(
                f'{len(bad)} weights are not finite after iteration {runner.iter} '
                f'({", ".join(bad[:3])}), so they are not saved; {_cure(runner)}'
            )


def _is_finite(value) -> bool:
    return bool(torch.isfinite(torch.as_tensor(value)).all())


def _image_names(data_batch) -> str:
    samples = data_batch.get('data_samples', []) if isinstance(data_batch, dict) else []
    return ', '.join(str(sample.get('img_path')) for sample in samples) or 'unknown'


def _cure(runner: Runner) -> str:
    # A resume would bring the old learning rate back together with the optimizer, hence load_from.
    last = find_latest_checkpoint(runner.work_dir)
    start = f'start from the last checkpoint with --cfg-options load_from={last}' if last else 'start again'
    return f'lower optim_wrapper.optimizer.lr or leave out --amp, and {start}'
