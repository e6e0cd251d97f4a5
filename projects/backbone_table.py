"""On which backbones the decoder stands: a table computed from the configs alone, without weights or data."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from mmengine.registry import DefaultScope
from mmpose.registry import MODELS
from torch import nn

from projects.markdown import align
from rnnpose_plugin.runtime.launch import read_config

HEADER = ['backbone', 'neck', 'stride', 'channels', 'parameters, million: backbone and neck / head', 'config']


@dataclass(frozen=True)
class BackboneRow:
    """What a config gives its head.

    Args:
        backbone (str): type.
        frozen (bool): whether it is not trained.
        neck (str): type, empty for none.
        stride (float): pixels of the input for each cell of the features that the head reads.
        channels (int): of these features.
        parameters (int): of backbone and neck.
        head_parameters (int): of the head.
        config (str): file name without folder and ending.
    """

    backbone: str
    frozen: bool
    neck: str
    stride: float
    channels: int
    parameters: int
    head_parameters: int
    config: str


def build_without_memory(model: dict) -> nn.Module:
    """Build a model at full size on the meta device, where tensors have shapes and no values.

    Args:
        model (dict): its config.

    Returns:
        nn.Module: in evaluation mode.
    """
    with DefaultScope.overwrite_default_scope('mmpose'):
        try:
            with torch.device('meta'):
                built = MODELS.build(model)
        except RuntimeError:  # the toolbox's Swin reads values while it is built
            built = MODELS.build(model).to('meta')
    return built.eval()


@torch.no_grad()
def backbone_row(path: str) -> BackboneRow:
    """A config's row.

    Args:
        path (str): the config file of a bottom-up model whose head reads the first feature map.

    Returns:
        BackboneRow: computed with a picture of the codec's ``input_size``.
    """
    cfg = read_config(path)
    model = build_without_memory(cfg.model)
    w, h = cfg.model.head.decoder.input_size
    features = model.extract_feat(torch.empty(1, 3, h, w, device='meta'))[0]
    neck = cfg.model.get('neck')
    return BackboneRow(
        backbone=cfg.model.backbone.type,
        frozen=cfg.model.get('freeze_backbone', False),
        neck=neck.type if neck else '',
        stride=w / features.shape[-1],
        channels=features.shape[1],
        parameters=_count(model.backbone) + (_count(model.neck) if neck else 0),
        head_parameters=_count(model.head),
        config=os.path.splitext(os.path.basename(path))[0],
    )


def backbone_table(paths: Iterable[str]) -> str:
    """The table of several configs.

    Args:
        paths (Iterable[str]): config files.

    Returns:
        str: Markdown, aligned for the terminal too.
    """
    return '\n'.join(align([HEADER, *(_cells(backbone_row(path)) for path in paths)]))


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _cells(row: BackboneRow) -> list[str]:
    return [
        row.backbone + (', frozen' if row.frozen else ''),
        row.neck or 'none',
        f'{row.stride:g}',
        str(row.channels),
        f'{row.parameters / 1e6:.2f} / {row.head_parameters / 1e6:.2f}',
        f'`{row.config}`',
    ]
