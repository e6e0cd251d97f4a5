"""A step through the compiler gives what the plain one gives; where there is no compiler it is the plain one."""

import shutil
import warnings

import pytest
import torch
from mmpose.registry import MODELS
from mmpose.structures import PoseDataSample
from torch._inductor import config as inductor

from rnnpose_plugin.models.compiled_step import CompiledStep
from rnnpose_plugin.models.recurrent_decoder import RecurrentDecoder

C, K, H, W = 6, 3, 5, 7


def make():
    torch.manual_seed(0)
    decoder = RecurrentDecoder(C, K, hidden_channels=(8, 4))
    decoder.to_stop.bias.data.fill_(9)
    return decoder, torch.randn(2, C, H, W)


@pytest.mark.skipif(shutil.which('g++') is None, reason='torch.compile needs a C++ compiler on the CPU')
def test_the_same_people():
    decoder, features = make()
    step = CompiledStep(decoder.step)
    expected, _ = decoder.decode_people(features, 0.3, 3)
    people, _ = decoder.decode_people(features, 0.3, 3, step=step)
    assert not step.failed and step.compiled is not None
    for ours, theirs in zip(people, expected):
        for part, other in zip(ours, theirs):
            torch.testing.assert_close(part, other, rtol=0, atol=1e-5)  # fused arithmetic


def test_without_a_compiler_it_warns_once_and_goes_on():
    decoder, features = make()
    head = MODELS.build(
        dict(
            type='RecurrentPoseHead',
            in_channels=C,
            num_keypoints=K,
            hidden_channels=(8, 4),
            max_instances=3,
            decoder=dict(type='InstanceHeatmap', input_size=(28, 20), heatmap_size=(W, H)),
        )
    ).eval()
    head.rnn = decoder
    expected = head.predict((features,), [PoseDataSample(), PoseDataSample()])
    torch.compiler.reset()  # what another test has compiled is not taken from memory
    with inductor.patch({'cpp.cxx': ('no-such-compiler',), 'force_disable_caches': True}):
        with pytest.warns(UserWarning, match='compile_step is off, as torch.compile failed .*no-such-compiler'):
            first = head.predict((features,), [PoseDataSample(), PoseDataSample()], dict(compile_step=True))
        with warnings.catch_warnings():
            warnings.simplefilter('error')
            second = head.predict((features,), [PoseDataSample(), PoseDataSample()], dict(compile_step=True))
    for poses in (first, second):
        for ours, theirs in zip(poses, expected):
            assert (ours.keypoints == theirs.keypoints).all() and len(ours.keypoints) == 3
