"""Published AE weights: the converted network computes the outputs of the source network.

The checkpoints have the names and shapes of the published files, which are not available here, and random values. The
source networks are written again below, on plain tensors, from their descriptions.
"""

from __future__ import annotations

import logging
import os
import re
import runpy
import shlex
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config, DictAction
from mmengine.logging import HistoryBuffer
from mmpose.registry import MODELS

from rnnpose_plugin.engine.checkpoint_fit_hook import CheckpointFitHook, refuse_misfit
from rnnpose_plugin.runtime.convert_checkpoint import (
    PREPROCESSING,
    convert_file,
    convert_weights,
    detect_source,
    read_weights,
    usage,
)

ROOT = Path(__file__).parent.parent
TOOL = str(ROOT / 'tools' / 'convert_checkpoint.py')
SMALL = dict(widths=(16, 20, 24, 28), feat=16, out=68, stacks=3)
FULL = dict(widths=(256, 384, 512, 640, 768), feat=256, stacks=4)
# Of the largest output: both sides are float32, with some forty layers behind each other and its batch norms rounded
# in another order. Those of pose-ae, which only add a bias, come out without any difference.
TOLERANCE = 1e-5


# The two sources: weights by name, and forward passes


def convolutions(widths, feat, out, stacks):
    """(stem, hourglasses, outputs, merges) -> shapes, by the names that both sources share after their prefixes."""
    shapes = {f'stem.{place}': shape for place, shape in
              ((0, (64, 3, 7, 7)), (1, (128, 64, 3, 3)), (3, (128, 128, 3, 3)), (4, (feat, 128, 3, 3)))}  # fmt: skip
    for stack in range(stacks):
        inside = f'hourglass.{stack}.0.'
        for level, (width, inner) in enumerate(zip(widths, widths[1:])):
            shapes[f'{inside}up1'] = (width, width, 3, 3)
            shapes[f'{inside}low1'] = (inner, width, 3, 3)
            shapes[f'{inside}low3'] = (width, inner, 3, 3)
            inside += 'low2.'
            if level == len(widths) - 2:
                shapes[inside[:-1]] = (inner, inner, 3, 3)
        shapes[f'hourglass.{stack}.1'] = shapes[f'hourglass.{stack}.2'] = (feat, feat, 3, 3)
        shapes[f'out.{stack}'] = (out, feat, 1, 1)
        if stack < stacks - 1:
            shapes[f'merge_out.{stack}'] = (feat, out, 1, 1)
            shapes[f'merge_feature.{stack}'] = (feat, feat, 1, 1)
    return shapes


def renamed(layer, **parts):
    head, _, tail = layer.partition('.')
    return parts[head].format(tail)


def pose_ae_weights(widths=SMALL['widths'], feat=16, out=68, stacks=3, prefix='model.module.'):
    """A state dict of pose-ae-train: a weight and a bias for every convolution, no norms."""
    torch.manual_seed(0)
    weights = OrderedDict()
    for layer, shape in convolutions(widths, feat, out, stacks).items():
        name = renamed(layer, stem='pre.{}', hourglass='features.{}', out='outs.{}', merge_out='merge_preds.{}.conv',
                       merge_feature='merge_features.{}.conv')  # fmt: skip
        fan_in = shape[1] * shape[2] * shape[3]
        weights[f'{prefix}{name}.conv.weight'] = torch.randn(shape) / fan_in**0.5
        weights[f'{prefix}{name}.conv.bias'] = 0.3 * torch.randn(shape[0])
    return weights


def mmpose0_weights(widths=SMALL['widths'], feat=16, out=34, stacks=3, prefix=''):
    """A state dict of MMPose 0.x: batch norms behind all convolutions but the outputs, which have biases."""
    torch.manual_seed(0)
    weights = OrderedDict()
    for layer, shape in convolutions(widths, feat, out, stacks).items():
        name = prefix + 'backbone.' + renamed(
            layer, stem='stem.{}', hourglass='hourglass_modules.{}', out='out_convs.{}', merge_out='remap_out_convs.{}',
            merge_feature='remap_feature_convs.{}')  # fmt: skip
        fan_in = shape[1] * shape[2] * shape[3]
        weights[f'{name}.conv.weight'] = torch.randn(shape) / fan_in**0.5
        if layer.startswith('out.'):
            weights[f'{name}.conv.bias'] = torch.randn(shape[0])
            continue
        weights[f'{name}.bn.weight'] = 0.5 + torch.rand(shape[0])
        weights[f'{name}.bn.bias'] = 0.3 * torch.randn(shape[0])
        weights[f'{name}.bn.running_mean'] = 0.3 * torch.randn(shape[0])
        weights[f'{name}.bn.running_var'] = 0.5 + torch.rand(shape[0])
        weights[f'{name}.bn.num_batches_tracked'] = torch.tensor(7)
    return weights


