"""CUDA against the CPU: losses, gradients, poses, waits for the device, memory, and the commands."""

import copy
import json
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.structures import InstanceData, PixelData
from mmpose.registry import MODELS
from mmpose.structures import PoseDataSample
from narrow_network import NARROW

from rnnpose_plugin.models.chunked_backprop import backprop_in_chunks
from rnnpose_plugin.models.first_lstm import FirstLSTM
from rnnpose_plugin.models.matched_loss import HungarianHeatmapLoss, StopLoss
from rnnpose_plugin.models.training_sequence import SequenceRules, Targets, TrainingSequence

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason='torch sees no GPU')

ROOT = Path(__file__).parent.parent
K, C, H, W = 3, 6, 16, 24
CODEC = dict(type='InstanceHeatmap', input_size=(4 * W, 4 * H), heatmap_size=(W, H), sigma=1.0)
FORMS = dict(
    paper={},
    chunks=dict(chunk_size=2),
    context=dict(context='read', hidden_channels=(8, 12, 6), layer_strides=(1, 4, 1), chunk_size=2),
    claimed=dict(claimed_maps=True, chunk_size=2),
    two_lstms=dict(second_lstm=dict(hidden_channels=(5, 4), order='confidence', feedback_passes=1), chunk_size=2),
)


@pytest.fixture(autouse=True)
def exact_convolutions(monkeypatch):
    """TF32, cuDNN's default for convolutions, has 10 bits of mantissa, with which no tolerance would mean much."""
    monkeypatch.setattr(torch.backends.cudnn, 'allow_tf32', False)


def build(**settings):
    torch.manual_seed(0)
    cfg = dict(type='RecurrentPoseHead', in_channels=C, num_keypoints=K, hidden_channels=(8, 6), decoder=CODEC)
    head = MODELS.build({**cfg, **settings})
    for lstm in (head.first_lstm, head.second_lstm):
        if lstm is not None:
            lstm.noise = 0.0  # the generators of the two devices draw different numbers
    return head


def on(device, feats, samples):
    return tuple(f.to(device) for f in feats), [sample.to(device) for sample in samples]


def batch(counts):
    generator = torch.Generator().manual_seed(3)
    feats = (torch.randn(len(counts), C, H, W, generator=generator),)
    samples = []
    for people in counts:
        sample = PoseDataSample(metainfo=dict(flip_indices=[1, 0, 2]))
        sample.gt_instance_labels = InstanceData(
            keypoint_labels=torch.rand(people, K, 2, generator=generator) * torch.tensor([W - 1.0, H - 1.0]),
            keypoint_weights=(torch.rand(people, K, generator=generator) > 0.2).float(),
        )
        mask = torch.ones(1, H, W, dtype=torch.bool)
        mask[:, :2] = False
        sample.gt_fields = PixelData(heatmap_mask=mask)
        samples.append(sample)
    return feats, samples


def losses_and_gradients(head, device, counts):
    head = copy.deepcopy(head).to(device)
    losses = head.loss(*on(device, *batch(counts)))
    losses['loss'].backward()
    values = {name: loss.detach().cpu() for name, loss in losses.items()}
    return values, {name: parameter.grad.cpu() for name, parameter in head.named_parameters()}


@pytest.mark.parametrize('counts', [[0], [3], [2, 0, 5]])
@pytest.mark.parametrize('form', FORMS)
def test_losses_and_gradients_equal_those_of_the_cpu(form, counts):
    head = build(**FORMS[form])
    head.first_lstm.to_stop.bias.data.fill_(1)  # so that steps are candidates
    values, gradients = losses_and_gradients(head, 'cpu', counts)
    values_there, gradients_there = losses_and_gradients(head, 'cuda', counts)
    # Sums in another order: relative 1e-4 of float32's 6e-8 over the ten thousand terms of a sum.
    torch.testing.assert_close(values_there, values, rtol=1e-4, atol=1e-5)
    for name, gradient in gradients.items():
        scale = float(gradient.abs().max())
        torch.testing.assert_close(gradients_there[name], gradient, rtol=1e-3, atol=1e-4 * scale + 1e-7, msg=name)


@pytest.mark.parametrize('form', FORMS)
def test_poses_equal_those_of_the_cpu(form):
    head = build(**FORMS[form], max_instances=4).eval()
    head.first_lstm.to_stop.bias.data.fill_(3)
    people = {}
    for device in ('cpu', 'cuda'):
        there = copy.deepcopy(head).to(device).eval()
        people[device] = there.predict(*on(device, *batch([1, 2])))
    for here, there in zip(people['cpu'], people['cuda']):
        assert len(here.keypoints) == len(there.keypoints) > 0
        np.testing.assert_allclose(there.keypoints, here.keypoints, atol=0.05)  # pixels
        np.testing.assert_allclose(there.bbox_scores, here.bbox_scores, atol=1e-4)


def waits(run):
    """How often the driver made the host wait for the device, as torch reports it."""
    torch.cuda.set_sync_debug_mode('warn')
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter('always')
            run()
    finally:
        torch.cuda.set_sync_debug_mode('default')
    return sum('synchronizing' in str(warning.message) for warning in caught)


