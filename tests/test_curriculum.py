"""The curriculum hooks in small but real trainings by mmengine's Runner, broken off and resumed."""

from __future__ import annotations

from dataclasses import astuple
from itertools import count

import pytest
import torch
from mmengine.model import BaseModel, MMDistributedDataParallel
from mmengine.runner import Runner
from mmengine.structures import InstanceData
from mmpose.registry import HOOKS, MODELS
from mmpose.structures import PoseDataSample
from torch.utils.data import Dataset

from rnnpose_plugin.engine import GrowSequenceHook, LateStopLossHook, TeacherForcingHook
from rnnpose_plugin.models.training_sequence import Curriculum

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
LATE = dict(type='LateStopLossHook', begin=4)
TEACHER = dict(type='TeacherForcingHook', start=0.8, end_at=4)

# (max_people, teacher_forcing, stop_loss) of 12 iterations, 4 epochs of 3.
BY_ITERATION = [
    (2, 0.8, False),
    (2, 0.6, False),
    (2, 0.4, False),
    (3, 0.2, False),
    (3, 0.0, True),
    (3, 0.0, True),
    (4, 0.0, True),
    (4, 0.0, True),
    (4, 0.0, True),
    (5, 0.0, True),
    (5, 0.0, True),
    (5, 0.0, True),
]
BY_EPOCH = [(1, 1.0, False)] * 3 + [(1, 0.5, False)] * 3 + [(2, 0.0, True)] * 3 + [(2, 0.0, True)] * 3


class Pictures(Dataset):
    """Three pictures of four people."""

    metainfo = dict(classes=('person',))

    def __len__(self):
        return 3

    def __getitem__(self, index):
        sample = PoseDataSample()
        joints = torch.rand(4, K, 2, generator=torch.Generator().manual_seed(index)) * 3
        sample.gt_instance_labels = InstanceData(keypoint_labels=joints, keypoint_weights=torch.ones(4, K))
        return dict(inputs=torch.ones(4, 4, 4), data_samples=sample)


