"""Plain torch: what hooks may set in the recurrent head while it trains."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from .chunked_backprop import ChunkStep


@dataclass
class TrainingControls:
    """``head.training_controls``: hooks set these fields and nothing else of the head, and reset them after training.

    Without any hook the head trains by its own arguments alone.

    Args:
        loss_scale (float, optional): the present factor of the AMP loss scaler, 1 without one; set by
            ``ChunkedBackpropHook`` before each iteration. Defaults to None, no hook.
        chunk_step (ChunkStep, optional): the optimizer step after every chunk; set by ``ChunkedBackpropHook`` with
            ``mode='step'``. Defaults to None, no step within a batch.
        max_people (int, optional): a sequence ends after this many steps; set by ``GrowSequenceHook`` before each
            iteration. Defaults to None, the head's ``max_train_instances``.
    """

    loss_scale: float | None = None
    chunk_step: ChunkStep | None = None
    max_people: int | None = None

    def scale_of_chunks(self, device: str, chunk_size: int) -> float:
        """The factor on every chunk's loss while it is back-propagated.

        Args:
            device (str): type of the device.
            chunk_size (int): T, for the message.

        Returns:
            float: ``loss_scale``, or 1 without the hook.

        Raises:
            ValueError: with float16 and without the hook.
        """
        if self.loss_scale is not None:
            return self.loss_scale
        if torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device) == torch.float16:
            raise ValueError(
                f'Small gradients would become 0: autocast is float16 and chunk_size is {chunk_size}, but the '
                "loss scaler's factor is not known inside a chunk; add dict(type='ChunkedBackpropHook') to the hooks."
            )
        return 1.0
