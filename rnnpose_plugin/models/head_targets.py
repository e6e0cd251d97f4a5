"""From the samples of a batch to the targets of the training sequence."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from ..codecs.instance_heatmap import InstanceHeatmap
from .training_sequence import Targets


def make_targets(batch_data_samples: list, codec: InstanceHeatmap, num_keypoints: int, features: Tensor) -> Targets:
    """Heatmaps of all people, drawn on the device of the features.

    Args:
        batch_data_samples (list[PoseDataSample]): B, with ``gt_instance_labels`` from the codec and, optionally,
            ``gt_fields.heatmap_mask`` (1, H, W).
        codec (InstanceHeatmap): draws the heatmaps.
        num_keypoints (int): K of the head.
        features (Tensor): (B, C, H, W).

    Returns:
        Targets: of the batch.

    Raises:
        ValueError: if the data have another number of keypoints, or the codec another grid than the features.
    """
    labels = [sample.gt_instance_labels for sample in batch_data_samples]
    for label in labels:
        if label.keypoint_labels.shape[1] != num_keypoints:
            raise ValueError(
                f'The data has {label.keypoint_labels.shape[1]} keypoints per person, but the head was built for '
                f'num_keypoints={num_keypoints}; make them equal.'
            )
    counts = [len(label.keypoint_labels) for label in labels]
    joints = pad_sequence([label.keypoint_labels for label in labels], batch_first=True).to(features.device)
    weights = pad_sequence([label.keypoint_weights for label in labels], batch_first=True).to(features.device)
    heatmaps = codec.render(joints, weights)
    if heatmaps.shape[-2:] != features.shape[-2:]:
        raise ValueError(
            f'The codec draws heatmaps of {tuple(heatmaps.shape[:-3:-1])} cells, but the features have '
            f"{tuple(features.shape[:-3:-1])}; set the codec's heatmap_size to input_size / the neck's stride."
        )
    mask = stacked_masks(batch_data_samples, features)
    return Targets(heatmaps, weights, counts, None if mask is None else mask.flatten(0, 1), joints)


def stacked_masks(batch_data_samples: list, maps: Tensor) -> Tensor | None:
    """Masks of the heatmap loss.

    Args:
        batch_data_samples (list[PoseDataSample]): B, with or without ``gt_fields.heatmap_mask`` (1, H, W).
        maps (Tensor): (..., H, W), whose cells are masked; the masks are put on its device.

    Returns:
        Tensor | None: (B, 1, H, W), float32, 1 everywhere for a sample without a mask; None if no sample has one.

    Raises:
        ValueError: for a mask of another size.
    """
    masks = [getattr(sample.get('gt_fields'), 'heatmap_mask', None) for sample in batch_data_samples]
    for mask in masks:
        if mask is not None and mask.shape[-2:] != maps.shape[-2:]:
            raise ValueError(
                f"heatmap_mask has {tuple(mask.shape[:-3:-1])} cells, but the network's maps have "
                f'{tuple(maps.shape[:-3:-1])}; set the heatmap_size of InstanceHeatmapMask (for '
                "MMPose's BottomupGetHeatmapMask that of the codec) to input_size / the network's stride."
            )
    if all(mask is None for mask in masks):
        return None
    everywhere = torch.ones(1, *maps.shape[-2:], device=maps.device)
    return torch.stack([everywhere if mask is None else mask.to(everywhere) for mask in masks])
