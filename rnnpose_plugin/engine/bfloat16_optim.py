from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmengine.optim import OptimWrapper
from mmpose.registry import OPTIM_WRAPPERS
from torch import nn


@OPTIM_WRAPPERS.register_module()
class Bfloat16OptimWrapper(OptimWrapper):
    """mmengine's optimizer wrapper with the forward pass in torch's bfloat16 autocast, on a CPU too.

    ``AmpOptimWrapper`` refuses a machine without an accelerator, and processors with bfloat16 instructions
    (``avx512_bf16``, ``amx_bf16``) train the decoder in two thirds of the time. bfloat16 reaches as far as float32, so
    no loss has to be scaled; weights, gradients and optimizer stay float32. Where the processor has no such
    instructions it is slower than float32.

    Its arguments are those of ``OptimWrapper``.
    """

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Autocast around the forward pass.

        Args:
            model (nn.Module): that is trained.

        Yields:
            None: nothing.
        """
        device = next(model.parameters()).device.type
        with super().optim_context(model), torch.autocast(device, torch.bfloat16):
            yield
