"""The curriculum hooks in small but real trainings by mmengine's Runner, broken off and resumed."""

from __future__ import annotations

from itertools import count

import pytest
import torch
from mmengine.model import BaseModel, MMDistributedDataParallel
from mmengine.runner import Runner
from mmengine.structures import InstanceData
from mmpose.registry import HOOKS, MODELS
from mmpose.structures import PoseDataSample
from torch.utils.data import Dataset

from rnnpose_plugin.engine import GrowSequenceHook
from rnnpose_plugin.models.training_controls import TrainingControls

K = 3
RUN_NUMBER = count()
HEAD = dict(
    type='RecurrentPoseHead',
    in_channels=4,
    num_keypoints=K,
    hidden_channels=(4,),
    decoder=dict(type='InstanceHeatmap', input_size=(16, 16), heatmap_size=(4, 4), sigma=1.0),
)
GROW = dict(type='GrowSequenceHook', start=2, every=3)

BY_ITERATION = [2, 2, 2, 3, 3, 3, 4, 4, 4, 5, 5, 5]  # max_people of 12 iterations, 4 epochs of 3


class Images(Dataset):
    """Three images of four people."""

    metainfo = dict(classes=('person',))

    def __len__(self):
        return 3

    def __getitem__(self, index):
        sample = PoseDataSample()
        joints = torch.rand(4, K, 2, generator=torch.Generator().manual_seed(index)) * 3
        sample.gt_instance_labels = InstanceData(keypoint_labels=joints, keypoint_weights=torch.ones(4, K))
        return dict(inputs=torch.ones(4, 4, 4), data_samples=sample)


class Model(BaseModel):
    """The head alone; it notes the most people of each iteration."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.head = MODELS.build(HEAD)
        self.seen = []

    def forward(self, inputs, data_samples=None, mode='loss'):
        self.seen.append(self.head.training_controls.max_people)
        return self.head.loss((torch.stack(inputs),), data_samples)


def train(work_dir, hooks, epochs=4, resume=False, by_epoch=True):
    sampler = dict(type='DefaultSampler' if by_epoch else 'InfiniteSampler', shuffle=False)
    runner = Runner(
        model=Model(),
        work_dir=str(work_dir),
        train_dataloader=dict(batch_size=1, num_workers=0, dataset=Images(), sampler=sampler),
        train_cfg=dict(by_epoch=True, max_epochs=epochs) if by_epoch else dict(by_epoch=False, max_iters=3 * epochs),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=1e-4)),
        default_hooks=dict(checkpoint=dict(type='CheckpointHook', interval=1, by_epoch=by_epoch)),
        custom_hooks=[HOOKS.build(hook) for hook in hooks],
        experiment_name=f'curriculum{next(RUN_NUMBER)}',
        default_scope='mmpose',
        resume=resume,
    )
    return runner.train()


@pytest.mark.parametrize(
    'hooks, expected',
    [
        ([], [None] * 12),
        ([GROW], BY_ITERATION),
        ([dict(GROW, start=1, every=2, by_epoch=True)], [1] * 6 + [2] * 6),
    ],
)
def test_values_in_an_unbroken_and_a_resumed_training(tmp_path, hooks, expected):
    def check(model, start, end):
        assert model.seen == expected[start:end]
        assert model.head.training_controls == TrainingControls()  # the default again

    check(train(tmp_path / 'unbroken', hooks), 0, 12)
    check(train(tmp_path / 'broken', hooks, epochs=2), 0, 6)
    check(train(tmp_path / 'broken', hooks, resume=True), 6, 12)


def test_iteration_based_training_resumes_too(tmp_path):
    assert train(tmp_path, [GROW], epochs=3, by_epoch=False).seen == BY_ITERATION[:9]
    assert train(tmp_path, [GROW], by_epoch=False, resume=True).seen == BY_ITERATION[9:]


@pytest.mark.parametrize(
    'hook, done, value',
    [
        (GrowSequenceHook(2, 100), 0, 2),
        (GrowSequenceHook(2, 100), 99, 2),
        (GrowSequenceHook(2, 100), 100, 3),
        (GrowSequenceHook(2, 100), 2800, 30),
        (GrowSequenceHook(1, 100, doubles=True), 99, 1),
        (GrowSequenceHook(1, 100, doubles=True), 499, 16),
    ],
)
def test_values_at_the_edges(hook, done, value):
    assert hook.max_people_at(done) == value


@pytest.mark.parametrize(
    'settings, words',
    [
        (dict(GROW, start=0), r'GrowSequenceHook\.start is 0; .* at least 1'),
        (dict(GROW, start=2.0), r'start is 2\.0'),
        (dict(GROW, every=0), r'GrowSequenceHook\.every is 0; .* at least 1'),
        (dict(GROW, every=True), 'every is True'),
    ],
)
def test_bad_settings_are_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        HOOKS.build(settings)


@pytest.mark.parametrize('settings', [dict(GROW, evrey=3), dict(type='GrowSequenceHook')])
def test_misspelt_and_forgotten_settings_are_refused(settings):
    with pytest.raises(TypeError):
        HOOKS.build(settings)


class Bare:
    """A runner before its training, as far as the hooks look."""

    train_loop = None

    def __init__(self, model):
        self.model = model


def test_other_heads_are_refused():
    model = torch.nn.Module()
    with pytest.raises(ValueError, match='GrowSequenceHook needs a RecurrentPoseHead, but the head is a NoneType;'):
        HOOKS.build(GROW).before_train(Bare(model))
    model.head = torch.nn.Linear(1, 1)
    with pytest.raises(ValueError, match='but the head is a Linear; take the hook out of the config'):
        HOOKS.build(GROW).before_train(Bare(model))


def test_the_head_is_found_inside_a_distributed_model():
    wrapper = MMDistributedDataParallel.__new__(MMDistributedDataParallel)  # a process group is not the point here
    torch.nn.Module.__init__(wrapper)
    wrapper.module = torch.nn.Module()
    wrapper.module.head = MODELS.build(HEAD)
    hook = HOOKS.build(GROW)
    hook.before_train(Bare(wrapper))
    assert hook.head is wrapper.module.head


def test_an_iteration_based_training_has_no_epochs_to_count(tmp_path):
    with pytest.raises(ValueError, match='GrowSequenceHook has by_epoch=True, but .*set by_epoch=False'):
        train(tmp_path, [dict(GROW, by_epoch=True)], by_epoch=False)
