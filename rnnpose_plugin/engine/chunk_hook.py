"""Chunked backprop and the optimizer: AMP loss scaling, and an optimizer step after every chunk."""

from __future__ import annotations

import torch
from mmengine.dist import get_world_size
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from mmengine.runner import Runner
from mmpose.registry import HOOKS
from torch import Tensor

from .recurrent_head_hook import RecurrentHeadHook

MODES = ('accumulate', 'step')


class OptimizerChunkStep:
    """One optimizer step in the middle of a batch, with MMEngine's clipping and loss scaling.

    Args:
        wrapper (OptimWrapper): the run's.
        backprops (int): chunks per step, >= 1. Defaults to 1.
    """

    def __init__(self, wrapper: OptimWrapper, backprops: int = 1) -> None:
        self.wrapper = wrapper
        self.backprops = backprops

    @property
    def scale(self) -> float:
        """float: the loss scaler's present factor, 1 without one."""
        return _loss_scale(self.wrapper)

    def __call__(self, parameters: list[Tensor], gradients: list[Tensor]) -> None:
        """Step and clear the gradients.

        Args:
            parameters (list[Tensor]): that step; any other parameter has no gradient now and stays.
            gradients (list[Tensor]): without the loss scaler's factor.
        """
        if _has_scaler(self.wrapper):  # scaled by the scaler itself, which initialises it
            gradients = self.wrapper.loss_scaler.scale(gradients)
        for parameter, gradient in zip(parameters, gradients):
            parameter.grad = gradient.to(parameter)
        self.wrapper.step()
        self.wrapper.zero_grad()
        # Autocast caches cast weights until its context ends, and the batch is still inside.
        torch.clear_autocast_cache()


def _has_scaler(wrapper: OptimWrapper) -> bool:
    return isinstance(wrapper, AmpOptimWrapper) and wrapper.loss_scaler.is_enabled()


def _loss_scale(wrapper: OptimWrapper) -> float:
    return float(wrapper.loss_scaler.get_scale()) if _has_scaler(wrapper) else 1.0


@HOOKS.register_module()
class ChunkedBackpropHook(RecurrentHeadHook):
    """What chunked backprop (Algorithm 1) needs of the optimizer; T itself is the head's argument ``chunk_size``.

    Before each iteration the head gets the present factor of the AMP loss scaler: with float16 the gradients inside a
    chunk would underflow without it.

    Algorithm 1 can be read in two ways, and ``mode`` chooses. With ``'step'``, gradient accumulation
    (``optim_wrapper.accumulative_counts``) is within the chunk: the T people of a step are back-propagated in that many
    equal parts, since accumulation over batches contradicts a step per chunk. Processes have different numbers of
    chunks, so ``'step'`` is for one process.

    Args:
        mode (str): ``'accumulate'``: the gradients of all chunks go into one optimizer step; ``'step'``: an optimizer
            step after every chunk, the hidden state kept but detached; the backbone's and the norm's gradients are
            gathered and applied with the last. Defaults to ``'accumulate'``.

    Raises:
        ValueError: for an unknown mode.
    """

    def __init__(self, mode: str = 'accumulate') -> None:
        if mode not in MODES:
            raise ValueError(f'mode is {mode!r}; use one of {MODES}.')
        self.mode = mode

    def before_train(self, runner: Runner) -> None:
        """Find the head and, with ``mode='step'``, give it the optimizer step.

        Args:
            runner (Runner): of the training.

        Raises:
            ValueError: if the model has another head, or ``'step'`` does not fit the head, optimizer or processes.
        """
        super().before_train(runner)
        if self.mode == 'step':
            self._prepare_steps(runner)

    def _prepare_steps(self, runner: Runner) -> None:
        wrapper, chunk_size = runner.optim_wrapper, self.head.chunk_size
        if get_world_size() > 1:
            raise ValueError(
                f"mode='step' takes an optimizer step per chunk, and {get_world_size()} processes have different "
                "numbers of chunks; use mode='accumulate', or one process."
            )
        if chunk_size is None:
            raise ValueError("mode is 'step', but the head's chunk_size is None; set it to the people per step.")
        if not isinstance(wrapper, OptimWrapper):
            raise ValueError(
                f"mode='step' needs one optimizer, but optim_wrapper is a {type(wrapper).__name__}; "
                "use an OptimWrapper, or mode='accumulate'."
            )
        self.backprops = wrapper._accumulative_counts
        if chunk_size % self.backprops:
            raise ValueError(
                f"mode='step' with chunk_size={chunk_size} people per step cannot be split into "
                f'optim_wrapper.accumulative_counts={self.backprops} equal parts; use a chunk_size that '
                f'{self.backprops} divides.'
            )
        # MMEngine has no public name for it. From now on the train loop steps after every batch.
        wrapper._accumulative_counts = 1
        wrapper.initialize_count_status(runner.model, runner.iter, runner.max_iters)
        self.controls.chunk_step = OptimizerChunkStep(wrapper, self.backprops)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None) -> None:
        """Pass the loss scaler's factor on.

        Args:
            runner (Runner): of the training.
            batch_idx (int): index of the batch in its epoch.
            data_batch (dict, optional): unused.
        """
        self.controls.loss_scale = _loss_scale(runner.optim_wrapper)

    def after_train(self, runner: Runner) -> None:
        """Restore the head's controls and the optimizer wrapper.

        Args:
            runner (Runner): of the training.
        """
        if self.controls.chunk_step is not None:
            runner.optim_wrapper._accumulative_counts = self.backprops
        self.controls.loss_scale, self.controls.chunk_step = None, None