def test_waits_are_counted():
    values = torch.ones(2, device='cuda')
    assert waits(lambda: values.sum().item()) == 1
    assert waits(lambda: values + 1) == 0


def test_a_step_waits_for_nothing():
    decoder = FirstLSTM(C, K, hidden_channels=(8, 4)).cuda()
    static_maps, states = decoder.start(torch.randn(2, C, H, W, device='cuda'))
    assert waits(lambda: decoder.step(static_maps, states)) == 0


def waits_of_training(people, chunk_size):
    """Of one image with as many people, whose sequence has a step more."""
    decoder = FirstLSTM(C, K, hidden_channels=(8, 4)).cuda()
    decoder.to_stop.bias.data.fill_(-9)
    heatmaps = torch.rand(1, people, K, H, W, device='cuda')
    targets = Targets(heatmaps, torch.ones(1, people, K, device='cuda'), [people])
    rules = SequenceRules(0.3, chunk_size)
    sequence = TrainingSequence(decoder, HungarianHeatmapLoss(undercount='all'), StopLoss(), targets, rules)
    static_maps = sequence.static_maps(torch.randn(1, C, H, W, device='cuda'))

    def train():
        backprop_in_chunks(sequence.chunks, static_maps, sequence.parameters())

    train()  # the first call loads kernels, which waits
    return waits(train)


def test_no_step_of_a_chunk_waits():
    """One chunk each: as many waits for 9 steps as for 5."""
    assert waits_of_training(8, 9) == waits_of_training(4, 9) > 0


def test_every_chunk_waits_equally_often():
    """9 steps in 1, 2 and 3 chunks, each with a person: for the matching, which is done on the host."""
    one, two, three = (waits_of_training(8, chunk_size) for chunk_size in (9, 5, 3))
    assert three - two == two - one > 0


def test_peak_memory_is_that_of_a_chunk():
    """Features of 24 channels on 64 x 64 cells, 12 people: the whole graph against a chunk of two people."""
    peaks = {}
    for chunk_size in (None, 2):
        torch.manual_seed(0)
        decoder = FirstLSTM(24, K, hidden_channels=(16, 8)).cuda()
        decoder.to_stop.bias.data.fill_(-9)
        targets = Targets(torch.rand(2, 12, K, 64, 64).cuda(), torch.ones(2, 12, K).cuda(), [12, 12])
        losses = HungarianHeatmapLoss(undercount='all'), StopLoss()
        sequence = TrainingSequence(decoder, *losses, targets, SequenceRules(0.3, chunk_size))
        static_maps = sequence.static_maps(torch.randn(2, 24, 64, 64, device='cuda'))
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        if chunk_size is None:
            (parts,) = sequence.chunks(*static_maps)
            sum(parts.values()).backward()
        else:
            backprop_in_chunks(sequence.chunks, static_maps, sequence.parameters())[0].backward()
        peaks[chunk_size] = torch.cuda.max_memory_allocated() - before
    # 13 steps against 2 at a time; a part does not grow with the steps.
    assert peaks[2] < 0.4 * peaks[None], peaks


def run_tool(*arguments):
    done = subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    return done.stdout + done.stderr


@pytest.fixture(scope='module')
def crowd(tmp_path_factory):
    """16 images for training and a few for each other split."""
    folder = tmp_path_factory.mktemp('crowd')
    counts = dict(train=16, val=4, plain=4, occluded=0, crowded=0)
    options = [text for split, count in counts.items() for text in (f'--{split}', str(count))]
    run_tool('tools/make_crowd.py', '--out', str(folder), *options)
    return folder


PRECISIONS = dict(float32=[], float16=['--amp'], bfloat16=['optim_wrapper.type=Bfloat16OptimWrapper'])


@pytest.mark.parametrize('precision', PRECISIONS)
@pytest.mark.parametrize('config', ['rnnpose_context_crowd', 'ae_hg_crowd'])
def test_train_and_test_tools(crowd, tmp_path, config, precision):
    options = PRECISIONS[precision]
    data = [f'{part}_dataloader.dataset.data_root={crowd}/' for part in ('train', 'val', 'test')]
    network = [option for option in NARROW if 'hidden_channels' not in option]
    network = network if config.startswith('rnnpose') else [o for o in network if o.startswith('model.backbone')]
    training = ['train_cfg.max_epochs=1', *(option for option in options if '=' in option)]
    config, flags = f'configs/{config}.py', [option for option in options if '=' not in option]
    begin = ['tools/train.py', config, '--work-dir', str(tmp_path), *flags, '--no-validate', '--cfg-options']
    run_tool(*begin, *training, *network, *data)
    scalars = next(tmp_path.glob('*/vis_data/scalars.json')).read_text().splitlines()
    assert np.isfinite(json.loads(scalars[-1])['loss'])
    checkpoint = str(tmp_path / 'epoch_1.pth')
    output = run_tool(
        'tools/test.py', config, checkpoint, '--work-dir', str(tmp_path), '--cfg-options', *network, *data
    )
    assert 'coco/AP' in output
