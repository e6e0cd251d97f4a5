"""Plain torch: the decoder's step through torch.compile, where that works."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from .conv_lstm import State

Step = Callable[[Tensor, list[State], Tensor], tuple[Tensor, Tensor, list[State]]]


class CompiledStep:
    """A step compiled at its first call; where that fails it warns once and goes on as it was.

    On CUDA the compiler's ``reduce-overhead`` mode records a CUDA graph of the step. The next replay writes over what
    the graph gave before; what is handed out are therefore copies. Every size of maps is compiled anew; after eight
    torch itself goes back to the plain step, with a message of its own.

    Args:
        step (Callable): ``FirstLSTM.step``, or anything called like it.
    """

    def __init__(self, step: Step) -> None:
        self.plain = step
        self.compiled: Step | None = None
        self.failed = False

    def __getstate__(self) -> dict:
        """What is compiled belongs to the weights it was compiled for; a copy compiles for its own."""
        return dict(self.__dict__, compiled=None)

    def __call__(self, static_maps: Tensor, states: list[State], first: Tensor) -> tuple[Tensor, Tensor, list[State]]:
        """One person.

        Args:
            static_maps (Tensor): as of the step.
            states (list[tuple[Tensor, Tensor]]): likewise.
            first (Tensor): likewise.

        Returns:
            tuple[Tensor, Tensor, list[tuple[Tensor, Tensor]]]: what the step gives.
        """
        if self.failed:
            return self.plain(static_maps, states, first)
        on_cuda = static_maps.is_cuda
        # The compiler's errors have no class in common: a missing C++ compiler, an operator it does not know, ...
        try:
            if self.compiled is None:
                self.compiled = torch.compile(self.plain, mode='reduce-overhead' if on_cuda else 'default')
            if on_cuda:
                torch.compiler.cudagraph_mark_step_begin()
            heatmaps, logits, states = self.compiled(static_maps, states, first)
        except Exception as error:
            self.failed = True
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            warnings.warn(f'compile_step is off, as torch.compile failed ({reason}); poses are the same.', stacklevel=2)
            return self.plain(static_maps, states, first)
        if on_cuda:
            heatmaps, logits, states = heatmaps.clone(), logits.clone(), [(h.clone(), c.clone()) for h, c in states]
        return heatmaps, logits, states
