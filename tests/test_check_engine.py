"""Settings of the Runner that are refused, and what would happen otherwise."""

from __future__ import annotations

import pytest
import torch
import torch.distributed
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.runner import Runner
from mmpose.models import BottomupPoseEstimator
from torch import nn
from torch.testing._internal.distributed.fake_pg import FakeStore

from rnnpose_plugin.runtime.check_engine import check_engine
from rnnpose_plugin.runtime.launch import check_options

TORCHRUN = dict(RANK='0', WORLD_SIZE='1', MASTER_ADDR='localhost', MASTER_PORT='1')
SRUN = dict(SLURM_PROCID='0', SLURM_NTASKS='1', SLURM_LOCALID='0', SLURM_NODELIST='here')
MPIRUN = dict(OMPI_COMM_WORLD_RANK='0', OMPI_COMM_WORLD_SIZE='1', OMPI_COMM_WORLD_LOCAL_RANK='0')

on_cpu = pytest.mark.skipif(get_device() != 'cpu', reason='needs a machine without an accelerator')


def config(**given):
    return Config({**dict(model=dict(), train_cfg=dict(type='ResumableEpochLoop'), launcher='none'), **given})


@pytest.fixture(autouse=True)
def no_launcher(monkeypatch):
    for name in (*TORCHRUN, *SRUN, *MPIRUN):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def started_by(monkeypatch):
    def start(environment):
        for name, value in environment.items():
            monkeypatch.setenv(name, value)

    return start


@pytest.fixture
def fake_processes():
    """One of two processes; the other one does not exist."""
    torch.distributed.init_process_group('fake', store=FakeStore(), rank=0, world_size=2)
    yield
    torch.distributed.destroy_process_group()


# Launchers


@pytest.mark.parametrize(
    ('launcher', 'environment', 'starter'),
    [
        ('pytorch', TORCHRUN, 'torchrun, as in tools/dist_train.sh'),
        ('slurm', SRUN, 'srun, as in tools/slurm_train.sh'),
        ('mpi', MPIRUN, 'mpirun'),
    ],
)
@pytest.mark.parametrize('training', [True, False])
def test_launcher_that_did_not_start_the_process(monkeypatch, launcher, environment, starter, training):
    for missing in environment:
        with monkeypatch.context() as patch:
            for name in environment.keys() - {missing}:
                patch.setenv(name, environment[name])
            with pytest.raises(ValueError, match=f'{launcher} is for processes .* {starter}, but {missing} is not set'):
                check_engine(config(launcher=launcher), training)


@pytest.mark.parametrize('training', [True, False])
def test_an_unknown_launcher(training):
    with pytest.raises(ValueError, match="launcher='foo' is unknown; use none or one of pytorch, slurm, mpi"):
        check_engine(config(launcher='foo'), training)


@pytest.mark.parametrize(('launcher', 'environment'), [('none', {}), ('pytorch', TORCHRUN), ('slurm', SRUN)])
def test_launcher_that_started_the_process(started_by, launcher, environment):
    started_by(environment)
    check_engine(config(launcher=launcher), True)


@on_cpu
def test_mpi_without_accelerator(started_by):
    started_by(MPIRUN)
    with pytest.raises(ValueError, match=r'--launcher mpi needs accelerators, .*device cpu.*use tools/dist_train.sh'):
        check_engine(config(launcher='mpi'), True)


# The loop


def test_loop_by_type_and_by_epoch():
    cfg = config(train_cfg=dict(type='ResumableEpochLoop', by_epoch=False, max_iters=5))
    with pytest.raises(ValueError, match=r"both type='ResumableEpochLoop' and by_epoch=False; .*_delete_=True"):
        check_engine(cfg, True)
    check_engine(cfg, False)
    for loop in (dict(by_epoch=True), dict(type='ResumableEpochLoop'), None):
        check_engine(config(train_cfg=loop), True)


# Activation checkpointing (what it does: test_compat.py)


@pytest.mark.parametrize('modules', ['backbone', ['backbone', 'neck'], ['backbone.stem'], None, []])
def test_checkpointing_that_passes(modules):
    check_engine(config(activation_checkpointing=modules), True)


@pytest.mark.parametrize('modules', ['head', ['backbone', 'head'], ['head.first_lstm']])
def test_checkpointing_what_is_not_run_through_its_forward(modules):
    with pytest.raises(ValueError, match=r"names 'head.*name parts of the backbone or the neck only"):
        check_engine(config(activation_checkpointing=modules), True)


@pytest.mark.parametrize('modules', ['backbone', ['neck', 'backbone.stem']])
def test_checkpointing_a_frozen_backbone(modules):
    cfg = config(activation_checkpointing=modules, model=dict(freeze_backbone=True))
    with pytest.raises(ValueError, match=r"names 'backbone.*frozen backbone keeps no activations; leave it out"):
        check_engine(cfg, True)
    check_engine(cfg, False)
    check_engine(config(activation_checkpointing='neck', model=dict(freeze_backbone=True)), True)


# Synchronised batch norm

SYNC_BN = [(dict(sync_bn='torch'), 'sync_bn'), (dict(model=dict(use_syncbn=True)), 'model.use_syncbn')]


