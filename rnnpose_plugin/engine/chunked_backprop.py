"""Backpropagation chunk by chunk behind one ordinary loss (paper, section 3.2.1): the autograd op and its hook."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from mmengine.dist import get_world_size
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from mmengine.runner import Runner
from mmpose.registry import HOOKS
from torch import Tensor
from torch.autograd.function import once_differentiable

MODES = ('accumulate', 'step')
Losses = dict  # names -> scalar tensors


class _HandOver(torch.autograd.Function):
    """A loss whose gradients are known already; backward scales them and hands them over."""

    @staticmethod
    def forward(ctx, loss: Tensor, gradients: list[Tensor], *tensors: Tensor) -> Tensor:
        ctx.gradients, ctx.dtypes = gradients, [tensor.dtype for tensor in tensors]
        return loss.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_output: Tensor) -> tuple:
        return (None, None, *((g * grad_output.to(g)).to(dtype) for g, dtype in zip(ctx.gradients, ctx.dtypes)))


class _Gradients:
    """The gradients of a sequence, gathered chunk by chunk without the loss scaler's factor, in float32 at least."""

    def __init__(self, inputs: list[Tensor], parameters: Iterable[Tensor]) -> None:
        self.stand_ins = [tensor.detach().requires_grad_(tensor.requires_grad) for tensor in inputs]
        self.parameters = [parameter for parameter in parameters if parameter.requires_grad]
        self.outer = [tensor for tensor in inputs if tensor.requires_grad] + self.parameters
        self.inner = [tensor for tensor in self.stand_ins if tensor.requires_grad] + self.parameters
        self.totals = [self._zeros(tensor) for tensor in self.inner]
        self.parts: dict[str, Tensor] = {}

    @staticmethod
    def _zeros(tensor: Tensor) -> Tensor:
        return torch.zeros_like(tensor, dtype=torch.promote_types(tensor.dtype, torch.float32))

    def add(self, losses: Losses, scale: float) -> None:
        """Back-propagate one chunk; ``scale`` acts inside and is divided out."""
        gradients = torch.autograd.grad(sum(losses.values()) * scale, self.inner, allow_unused=True)
        for total, gradient in zip(self.totals, gradients):
            if gradient is not None:
                total += gradient.to(total) / scale
        for name, loss in losses.items():
            self.parts[name] = self.parts.get(name, 0) + loss.detach()

    def take_parameters(self) -> list[Tensor]:
        """The parameters' gradients so far; they begin anew, those of the inputs are kept."""
        first = len(self.inner) - len(self.parameters)
        taken, self.totals[first:] = self.totals[first:], [self._zeros(p) for p in self.parameters]
        return taken

    def hand_over(self) -> tuple[Tensor, dict[str, Tensor]]:
        """The total loss, whose backward delivers what has been gathered, and its parts."""
        if not self.parts:
            raise ValueError('No chunk was run, so there is no loss to back-propagate.')
        return _HandOver.apply(sum(self.parts.values()), self.totals, *self.outer), self.parts