class Model(BaseModel):
    """The head alone; it notes the curriculum of each iteration and the stop loss that came of it."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.head = MODELS.build(HEAD)
        self.seen, self.stop_losses = [], []

    def forward(self, inputs, data_samples=None, mode='loss'):
        self.seen.append(astuple(self.head.curriculum))
        losses = self.head.loss((torch.stack(inputs),), data_samples)
        self.stop_losses.append(losses.get('stop', torch.zeros(())).item())
        return losses


def train(work_dir, hooks, epochs=4, resume=False, by_epoch=True):
    sampler = dict(type='DefaultSampler' if by_epoch else 'InfiniteSampler', shuffle=False)
    runner = Runner(
        model=Model(),
        work_dir=str(work_dir),
        train_dataloader=dict(batch_size=1, num_workers=0, dataset=Pictures(), sampler=sampler),
        train_cfg=dict(by_epoch=True, max_epochs=epochs) if by_epoch else dict(by_epoch=False, max_iters=3 * epochs),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=1e-4)),
        default_hooks=dict(checkpoint=dict(type='CheckpointHook', interval=1, by_epoch=by_epoch)),
        custom_hooks=[HOOKS.build(hook) for hook in hooks],
        experiment_name=f'curriculum{next(RUN_NUMBER)}',
        default_scope='mmpose',
        resume=resume,
    )
    return runner.train()


def by_epoch(hook, **settings):
    return dict(hook, by_epoch=True, **settings)


@pytest.mark.parametrize(
    'hooks, expected',
    [
        ([GROW, LATE, TEACHER], BY_ITERATION),
        (
            [
                by_epoch(GROW, start=1, every=2),
                by_epoch(LATE, begin=2),
                by_epoch(TEACHER, start=1.0, end_at=2),
            ],
            BY_EPOCH,
        ),
        ([], [(None, 0.0, True)] * 12),
        ([GROW], [(people, 0.0, True) for people, _, _ in BY_ITERATION]),
        ([TEACHER], [(None, chance, True) for _, chance, _ in BY_ITERATION]),
        ([LATE], [(None, 0.0, stop) for _, _, stop in BY_ITERATION]),
    ],
)
def test_values_in_an_unbroken_and_a_resumed_training(tmp_path, hooks, expected):
    def check(model, start, end):
        assert [seen[::2] for seen in model.seen] == [value[::2] for value in expected[start:end]]
        # Differences of two decimals, known to about 1e-16.
        assert [seen[1] for seen in model.seen] == pytest.approx([value[1] for value in expected[start:end]], abs=1e-9)
        assert model.head.curriculum == Curriculum()  # given back

    check(train(tmp_path / 'unbroken', hooks), 0, 12)
    check(train(tmp_path / 'broken', hooks, epochs=2), 0, 6)
    check(train(tmp_path / 'broken', hooks, resume=True), 6, 12)


def test_iteration_based_training_resumes_too(tmp_path):
    hooks = [GROW, LATE]
    expected = [(people, 0.0, stop) for people, _, stop in BY_ITERATION]
    assert train(tmp_path, hooks, epochs=3, by_epoch=False).seen == expected[:9]
    assert train(tmp_path, hooks, by_epoch=False, resume=True).seen == expected[9:]


def test_the_head_trains_without_the_stop_loss_until_it_begins(tmp_path):
    stop_losses = train(tmp_path, [LATE]).stop_losses
    assert stop_losses[:4] == [0.0] * 4 and all(loss > 0 for loss in stop_losses[4:])


@pytest.mark.parametrize(
    'hook, done, value',
    [
        (GrowSequenceHook(2, 100), 0, 2),
        (GrowSequenceHook(2, 100), 99, 2),
        (GrowSequenceHook(2, 100), 100, 3),
        (GrowSequenceHook(2, 100), 2800, 30),
        (GrowSequenceHook(1, 100, doubles=True), 99, 1),
        (GrowSequenceHook(1, 100, doubles=True), 499, 16),
        (LateStopLossHook(0), 0, True),
        (LateStopLossHook(50), 49, False),
        (LateStopLossHook(50), 50, True),
        (TeacherForcingHook(end_at=1), 0, 1.0),
        (TeacherForcingHook(end_at=1), 1, 0.0),
        (TeacherForcingHook(end_at=1000), 250, 0.75),
        (TeacherForcingHook(0.5, end_at=1000), 500, 0.25),
        (TeacherForcingHook(0.5, end_at=1000), 1000, 0.0),
        (TeacherForcingHook(0.5, end_at=1000), 5000, 0.0),
        (TeacherForcingHook(0, end_at=10), 5, 0.0),
    ],
)
def test_values_at_the_edges(hook, done, value):
    assert hook.value_at(done) == value and type(hook.value_at(done)) is type(value)


@pytest.mark.parametrize(
    'settings, words',
    [
        (dict(GROW, start=0), r'GrowSequenceHook\.start is 0; .* at least 1'),
        (dict(GROW, start=2.0), r'start is 2\.0'),
        (dict(GROW, every=0), r'GrowSequenceHook\.every is 0; .* at least 1'),
        (dict(GROW, every=True), 'every is True'),
        (dict(LATE, begin=-1), r'LateStopLossHook\.begin is -1; .* at least 0'),
        (dict(LATE, begin=None), 'begin is None'),
        (dict(TEACHER, start=1.1), r'TeacherForcingHook\.start is 1\.1; it is a probability'),
        (dict(TEACHER, start=-0.1), r'start is -0\.1'),
        (dict(TEACHER, start=float('nan')), 'start is nan'),
        (dict(TEACHER, start='1'), "start is '1'"),
        (dict(TEACHER, end_at=0), r'TeacherForcingHook\.end_at is 0; .* at least 1'),
        (dict(TEACHER, end_at='9'), "end_at is '9'"),
    ],
)
def test_bad_settings_are_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        HOOKS.build(settings)


@pytest.mark.parametrize('settings', [dict(GROW, evrey=3), dict(type='TeacherForcingHook'), dict(LATE, by_epochs=True)])
def test_misspelt_and_forgotten_settings_are_refused(settings):
    with pytest.raises(TypeError):
        HOOKS.build(settings)


class Bare:
    """A runner before its training, as far as the hooks look."""

    train_loop = None

    def __init__(self, model):
        self.model = model


@pytest.mark.parametrize('hook', [GROW, LATE, TEACHER])
def test_other_heads_are_refused(hook):
    model = torch.nn.Module()
    with pytest.raises(ValueError, match=f'{hook["type"]} needs a RecurrentPoseHead, but the head is a NoneType;'):
        HOOKS.build(hook).before_train(Bare(model))
    model.head = torch.nn.Linear(1, 1)
    with pytest.raises(ValueError, match='but the head is a Linear; take the hook out of custom_hooks'):
        HOOKS.build(hook).before_train(Bare(model))


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
        train(tmp_path, [by_epoch(GROW)], by_epoch=False)