@on_cpu
@pytest.mark.parametrize(('setting', 'name'), SYNC_BN)
def test_sync_bn_by_processes_without_accelerator(started_by, setting, name):
    started_by(TORCHRUN)
    cfg = config(launcher='pytorch', **setting)
    with pytest.raises(ValueError, match=f'{name}=.* needs accelerators, .*device cpu.*leave it out'):
        check_engine(cfg, True)
    check_engine(cfg, False)  # a test takes the statistics that there are


@pytest.mark.parametrize(('setting', 'name'), SYNC_BN)
def test_sync_bn_in_one_process(setting, name):
    check_engine(config(**setting), True)


def test_sync_bn_can_be_set_by_option():
    check_options(Config(dict(model=dict()), cfg_text=' ', filename='small.py'), dict(sync_bn='torch'))


def small_estimator(**kwargs):
    backbone = dict(
        type='HourglassAENet', downsample_times=1, num_stacks=1, out_channels=4, stage_channels=(8, 8), feat_channels=8
    )
    head = dict(type='StackedAEHead', num_keypoints=2)
    return BottomupPoseEstimator(backbone=backbone, head=head, **kwargs)


def kinds_of_norms(model):
    return {type(module) for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)}


def test_one_process_gets_plain_batch_norm(tmp_path):
    """Why nothing is refused there: MMEngine and MMPose change nothing, or change it back."""
    model = small_estimator(use_syncbn=True)
    assert kinds_of_norms(model) == {nn.BatchNorm2d}
    model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    runner = Runner(model, str(tmp_path), cfg=dict(sync_bn='torch'), experiment_name='sync_bn', log_level='ERROR')
    assert not kinds_of_norms(runner.model) & {nn.SyncBatchNorm}


@on_cpu
def test_torch_has_no_sync_bn_for_the_cpu(fake_processes):
    """Why it is refused; if this fails, torch supports it."""
    model = small_estimator(use_syncbn=True)
    assert kinds_of_norms(model) == {nn.SyncBatchNorm}
    with pytest.raises(ValueError, match='expected input tensor to be on GPU'):
        model.train().backbone(torch.rand(2, 3, 32, 32))
    model.eval().backbone(torch.rand(2, 3, 32, 32))


# Chunks and accumulation


def chunks(parts=1, launcher='none', checkpoint=None, chunk_size=8, **hook):
    hook = dict(type='ChunkedBackpropHook', **hook)
    return config(
        model=dict(head=dict(chunk_size=chunk_size)),
        default_hooks=dict(chunked_backprop=hook, checkpoint=checkpoint),
        optim_wrapper=dict(accumulative_counts=parts),
        launcher=launcher,
    )


@pytest.mark.parametrize(
    ('settings', 'match'),
    [
        (dict(mode='step', parts=3), 'chunk_size=8 .*accumulative_counts=3 equal parts'),
        (dict(mode='step', chunk_size=6, parts=4), 'chunk_size=6 .*accumulative_counts=4 equal parts'),
        (dict(parts=4, checkpoint=dict(by_epoch=False, interval=6)), 'interval=6 .*accumulative_counts=4'),
        (dict(parts=0), 'accumulative_counts=0; it is the number of batches'),
        (dict(mode='step', parts=0), 'accumulative_counts=0; it is the number of batches'),
        (dict(parts='4'), "accumulative_counts='4'; it is the number of batches"),
    ],
)
def test_chunks_that_cannot_be(settings, match):
    check_engine(chunks(mode='step', chunk_size=4, parts=4, checkpoint=dict(by_epoch=False, interval=6)), training=True)
    with pytest.raises(ValueError, match=match):
        check_engine(chunks(**settings), training=True)
    check_engine(chunks(**settings), training=False)


@pytest.mark.parametrize(
    'settings',
    [
        dict(parts=3),
        dict(mode='step', parts=4),
        dict(mode='step', chunk_size=1),
        dict(chunk_size=None),
        dict(mode='step', chunk_size='8'),  # the head refuses it
        dict(parts=3, checkpoint=dict(by_epoch=False, interval=6)),
        dict(parts=3, checkpoint=dict(interval=1)),
    ],
)
def test_chunks_that_can(settings):
    check_engine(chunks(**settings), training=True)


@pytest.mark.parametrize(
    ('launcher', 'environment', 'size'), [('pytorch', TORCHRUN, 'WORLD_SIZE'), ('slurm', SRUN, 'SLURM_NTASKS')]
)
def test_a_step_per_chunk_is_for_one_process(started_by, launcher, environment, size):
    started_by(environment)
    check_engine(chunks(mode='step', launcher=launcher), training=True)
    started_by({size: '2'})
    with pytest.raises(ValueError, match="mode='step'.*2 processes"):
        check_engine(chunks(mode='step', launcher=launcher), training=True)
    check_engine(chunks(launcher=launcher), training=True)


def test_what_another_launcher_left_in_the_environment_is_not_read(started_by):
    started_by({**TORCHRUN, 'WORLD_SIZE': '1', 'SLURM_NTASKS': '4'})  # torchrun within a slurm allocation
    check_engine(chunks(mode='step', launcher='pytorch'), training=True)
    check_engine(chunks(mode='step'), training=True)


def test_the_mode_is_found_where_the_hook_is_a_custom_one():
    cfg = chunks(parts=4, checkpoint=dict(by_epoch=False, interval=6))
    cfg.custom_hooks = [dict(cfg.default_hooks.pop('chunked_backprop'), mode='step')]
    check_engine(cfg, training=True)