def stacked_hourglass(convolve, images, stacks):
    """Both networks' order of operations. ``convolve(layer, x, stride=1)`` ends with a ReLU in stem and hourglass."""

    def hourglass(name, x):
        if f'{name}.up1' not in convolve.layers:  # the innermost low2
            return convolve(name, x)
        below = convolve(f'{name}.low1', F.max_pool2d(x, 2))
        below = convolve(f'{name}.low3', hourglass(f'{name}.low2', below))
        return convolve(f'{name}.up1', x) + below.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)

    x = convolve('stem.1', convolve('stem.0', images, stride=2))
    x = convolve('stem.4', convolve('stem.3', F.max_pool2d(x, 2)))
    outputs = []
    for stack in range(stacks):
        feature = hourglass(f'hourglass.{stack}.0', x)
        feature = convolve(f'hourglass.{stack}.2', convolve(f'hourglass.{stack}.1', feature))
        outputs.append(convolve(f'out.{stack}', feature))
        if stack < stacks - 1:
            x = x + convolve(f'merge_out.{stack}', outputs[-1]) + convolve(f'merge_feature.{stack}', feature)
    return outputs


class Convolve:
    """Convolution and what follows it, by the weights of one of the two sources."""

    def __init__(self, weights, names):
        self.names, self.weights = names, weights
        self.layers = {self.common(name.rsplit('.', 2)[0]) for name in weights}

    def common(self, name):
        for part, start in sorted(self.names.items(), key=lambda item: -len(item[1])):
            before, _, after = start.partition('{}')
            if name.startswith(before) and name.endswith(after):
                return f'{part}.{name[len(before) : len(name) - len(after)]}'
        raise KeyError(name)

    def __call__(self, layer, x, stride=1):
        name = renamed(layer, **self.names)
        weight, bias = (self.weights.get(f'{name}.conv.{kind}') for kind in ('weight', 'bias'))
        x = F.conv2d(x, weight, bias, stride, padding=weight.shape[-1] // 2)
        if f'{name}.bn.weight' in self.weights:
            norm = {kind: self.weights[f'{name}.bn.{kind}'][:, None, None] for kind in
                    ('weight', 'bias', 'running_mean', 'running_var')}  # fmt: skip
            x = (x - norm['running_mean']) / (norm['running_var'] + 1e-5).sqrt() * norm['weight'] + norm['bias']
        return x.relu() if layer.startswith(('stem', 'hourglass')) else x


def pose_ae_forward(weights, pictures, stacks):
    """pose-ae-train: ``pictures`` (N, h, w, 3), RGB from 0 to 1."""
    names = dict(stem='pre.{}', hourglass='features.{}', out='outs.{}', merge_out='merge_preds.{}.conv',
                 merge_feature='merge_features.{}.conv')  # fmt: skip
    return stacked_hourglass(Convolve(weights, names), pictures.permute(0, 3, 1, 2), stacks)


def mmpose0_forward(weights, images, stacks):
    """MMPose 0.x: ``images`` (N, 3, h, w), preprocessed."""
    names = dict(stem='backbone.stem.{}', hourglass='backbone.hourglass_modules.{}', out='backbone.out_convs.{}',
                 merge_out='backbone.remap_out_convs.{}', merge_feature='backbone.remap_feature_convs.{}')  # fmt: skip
    return stacked_hourglass(Convolve(weights, names), images, stacks)


# Converting


def save(path, weights, **more):
    torch.save(dict(state_dict=weights, **more), path)
    return str(path)


def converted_network(path):
    """The backbone as a config builds it, in evaluation mode."""
    backbone = dict(torch.load(path, weights_only=True)['meta']['backbone'])
    network = MODELS.build(dict(backbone, init_cfg=dict(type='Pretrained', checkpoint=path, prefix='backbone.')))
    network.init_weights()
    network.eval()
    return network


def bare(weights, prefix):
    return {name[len(prefix) :]: value for name, value in weights.items()}


def assert_same_outputs(found, expected):
    assert len(found) == len(expected)
    for one, other in zip(found, expected):
        assert other.abs().mean() > 0.05  # there is something to compare
        torch.testing.assert_close(one, other, rtol=0, atol=TOLERANCE * other.abs().max().item())


@torch.no_grad()
@pytest.mark.parametrize('widths', [(16, 20, 24, 28), (16, 24), (16, 16, 40, 20, 16)])
@pytest.mark.parametrize('stacks', [1, 3])
def test_pose_ae_gives_the_same_outputs(tmp_path, widths, stacks):
    weights = pose_ae_weights(widths=widths, stacks=stacks, prefix='')
    convert_file(save(tmp_path / 'in.pth', weights), str(tmp_path / 'out.pth'))
    pictures = torch.rand(2, 64, 128, 3)
    network = converted_network(str(tmp_path / 'out.pth'))
    assert_same_outputs(network(pictures.permute(0, 3, 1, 2)), pose_ae_forward(weights, pictures, stacks))


@torch.no_grad()
@pytest.mark.parametrize('widths', [(16, 20, 24, 28), (16, 24), (16, 16, 40, 20, 16)])
@pytest.mark.parametrize('stacks', [1, 3])
def test_mmpose0_gives_the_same_outputs(tmp_path, widths, stacks):
    weights = mmpose0_weights(widths=widths, stacks=stacks)
    convert_file(save(tmp_path / 'in.pth', weights), str(tmp_path / 'out.pth'))
    images = torch.randn(2, 3, 64, 128)
    assert_same_outputs(converted_network(str(tmp_path / 'out.pth'))(images), mmpose0_forward(weights, images, stacks))


@pytest.mark.parametrize('prefix', ['', 'module.', 'model.module.', 'module.module.'])
@pytest.mark.parametrize('make, source', [(pose_ae_weights, 'pose-ae'), (mmpose0_weights, 'mmpose0')])
def test_prefixes_of_wrapping_modules_change_nothing(tmp_path, make, source, prefix):
    wrapped = read_weights(save(tmp_path / 'in.pth', make(prefix=prefix)))
    assert detect_source(wrapped, 'in.pth') == source
    found, _ = convert_weights(wrapped, source, 'in.pth')
    expected, _ = convert_weights(make(prefix=''), source, 'in.pth')
    assert found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in found)


