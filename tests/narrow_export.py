"""A model that is exported within seconds, and images in which it finds a known number of people."""

from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmpose.apis import init_model
from torch import Tensor

ROOT = Path(__file__).parent.parent
NARROW_BACKBONE = dict(
    init_cfg=None, num_stacks=1, downsample_times=1, feat_channels=8, stage_channels=(8, 8), stem_channels=(8, 8)
)
NARROW_HEAD = dict(in_channels=68, hidden_channels=(8, 8, 8), layer_strides=(1, 4, 1), max_instances=5)
SIZES = ((64, 96), (96, 64))  # height and width
COUNTS = (3, 0, 5, 1)  # the third has more people than max_instances


def coloured_blocks(height: int, width: int) -> Tensor:
    """Four images of large random blocks, from dark to bright: (4, 3, height, width) uint8."""
    generator = torch.Generator().manual_seed(height)
    blocks = torch.rand(4, 3, height // 16, width // 16, generator=generator)
    levels = torch.tensor([20, 80, 140, 200])[:, None, None, None] + 55 * blocks
    return levels.repeat_interleave(16, dim=2).repeat_interleave(16, dim=3).to(torch.uint8)


def narrow_model(**head: object) -> torch.nn.Module:
    """Random weights, but those of the stop logit fitted so that ``coloured_blocks`` have ``COUNTS`` people.

    Args:
        **head: other settings of the head.

    Returns:
        torch.nn.Module: in evaluation mode.
    """
    init_default_scope('mmpose')
    cfg = Config.fromfile(ROOT / 'configs' / 'rnnpose_context_crowdbench.py')
    cfg.model.freeze_backbone = False
    cfg.model.backbone.update(NARROW_BACKBONE)
    cfg.model.neck.update(in_channels=[68], in_index=None)
    cfg.model.head.update({**NARROW_HEAD, **head})
    torch.manual_seed(0)
    model = init_model(cfg, None, device='cpu')
    randomise_decoder(model)
    fit_stop(model)
    return model


@torch.no_grad()
def randomise_decoder(model: torch.nn.Module) -> None:
    """Large weights, so that peaks differ from person to person and from image to image."""
    generator = torch.Generator().manual_seed(0)
    for lstm in (model.head.first_lstm, model.head.second_lstm):
        for weight in [] if lstm is None else lstm.parameters():
            if weight.dim() > 1:
                weight.normal_(0, 1.5 * weight[0].numel() ** -0.5, generator=generator)


@torch.no_grad()
def fit_stop(model: torch.nn.Module) -> None:
    """Least squares over all images and steps: logit 2 for a person, -4 after the last."""
    lstm, most = model.head.first_lstm, model.head.max_instances
    maxima, wanted = [], []
    for size in SIZES:
        images = (coloured_blocks(*size).float() - model.data_preprocessor.mean) / model.data_preprocessor.std
        maps, states = lstm.start(model.head._features(model.extract_feat(images)))
        generator = torch.Generator().manual_seed(0)
        for step in range(most):
            noise = lstm.draw_noise(1, *maps.shape[-2:], generator).expand(4, -1, -1, -1)
            _, _, states = lstm.step(maps, states, noise)
            layers = [h.amax(dim=(2, 3)) for h, _ in states[: len(lstm.lstm.layers)]]
            maxima.append(torch.cat([*layers, torch.ones(4, 1)], dim=1))
            wanted.append(torch.tensor([2.0 if step < count else -4.0 for count in COUNTS]))
    # An image without people is left after its first step.
    solution = (
        torch.linalg.lstsq(torch.cat(maxima).double(), torch.cat(wanted)[:, None].double()).solution[:, 0].float()
    )
    lstm.to_stop.weight.copy_(solution[None, :-1])
    lstm.to_stop.bias.copy_(solution[-1:])
