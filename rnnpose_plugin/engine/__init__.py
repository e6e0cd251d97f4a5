"""Hooks and the training loop."""

from .checkpoint_fit_hook import CheckpointFitHook
from .chunked_backprop import ChunkedBackpropHook
from .curriculum import GrowSequenceHook, LateStopLossHook, TeacherForcingHook
from .interrupt_hook import InterruptHook
from .invalid_loss_hook import InvalidLossHook
from .resumable_loop import ResumableEpochLoop
from .seed_epoch_hook import SeedEpochHook, seed_worker
from .synced_save_hook import SyncedSaveHook

__all__ = [
    'CheckpointFitHook',
    'ChunkedBackpropHook',
    'GrowSequenceHook',
    'InterruptHook',
    'InvalidLossHook',
    'LateStopLossHook',
    'ResumableEpochLoop',
    'SeedEpochHook',
    'SyncedSaveHook',
    'TeacherForcingHook',
    'seed_worker',
]