def test_sizes_are_read_from_the_file():
    _, backbone = convert_weights(pose_ae_weights(prefix=''), 'pose-ae', 'in.pth')
    sizes = dict(downsample_times=3, num_stacks=3, out_channels=68, stage_channels=[16, 20, 24, 28], feat_channels=16)
    assert backbone == dict(type='HourglassAENet', **sizes)


def test_halves_become_floats_and_missing_counters_zero():
    weights = {name: value.half() for name, value in mmpose0_weights().items() if 'num_batches' not in name}
    found, _ = convert_weights(weights, 'mmpose0', 'in.pth')
    assert found['backbone.stem.0.conv.weight'].dtype == torch.float32
    assert found['backbone.stem.0.bn.num_batches_tracked'] == 0


def test_an_added_batch_norm_changes_no_bit():
    found, _ = convert_weights(pose_ae_weights(prefix=''), 'pose-ae', 'in.pth')
    norm = torch.nn.BatchNorm2d(64).eval()
    norm.load_state_dict({kind: found[f'backbone.stem.0.bn.{kind}'] for kind in norm.state_dict()})
    x = 10 * torch.randn(4, 64, 32, 32)
    assert torch.equal(norm(x), x + norm.bias[:, None, None])


# Other contents and formats of published files


@pytest.mark.parametrize('zipped', [True, False])
def test_training_checkpoints_and_the_old_format(tmp_path, zipped):
    weights = pose_ae_weights()
    optimizer = torch.optim.Adam([torch.nn.Parameter(value) for value in weights.values()])
    content = dict(state_dict=weights, optimizer=optimizer.state_dict(), epoch=250)
    torch.save(content, tmp_path / 'checkpoint.pth.tar', _use_new_zipfile_serialization=zipped)
    assert convert_file(str(tmp_path / 'checkpoint.pth.tar'), str(tmp_path / 'out.pth'))['source'] == 'pose-ae'


