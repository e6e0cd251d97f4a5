"""What happens around the model while it trains: hooks, and the autograd op that back-propagates chunk by chunk."""

from .checkpoint_fit_hook import CheckpointFitHook
from .chunked_backprop import ChunkedBackpropHook
from .interrupt_hook import InterruptHook
from .invalid_loss_hook import InvalidLossHook
from .progress_bar_hook import ProgressBarHook
from .seed_epoch_hook import SeedEpochHook, seed_worker

__all__ = [
    'CheckpointFitHook',
    'ChunkedBackpropHook',
    'InterruptHook',
    'InvalidLossHook',
    'ProgressBarHook',
    'SeedEpochHook',
    'seed_worker',
]