def backprop_in_chunks(
    run: Callable[..., Iterable[Losses]],
    inputs: list[Tensor],
    parameters: Iterable[Tensor],
    scale: float = 1.0,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The sum of all chunk losses, with each chunk back-propagated as soon as it is there.

    Only one chunk's graph is alive at a time, so memory is bounded by the chunk size. The result is an ordinary loss
    to everything outside: its ``backward`` delivers the gradients to ``inputs`` and ``parameters``, so stock train
    loops, accumulation, clipping, loss scaling and DDP (whatever each rank's number of chunks) need no change.

    Args:
        run (Callable): called with detached stand-ins for ``inputs``; yields for each chunk a dict of scalar losses. It
            must not let a graph live on from one chunk to the next other than through the stand-ins.
        inputs (list[Tensor]): tensors with a graph that every chunk uses, such as the features.
        parameters (Iterable[Tensor]): leaves that the chunks use; those without ``requires_grad`` are left out, those
            that no chunk reached get zeros (DDP waits for every parameter).
        scale (float): factor on each chunk's loss inside, divided out again outside: with fp16 it must be the loss
            scaler's, else the inner gradients underflow before the scaler's factor reaches them. Defaults to 1.

    Returns:
        tuple[Tensor, dict[str, Tensor]]: the total loss, a scalar with a graph, and its parts, detached.

    Raises:
        ValueError: if ``run`` yields no chunk.
    """
    gradients = _Gradients(inputs, parameters)
    for losses in run(*gradients.stand_ins):
        gradients.add(losses, scale)
    return gradients.hand_over()


def backprop_with_steps(
    run: Callable[..., Iterable[Losses]],
    is_last: Callable[[], bool],
    inputs: list[Tensor],
    parameters: Iterable[Tensor],
    step: ChunkStep,
) -> tuple[Tensor, dict[str, Tensor]]:
    """As :func:`backprop_in_chunks`, with an optimizer step for ``parameters`` after every chunk but the last.

    The last chunk's gradients are handed over with the loss, and the train loop's own step applies them. With them go
    the gradients of ``inputs``, gathered over all chunks: whatever is below (norm, backbone) steps once per batch.

    Args:
        run (Callable): as in :func:`backprop_in_chunks`; it must use the weights of now in every chunk.
        is_last (Callable): whether the chunk just yielded was the last one.
        inputs (list[Tensor]): as in :func:`backprop_in_chunks`.
        parameters (Iterable[Tensor]): those that step.
        step (ChunkStep): the optimizer's.

    Returns:
        tuple[Tensor, dict[str, Tensor]]: the total loss and its parts.

    Raises:
        ValueError: if ``run`` yields no chunk.
    """
    gradients = _Gradients(inputs, parameters)
    for number, losses in enumerate(run(*gradients.stand_ins), start=1):
        gradients.add(losses, step.scale)
        if number % step.backprops == 0 and not is_last():
            step(gradients.parameters, gradients.take_parameters())
    return gradients.hand_over()


class ChunkStep:
    """One optimizer step in the middle of a batch, with the toolbox's clipping and loss scaling.

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
        """Step and forget the gradients.

        Args:
            parameters (list[Tensor]): that step; any other parameter has no gradient now and stays.
            gradients (list[Tensor]): without the loss scaler's factor.
        """
        if _has_scaler(self.wrapper):  # asked for its factor, and not told it: the scaler begins its work so
            gradients = self.wrapper.loss_scaler.scale(gradients)
        for parameter, gradient in zip(parameters, gradients):
            parameter.grad = gradient.to(parameter)
        self.wrapper.step()
        self.wrapper.zero_grad()
        # Autocast keeps the weights it has cast until its context ends, and the batch is still inside.
        torch.clear_autocast_cache()


def _has_scaler(wrapper: OptimWrapper) -> bool:
    return isinstance(wrapper, AmpOptimWrapper) and wrapper.loss_scaler.is_enabled()


def _loss_scale(wrapper: OptimWrapper) -> float:
    return float(wrapper.loss_scaler.get_scale()) if _has_scaler(wrapper) else 1.0


@HOOKS.register_module()
class ChunkedBackpropHook(Hook):
    """Turns chunked backprop on in the head while training (Algorithm 1).

    Without this hook the head back-propagates through the whole sequence at once. With fp16 loss scaling it also tells
    the head the scaler's present factor before each iteration.

    Algorithm 1 can be read in two ways, and ``mode`` chooses. With ``'step'``, gradient accumulation
    (``optim_wrapper.accumulative_counts``) is within the chunk: T people per step are back-propagated in so many equal
    parts, since a step that waited for another batch would be none per chunk. Processes have different numbers of
    chunks, so ``'step'`` is for one process.

    Args:
        chunk_size (int, optional): T, people per update, >= 1; None is the whole sequence at once, exact SGD (section
            4.1). Defaults to 8, the paper's.
        mode (str): ``'accumulate'``: the gradients of all chunks go into one optimizer step; ``'step'``: an optimizer
            step after every chunk, the hidden state kept but detached; the backbone's and the norm's gradients are
            gathered and applied with the last. Defaults to ``'accumulate'``.

    Raises:
        ValueError: for T < 1, an unknown mode, or ``'step'`` without T.
    """

    def __init__(self, chunk_size: int | None = 8, mode: str = 'accumulate') -> None:
        if chunk_size is not None and (not isinstance(chunk_size, int) or chunk_size < 1):
            raise ValueError(f'chunk_size is {chunk_size!r}; T is a number of people and must be at least 1.')
        if mode not in MODES:
            raise ValueError(f'mode is {mode!r}; use one of {MODES}.')
        if mode == 'step' and chunk_size is None:
            raise ValueError("mode is 'step', but chunk_size is None; name the number of people per step.")
        self.chunk_size = chunk_size
        self.mode = mode

    def before_train(self, runner: Runner) -> None:
        """Set the chunk size, and how a chunk steps, on the head.

        Args:
            runner (Runner): of the training.

        Raises:
            ValueError: if the model's head knows no chunks, or ``'step'`` cannot be done here.
        """
        self.head = self._find_head(runner)
        self.head.chunk_size = self.chunk_size
        if self.mode == 'step':
            self._prepare_steps(runner)

    def _prepare_steps(self, runner: Runner) -> None:
        wrapper = runner.optim_wrapper
        if get_world_size() > 1:
            raise ValueError(
                f"mode='step' takes an optimizer step per chunk, and {get_world_size()} processes have different "
                "numbers of chunks; use mode='accumulate', or one process."
            )
        if not isinstance(wrapper, OptimWrapper):
            raise ValueError(
                f"mode='step' needs one optimizer, but optim_wrapper is a {type(wrapper).__name__}; "
                "use an OptimWrapper, or mode='accumulate'."
            )
        self.backprops = wrapper._accumulative_counts
        if self.chunk_size % self.backprops:
            raise ValueError(
                f"mode='step' with chunk_size={self.chunk_size} people per step cannot be cut into "
                f'optim_wrapper.accumulative_counts={self.backprops} equal parts; use a chunk_size that '
                f'{self.backprops} divides.'
            )
        # The toolbox has no public name for it. The train loop is to count every batch as a step from now on.
        wrapper._accumulative_counts = 1
        wrapper.initialize_count_status(runner.model, runner.iter, runner.max_iters)
        self.head.chunk_size = self.chunk_size // self.backprops
        self.head.chunk_step = ChunkStep(wrapper, self.backprops)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None) -> None:
        """Pass the loss scaler's factor on.

        Args:
            runner (Runner): of the training.
            batch_idx (int): index of the batch in its epoch.
            data_batch (dict, optional): unused.
        """
        self.head.chunk_loss_scale = _loss_scale(runner.optim_wrapper)

    def after_train(self, runner: Runner) -> None:
        """Leave the head, and the optimizer's wrapper, as they were built.

        Args:
            runner (Runner): of the training.
        """
        if self.head.chunk_step is not None:
            runner.optim_wrapper._accumulative_counts = self.backprops
        self.head.chunk_size, self.head.chunk_loss_scale, self.head.chunk_step = None, 1.0, None

    @staticmethod
    def _find_head(runner: Runner) -> torch.nn.Module:
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        head = getattr(model, 'head', None)
        if not hasattr(head, 'chunk_loss_scale'):
            raise ValueError(
                f'ChunkedBackpropHook needs a RecurrentPoseHead, but the head is a {type(head).__name__}; '
                'take the hook out of default_hooks.'
            )
        return head
