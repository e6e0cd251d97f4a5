"""Models: the recurrent decoder, its losses and its head, the neck that feeds it, and the AE head beside it."""

from .ae_head import StackedAEHead, TrainableAEHead
from .crowd_hourglass import CrowdHourglassAENet
from .data_preprocessor import PoseScalesPreprocessor
from .estimator import FreezableBottomupPoseEstimator
from .feature_norm import RunningFeatureNorm
from .joint_estimator import JointPoseEstimator
from .matched_loss import HungarianHeatmapLoss, StopLoss
from .movenet import MoveNetBackbone
from .movenet_head import MoveNetHead
from .necks import StackedFeatures
from .recurrent_head import RecurrentPoseHead
from .swin import LoadableSwinTransformer

__all__ = [
    'CrowdHourglassAENet',
    'FreezableBottomupPoseEstimator',
    'HungarianHeatmapLoss',
    'JointPoseEstimator',
    'LoadableSwinTransformer',
    'MoveNetBackbone',
    'MoveNetHead',
    'PoseScalesPreprocessor',
    'RecurrentPoseHead',
    'RunningFeatureNorm',
    'StackedAEHead',
    'StackedFeatures',
    'TrainableAEHead',
    'StopLoss',
]