def test_meta_of_a_training_checkpoint(tmp_path):
    meta = dict(epoch=300, config='model = dict()', hook_msgs=dict(best_score=torch.tensor(0.6).double().numpy()[()]))
    path = save(tmp_path / 'in.pth', mmpose0_weights(), meta=meta, message_hub=dict(loss=HistoryBuffer()))
    assert convert_file(path, str(tmp_path / 'out.pth'))['source'] == 'mmpose0'


# In the configs


def merged(config, options):
    cfg = Config.fromfile(ROOT / config)
    pairs = (option.split('=', 1) for option in options)
    cfg.merge_from_dict({key: DictAction._parse_iterable(value) for key, value in pairs})
    return cfg


def narrow(cfg):
    """The config's model with the hourglass of SMALL and a small decoder."""
    cfg.model.backbone.update(downsample_times=3, stage_channels=SMALL['widths'], feat_channels=16, num_stacks=4)
    cfg.model.head.hidden_channels = (8, 8)
    return cfg.model


@torch.no_grad()
@pytest.mark.parametrize('source', ['pose-ae', 'mmpose0'])
def test_printed_config_reproduces_the_network(tmp_path, source):
    """From the bytes of an image to the features of the neck."""
    make = dict(mmpose0=mmpose0_weights, **{'pose-ae': pose_ae_weights})[source]
    weights = make(stacks=4, prefix='')
    path = str(tmp_path / 'out.pth')
    meta = convert_file(save(tmp_path / 'in.pth', weights), path)
    config, flag, *options = shlex.split(usage(meta, path))
    assert flag == '--cfg-options'
    model = MODELS.build(narrow(merged(config, options)))
    model.init_weights()
    model.eval()

    bgr = torch.randint(0, 256, (3, 64, 64), dtype=torch.uint8)
    inputs = model.data_preprocessor(dict(inputs=[bgr], data_samples=[]), False)['inputs']
    rgb = bgr.flip(0).permute(1, 2, 0)[None]
    if source == 'pose-ae':
        stacks = pose_ae_forward(weights, rgb.float() / 255, 4)
        expected = torch.cat([stack[:, 34:] for stack in stacks], dim=1)
    else:  # its ToTensor and NormalizeTensor
        mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
        stacks = mmpose0_forward(weights, ((rgb / 255 - mean) / std).permute(0, 3, 1, 2), 4)
        expected = torch.cat(stacks, dim=1)
    features, ae_maps = model.extract_feat(inputs)
    assert features.shape[1] == model.head.in_channels == 136
    assert_same_outputs([features, ae_maps], [expected, stacks[-1][:, :34]])


@pytest.mark.parametrize('make', [pose_ae_weights, mmpose0_weights])
def test_checkpoint_fit_hook_accepts_the_file(tmp_path, make):
    path = str(tmp_path / 'out.pth')
    meta = convert_file(save(tmp_path / 'in.pth', make(stacks=4)), path)
    model = MODELS.build(narrow(merged(usage(meta, path).split()[0], [])))
    assert refuse_misfit(model.backbone, torch.load(path), path, 'backbone.') == []
    # The AE network as a whole has no other weights: the file is a checkpoint of ae_hg_coco.py, too.
    cfg = Config.fromfile(ROOT / 'configs' / 'ae_hg_coco.py')
    cfg.model.backbone = dict(meta['backbone'])
    assert refuse_misfit(MODELS.build(cfg.model), torch.load(path), path) == []


