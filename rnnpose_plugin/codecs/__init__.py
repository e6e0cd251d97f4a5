"""Codecs: keypoints in the input image <-> targets and outputs of the network."""

from .associative_embedding import TrainableAssociativeEmbedding
from .instance_heatmap import InstanceHeatmap

__all__ = ['InstanceHeatmap', 'TrainableAssociativeEmbedding']
