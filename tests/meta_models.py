"""Full-size models on torch's meta device, where tensors have shapes but no values."""

from __future__ import annotations

import torch
from mmengine.registry import DefaultScope
from mmpose.registry import MODELS
from torch import nn


def build_without_memory(model: dict) -> nn.Module:
    """Build a config's model in evaluation mode on the meta device."""
    with DefaultScope.overwrite_default_scope('mmpose'):
        try:
            with torch.device('meta'):
                built = MODELS.build(model)
        except RuntimeError:  # MMPose's Swin reads values while it is built
            built = MODELS.build(model).to('meta')
    return built.eval()


@torch.no_grad()
def feature_shape(model: dict) -> tuple[int, int, int]:
    """(C, H, W) of the features that the head reads, for an image of the codec's input size."""
    width, height = model['head']['decoder']['input_size']
    return tuple(build_without_memory(model).extract_feat(torch.empty(1, 3, height, width, device='meta'))[0].shape[1:])
