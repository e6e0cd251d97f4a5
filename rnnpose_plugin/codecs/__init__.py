"""Codecs: keypoints in the input image <-> targets and outputs of the network."""

from .associative_embedding import TrainableAssociativeEmbedding
from .decoupled_heatmap import CenteredDecoupledHeatmap
from .instance_heatmap import InstanceHeatmap

__all__ = ['CenteredDecoupledHeatmap', 'InstanceHeatmap', 'TrainableAssociativeEmbedding']
