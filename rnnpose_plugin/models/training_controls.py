"""Plain torch: what hooks may set in the recurrent head while it trains."""

from __future__ import annotations

from dataclasses import dataclass

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
