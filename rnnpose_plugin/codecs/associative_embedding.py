from __future__ import annotations

from mmpose.codecs import AssociativeEmbedding
from mmpose.registry import KEYPOINT_CODECS


@KEYPOINT_CODECS.register_module()
class TrainableAssociativeEmbedding(AssociativeEmbedding):
    """The toolbox's Associative Embedding codec, with its labels sent to the head.

    ``AssociativeEmbedding.encode`` makes ``keypoint_indices``, which the tag loss needs, but names no
    ``label_mapping_table``, so ``PackPoseInputs`` drops them (MMPose issue #2389). Arguments, encoding and decoding are
    the toolbox's own.
    """

    label_mapping_table = dict(keypoint_weights='keypoint_weights', keypoint_indices='keypoint_indices')
