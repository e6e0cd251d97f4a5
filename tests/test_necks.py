"""Which channels of which output reach the decoder."""

import pytest
import torch
from mmpose.registry import MODELS

from rnnpose_plugin.models.necks import StackedFeatures


def outputs(channels, size=4):
    return [torch.randn(2, c, size, size) for c in channels]


def test_the_papers_features():
    neck = MODELS.build(dict(type='StackedFeatures', in_channels=[68] * 4, channels=(34, 68), ae_channels=34))
    stacks = outputs([68] * 4)
    features, ae_maps = neck(stacks)
    assert features.shape[1] == 136
    assert torch.equal(features[:, 34:68], stacks[1][:, 34:])
    assert torch.equal(ae_maps, stacks[3][:, :34])


def test_any_backbones_feature_map():
    neck, maps = StackedFeatures([8, 16, 32], in_index=[-2]), outputs([8, 16, 32])
    (features,) = neck(tuple(maps))
    assert torch.equal(features, maps[1])
    both = StackedFeatures([8, 16, 32], in_index=[2, 0])
    assert torch.equal(both(maps)[0], torch.cat([maps[2], maps[0]], 1))


@pytest.mark.parametrize(
    'settings, words',
    [
        (dict(in_channels=[68], channels=(34, 70)), r'\(34, 70\)'),
        (dict(in_channels=[68], channels=(40, 40)), r'\(40, 40\)'),
        (dict(in_channels=[68], in_index=[1]), 'output 1'),
        (dict(in_channels=[68], ae_channels=70), '70'),
    ],
)
def test_ranges_that_do_not_fit_are_refused_at_construction(settings, words):
    with pytest.raises(ValueError, match=words):
        StackedFeatures(**settings)


def test_outputs_that_differ_from_in_channels_are_named():
    with pytest.raises(ValueError, match=r'\[34\].*in_channels is \[68\]'):
        StackedFeatures([68])(outputs([34]))
    with pytest.raises(ValueError, match='in_index'):
        StackedFeatures([8, 8])([torch.zeros(1, 8, 4, 4), torch.zeros(1, 8, 2, 2)])


def test_ae_training_gives_the_last_channels_of_the_last_stack_no_gradient():
    """AE supervises the first 34 channels of each stack; the others are trained where a later stack reads them."""
    torch.manual_seed(0)
    backbone = MODELS.build(
        dict(
            type='HourglassAENet',
            num_stacks=2,
            downsample_times=1,
            out_channels=68,
            stage_channels=(8, 8),
            feat_channels=8,
        )
    )
    sum(stack[:, :34].square().mean() for stack in backbone(torch.randn(1, 3, 32, 32))).backward()
    first, last = (convolution.conv.weight.grad[34:].abs().sum() for convolution in backbone.out_convs)
    assert first > 0 and last == 0
