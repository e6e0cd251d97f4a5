"""A step through the compiler gives what the plain one gives; where there is no compiler it is the plain one."""

import copy
import pickle
import shutil
import warnings

import pytest
import torch
from mmpose.registry import MODELS
from mmpose.structures import PoseDataSample
from torch._inductor import config as inductor

from rnnpose_plugin.models.compiled_step import CompiledStep
from rnnpose_plugin.models.first_lstm import FirstLSTM

C, K, H, W = 6, 3, 5, 7
HEAD = dict(
    type='RecurrentPoseHead',
    in_channels=C,
    num_keypoints=K,
    hidden_channels=(8, 4),
    decoder=dict(type='InstanceHeatmap', input_size=(28, 20), heatmap_size=(W, H)),
)


def make():
    torch.manual_seed(0)
    decoder = FirstLSTM(C, K, hidden_channels=(8, 4))
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

    pickle.loads(pickle.dumps(decoder))
    other = copy.deepcopy(step)  # as within a model that is copied
    other.plain.__self__.to_heatmaps.weight.data.zero_()
    other.plain.__self__.to_heatmaps.bias.data.fill_(7)
    ((maps, _), _), _ = decoder.decode_people(features, 0.3, 3, step=other)
    assert not other.failed and (maps == 7).all()


def test_a_decoder_that_was_put_in_later_is_the_one_that_decodes():
    head = MODELS.build(dict(HEAD, max_instances=1)).eval()
    head.first_lstm, features = make()
    with inductor.patch({'cpp.cxx': ('no-such-compiler',), 'force_disable_caches': True}), warnings.catch_warnings():
        warnings.simplefilter('ignore')
        torch.compiler.reset()
        head((features,), compile_step=True)
        head.first_lstm = copy.deepcopy(head.first_lstm)
        head.first_lstm.to_heatmaps.bias.data.fill_(7)
        ((maps, _), _) = head((features,), compile_step=True)
    assert (maps > 3).all()
    assert len(pickle.loads(pickle.dumps(head))((features,))) == 2


def test_without_a_compiler_it_warns_once_and_goes_on():
    decoder, features = make()
    head = MODELS.build(dict(HEAD, max_instances=3)).eval()
    head.first_lstm = decoder
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
