"""Codecs: keypoints in the input image <-> what the network is trained on and outputs."""

from .associative_embedding import TrainableAssociativeEmbedding
from .instance_heatmap import InstanceHeatmap

__all__ = ['InstanceHeatmap', 'TrainableAssociativeEmbedding']