def test_forgotten_normalisation_is_refused_from_conversion_to_comparison(tmp_path):
    """Also by a model that was trained from the converted file."""
    path = str(tmp_path / 'out.pth')
    meta = convert_file(save(tmp_path / 'in.pth', pose_ae_weights(stacks=4)), path)
    config, _, *options = shlex.split(usage(meta, path))
    runner = SimpleNamespace(model=MODELS.build(narrow(merged(config, options))), _test_loop=None)
    hook = CheckpointFitHook()
    hook.before_run(runner)
    trained = dict(meta={}, state_dict=runner.model.state_dict())
    hook.before_save_checkpoint(runner, trained)
    hook.after_load_checkpoint(SimpleNamespace(model=runner.model, cfg=dict(load_from='rnn.pth')), trained)

    runner.model = MODELS.build(narrow(merged(config, options[:1])))
    given = re.escape('mean=[0.0, 0.0, 0.0], std=[255.0, 255.0, 255.0]')
    with pytest.raises(ValueError, match=f'out.pth was trained on images normalised with {given}'):
        hook.before_run(runner)
    with pytest.raises(ValueError, match=r'rnn.pth .*give --cfg-options model.data_preprocessor.mean=\[0,0,0\]'):
        hook.after_load_checkpoint(SimpleNamespace(model=runner.model, cfg=dict(load_from='rnn.pth')), trained)
    del trained['meta']['data_preprocessor']  # an older checkpoint has none
    hook.after_load_checkpoint(SimpleNamespace(model=runner.model, cfg=dict(load_from='rnn.pth')), trained)


def test_preprocessing_of_the_configs_is_that_of_mmpose0():
    for config in 'ae_hg_coco', 'rnnpose_hg_coco', 'rnnpose_hg34_coco':
        preprocessor = Config.fromfile(ROOT / 'configs' / f'{config}.py').model.data_preprocessor
        assert preprocessor == dict(PREPROCESSING['mmpose0'], type='PoseScalesPreprocessor')


# The command, and what it refuses


def run(*arguments, limit=None, cwd=None):
    """The command in a process of its own."""
    command = [sys.executable, TOOL, *map(str, arguments)]
    if limit:
        command = ['bash', '-c', f'ulimit -f {limit}; exec "$@"', 'bash', *command]
    environment = dict(os.environ, PYTHONPATH=str(ROOT), OMP_NUM_THREADS='1', PYTHONWARNINGS='ignore')
    environment.pop('RNNPOSE_TRACEBACK', None)
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)


@pytest.fixture
def main(monkeypatch, capsys):
    """The command in this process: gives the exit status and the one line of an error."""
    monkeypatch.delenv('RNNPOSE_TRACEBACK', raising=False)
    monkeypatch.setattr(logging, 'raiseExceptions', True)  # restored afterwards

    def call(*arguments):
        monkeypatch.setattr(sys, 'argv', [TOOL, *map(str, arguments)])
        try:
            runpy.run_path(TOOL, run_name='__main__')
        except SystemExit as stop:
            (line,) = capsys.readouterr().err.strip().splitlines()
            return stop.code, line
        return 0, ''

    return call


