"""Hooks and the training loop."""

from .bfloat16_optim import Bfloat16OptimWrapper
from .checkpoint_fit_hook import CheckpointFitHook
from .chunk_hook import ChunkedBackpropHook
from .curriculum import GrowSequenceHook
from .interrupt_hook import InterruptHook
from .invalid_loss_hook import InvalidLossHook
from .result_images_hook import ResultImagesHook
from .resumable_loop import ResumableEpochLoop
from .resume_hook import ResumeHook
from .seed_epoch_hook import SeedEpochHook, seed_worker
from .synced_save_hook import SyncedSaveHook

__all__ = [
    'Bfloat16OptimWrapper',
    'CheckpointFitHook',
    'ChunkedBackpropHook',
    'GrowSequenceHook',
    'InterruptHook',
    'InvalidLossHook',
    'ResumableEpochLoop',
    'ResultImagesHook',
    'ResumeHook',
    'SeedEpochHook',
    'SyncedSaveHook',
    'seed_worker',
]