@torch.no_grad()
def test_round_trip_through_the_command(tmp_path):
    weights = pose_ae_weights()
    source = save(tmp_path / 'checkpoint.pth.tar', weights, epoch=3)
    done = run(source, 'out.pth', cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert first.startswith("out.pth: from pose-ae, backbone=dict(type='HourglassAENet', downsample_times=3")
    assert 'configs/rnnpose_hg_coco.py --cfg-options model.backbone.init_cfg.checkpoint=out.pth' in second
    assert sorted(path.name for path in tmp_path.iterdir()) == ['checkpoint.pth.tar', 'out.pth']
    pictures = torch.rand(1, 64, 64, 3)
    found = converted_network(str(tmp_path / 'out.pth'))(pictures.permute(0, 3, 1, 2))
    assert_same_outputs(found, pose_ae_forward(bare(weights, 'model.module.'), pictures, SMALL['stacks']))


def test_existing_output_is_kept_unless_forced(tmp_path, main):
    source = save(tmp_path / 'in.pth', mmpose0_weights())
    (tmp_path / 'out.pth').write_text('mine')
    status, line = main(source, tmp_path / 'out.pth')
    assert status == 1 and 'out.pth exists already; choose another name, or --force to replace it' in line
    assert (tmp_path / 'out.pth').read_text() == 'mine'
    assert main(source, tmp_path / 'out.pth', '--force', '--source', 'mmpose0') == (0, '')
    assert torch.load(tmp_path / 'out.pth')['meta']['source'] == 'mmpose0'


def test_failed_conversion_keeps_the_old_output(tmp_path, main):
    source = save(tmp_path / 'in.pth', without(pose_ae_weights, 'pre.0.conv.bias'))
    (tmp_path / 'out.pth').write_text('mine')
    assert main(source, tmp_path / 'out.pth', '--force')[0] == 1
    assert (tmp_path / 'out.pth').read_text() == 'mine'


def test_full_disk_leaves_nothing(tmp_path):
    source = save(tmp_path / 'in.pth', pose_ae_weights())
    done = run(source, tmp_path / 'out.pth', limit=100)
    assert done.returncode == 1 and 'Traceback' not in done.stderr
    assert f'error: no space left to write {tmp_path}/out.pth' in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ['in.pth']


def test_cut_off_file(tmp_path, main):
    source = save(tmp_path / 'in.pth', pose_ae_weights())
    os.truncate(source, 50_000)
    status, line = main(source, tmp_path / 'out.pth')
    assert status == 1 and line.startswith(f'error: checkpoint {source} is cut off, as after a full disk; ')


def without(make, name):
    weights = make(prefix='')
    del weights[name]
    return weights


def with_shape(make, name, *shape):
    return dict(make(prefix=''), **{name: torch.zeros(shape)})


def with_added(make, *names):
    return dict(make(prefix=''), **{name: torch.zeros(3) for name in names})


MISFITS = {
    'missing bias': (
        lambda: without(pose_ae_weights, 'features.1.0.low2.up1.conv.bias'),
        'does not fit an hourglass of pose-ae: 1 weight missing (features.1.0.low2.up1.conv.bias); nothing was written',
    ),
    'missing norm': (
        lambda: without(mmpose0_weights, 'backbone.stem.3.bn.running_var'),
        'an hourglass of mmpose0: 1 weight missing (backbone.stem.3.bn.running_var);',
    ),
    'missing at the bottom': (
        lambda: without(pose_ae_weights, 'features.0.0.low2.low2.low2.conv.weight'),
        '1 weight missing (features.0.0.low2.low2.low2.conv.weight);',
    ),
    'missing where the size is read': (
        lambda: without(pose_ae_weights, 'features.0.0.low2.up1.conv.weight'),
        'the convolution features.0.0.low2.up1.conv.weight, which gives its size, is missing',
    ),
    'missing stack': (
        lambda: {name: value for name, value in pose_ae_weights(prefix='').items() if 'features.1.' not in name},
        '(features.1.0.up1.conv.weight, features.1.0.up1.conv.bias, features.1.0.low1.conv.weight, ...)',
    ),
    'other shape': (
        lambda: with_shape(pose_ae_weights, 'merge_preds.1.conv.conv.weight', 16, 34, 1, 1),
        '1 weight of another shape (merge_preds.1.conv.conv.weight: (16, 34, 1, 1), not (16, 68, 1, 1));',
    ),
    'a scalar for a kernel': (
        lambda: with_shape(mmpose0_weights, 'backbone.out_convs.0.conv.weight'),
        'the convolution backbone.out_convs.0.conv.weight, which gives its size, is missing or misshaped',
    ),
    'another stem': (  # CrowdHourglassAENet's
        lambda: with_shape(mmpose0_weights, 'backbone.stem.0.conv.weight', 32, 3, 7, 7),
        '(backbone.stem.0.conv.weight: (32, 3, 7, 7), not (64, 3, 7, 7))',
    ),
    'unknown': (
        lambda: with_added(mmpose0_weights, 'keypoint_head.multi_final_layers.0.weight'),
        '1 weight unknown (keypoint_head.multi_final_layers.0.weight)',
    ),
    'norms behind the ReLU': (
        lambda: with_added(pose_ae_weights, 'pre.0.bn.weight', 'pre.0.bn.bias'),
        '2 weights unknown (pre.0.bn.weight, pre.0.bn.bias)',
    ),
    'all at once': (
        lambda: {'pre.9.conv.bias': torch.zeros(3), **with_shape(pose_ae_weights, 'pre.1.conv.bias', 3),
                 'pre.0.conv.bias': torch.zeros(1)},
        '2 weights of another shape (pre.0.conv.bias: (1,), not (64,), pre.1.conv.bias: (3,), not (128,)), '
        '1 weight unknown (pre.9.conv.bias)',
    ),
    'twice': (
        lambda: {**pose_ae_weights(prefix=''), 'module.pre.0.conv.bias': torch.zeros(64)},
        'holds 1 weights twice',
    ),
    'another network': (
        lambda: dict(torch.nn.Linear(2, 2).state_dict()),
        'is neither kind of checkpoint: it has no hourglass, its first weight is weight; give ',
    ),
    'other features': (lambda: {'features.0.weight': torch.zeros(3)}, 'is neither kind of checkpoint'),
    'no tensors': (lambda: dict(epoch=3), 'holds no state_dict of tensors'),
    'empty': (dict, 'holds no state_dict of tensors'),
}  # fmt: skip


@pytest.mark.parametrize('weights, sentence', MISFITS.values(), ids=MISFITS)
def test_misfit_is_named_and_nothing_is_written(tmp_path, main, weights, sentence):
    source = save(tmp_path / 'in.pth', weights())
    status, line = main(source, tmp_path / 'out.pth')
    assert status == 1 and line.startswith(f'error: {source} ') and sentence in line
    assert [path.name for path in tmp_path.iterdir()] == ['in.pth']


def test_named_source_that_it_is_not(tmp_path):
    source = save(tmp_path / 'in.pth', pose_ae_weights())
    with pytest.raises(
        ValueError, match='does not fit an hourglass of mmpose0: the convolution backbone.hourglass_mod'
    ):
        convert_file(source, str(tmp_path / 'out.pth'), 'mmpose0')
    with pytest.raises(ValueError, match="source is 'mmpose1'; use one of mmpose0, pose-ae"):
        convert_file(source, str(tmp_path / 'out.pth'), 'mmpose1')


class Foreign:
    pass


@pytest.mark.parametrize('content', [b'', b'hello', b'{"a": 1}', 'foreign', 'tensor', 'old and cut off'])
def test_other_files(tmp_path, main, content):
    path = tmp_path / 'in.pth'
    if content == 'foreign':
        torch.save(dict(state_dict=pose_ae_weights(), config=Foreign()), path)
    elif content == 'tensor':
        torch.save(torch.zeros(3), path)
    elif content == 'old and cut off':
        torch.save(dict(state_dict=pose_ae_weights()), path, _use_new_zipfile_serialization=False)
        os.truncate(path, 50_000)
    else:
        path.write_bytes(content)
    status, line = main(path, tmp_path / 'out.pth')
    assert status == 1
    assert re.match(f'error: {path} (is not a checkpoint|cannot be read|holds no state_dict of tensors)', line)
    assert [path.name for path in tmp_path.iterdir()] == ['in.pth']


def test_paths_that_do_not_exist(tmp_path):
    source = save(tmp_path / 'in.pth', mmpose0_weights())
    with pytest.raises(FileNotFoundError, match="checkpoint 'gone.pth' does not exist; check the path"):
        convert_file('gone.pth', str(tmp_path / 'out.pth'))
    with pytest.raises(FileNotFoundError, match='the folder .*gone of .* does not exist; make it first'):
        convert_file(source, str(tmp_path / 'gone' / 'out.pth'))


# At full size


@pytest.mark.slow
@torch.no_grad()
@pytest.mark.parametrize('source', ['pose-ae', 'mmpose0'])
def test_full_size(tmp_path, source):
    make, out = dict(mmpose0=(mmpose0_weights, 34), **{'pose-ae': (pose_ae_weights, 68)})[source]
    weights = make(**FULL, out=out, prefix='')
    path = str(tmp_path / 'out.pth')
    meta = convert_file(save(tmp_path / 'in.pth', weights), path)
    config, _, *options = shlex.split(usage(meta, path))
    model = MODELS.build(merged(config, options).model)
    model.init_weights()
    images = torch.rand(1, 3, 128, 192)
    if source == 'pose-ae':
        expected = pose_ae_forward(weights, images.permute(0, 2, 3, 1), 4)
    else:
        expected = mmpose0_forward(weights, images, 4)
    model.eval()
    for file in tmp_path.iterdir():  # a gigabyte, which pytest would keep for three runs
        file.unlink()
    assert_same_outputs(model.backbone(images), expected)
