"""A run resumed from the checkpoint of any iteration equals the uninterrupted one, with MMEngine's Runner."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import EMAHook, Hook, LoggerHook
from mmengine.model import BaseModel
from mmengine.runner import Runner, find_latest_checkpoint
from torch import nn
from torch.utils.data import Dataset

from rnnpose_plugin.engine import CheckpointFitHook, InterruptHook, SeedEpochHook, SyncedSaveHook
from rnnpose_plugin.engine.seed_epoch_hook import mix_seed
from rnnpose_plugin.runtime.cpu_processes import cpu_model_wrapper, end_cpu_process, init_cpu_process_group

ROOT = Path(__file__).resolve().parents[1]
RUN_NUMBER = count()
LENGTH, EPOCHS = 5, 3  # iterations per epoch with batches of two


class NoisyData(Dataset):
    """Samples with noise from all three generators."""

    metainfo = dict(classes=('person',))

    def __init__(self):
        self.loaded = 0  # by the main process

    def __len__(self):
        return 2 * LENGTH

    def __getitem__(self, index):
        self.loaded += 1
        noise = np.random.rand() + random.random() + torch.rand(()).item()
        return dict(inputs=torch.tensor([float(index), noise]), data_samples=index)


class NoisyModel(BaseModel):
    """Running statistics that normalise while training too, and noise in its forward."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(5)
        self.first, self.norm, self.last = nn.Linear(1, 3), nn.BatchNorm1d(3), nn.Linear(3, 1)
        self.register_buffer('scale', torch.ones(()))

    def forward(self, inputs, data_samples=None, mode='loss'):
        x = torch.cat(list(inputs)).unsqueeze(1)  # two rows for each sample
        if self.training:
            self.scale.lerp_(x.abs().mean(), 0.2)
        x = self.norm(self.first(x / self.scale) + torch.rand(len(x), 3))
        output = self.last(x + random.random() + np.random.rand())
        return dict(loss=output.square().mean()) if mode == 'loss' else [dict(value=output.mean().item())]


class Recorder(Hook):
    """Records each iteration, epoch and validation."""

    priority = 'LOWEST'

    def __init__(self):
        self.events = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        rates = [group['lr'] for group in runner.optim_wrapper.param_groups]
        ends_epoch = self.end_of_epoch(runner.train_dataloader, batch_idx)
        facts = ('iteration', runner.epoch, runner.iter, batch_idx, ends_epoch, data_batch['data_samples'], rates)
        self.events.append((*facts, outputs['loss'].item(), random.random()))

    def after_train_epoch(self, runner):
        self.events.append(('epoch', runner.epoch, runner.iter, random.random()))

    def after_val_epoch(self, runner, metrics=None):
        self.events.append(('validation', runner.epoch, runner.iter))


def make_runner(work_dir, *hooks, workers=0, batch_size=2, checkpoint=None, loop='mmpose.ResumableEpochLoop', **kwargs):
    def loader(shuffle, workers):
        return dict(
            dataset=NoisyData(), batch_size=batch_size, num_workers=workers, worker_init_fn=dict(type='seed_worker'),
            sampler=dict(type='DefaultSampler', shuffle=shuffle),
        )  # fmt: skip

    settings = dict(
        model=NoisyModel(),
        work_dir=str(work_dir),
        train_dataloader=loader(True, workers),
        train_cfg=dict(type=loop, max_epochs=EPOCHS),
        val_dataloader=loader(False, 0),
        val_cfg=dict(),
        val_evaluator=dict(type='DumpResults', out_file_path=f'{work_dir}/results.pkl'),
        optim_wrapper=dict(optimizer=dict(type='Adam', lr=0.1)),
        param_scheduler=[
            dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=8),
            dict(type='MultiStepLR', by_epoch=True, milestones=[1, 2]),
        ],
        default_hooks=dict(checkpoint=checkpoint or dict(type='CheckpointHook', interval=1, by_epoch=False)),
        custom_hooks=[
            SeedEpochHook(), SyncedSaveHook(), CheckpointFitHook(), EMAHook(momentum=0.1, interval=2), *hooks,
        ],
        randomness=dict(seed=3),
        experiment_name=f'resumable{next(RUN_NUMBER)}',
        log_level='WARNING',
    )  # fmt: skip
    return Runner(**{**settings, **kwargs})


def saved(work_dir, iteration=EPOCHS * LENGTH):
    """What a checkpoint holds, but for times and histories."""
    checkpoint = torch.load(work_dir / f'iter_{iteration}.pth', weights_only=False)
    return {key: checkpoint[key] for key in ('state_dict', 'ema_state_dict', 'optimizer', 'param_schedulers')}


def assert_equal(first, second, path=''):
    assert type(first) is type(second), path
    if isinstance(first, torch.Tensor):
        assert torch.equal(first, second), path
    elif isinstance(first, dict):
        assert first.keys() == second.keys(), path
        for key in first:
            assert_equal(first[key], second[key], f'{path}/{key}')
    elif isinstance(first, (list, tuple)):
        assert len(first) == len(second), path
        for index, pair in enumerate(zip(first, second)):
            assert_equal(*pair, f'{path}/{index}')
    else:
        assert first == second, path


@pytest.fixture(scope='module', params=[0, 1], ids=['no worker', 'one worker'])
def uninterrupted(request, tmp_path_factory):
    """A run with a checkpoint after each iteration: work directory, events, number of workers."""
    work_dir = tmp_path_factory.mktemp('uninterrupted')
    recorder = Recorder()
    make_runner(work_dir, recorder, workers=request.param).train()
    return work_dir, recorder.events, request.param


@pytest.mark.parametrize('done', [1, 3, LENGTH, LENGTH + 1, 2 * LENGTH - 1, 2 * LENGTH, 3 * LENGTH])
def test_resumed_run_equals_the_uninterrupted_one(uninterrupted, tmp_path, done):
    work_dir, events, workers = uninterrupted
    recorder = Recorder()
    resume_from = dict(load_from=str(work_dir / f'iter_{done}.pth'), resume=True)
    runner = make_runner(tmp_path, recorder, workers=workers, **resume_from)
    runner.train()
    (last,) = [number for number, event in enumerate(events) if event[0] == 'iteration' and event[2] == done - 1]
    assert recorder.events == events[last + 1 :]  # from the event after that iteration on
    assert (runner.epoch, runner.iter) == (EPOCHS, EPOCHS * LENGTH)
    if not workers:  # the epoch of the checkpoint from its start, and nothing of an epoch that is done
        assert runner.train_dataloader.dataset.loaded == 2 * LENGTH * (EPOCHS - done // LENGTH)
    if done < EPOCHS * LENGTH:
        assert_equal(saved(tmp_path), saved(work_dir))


@pytest.mark.parametrize(('parts', 'waiting'), [(1, []), (5, []), (2, [1]), (3, [2, 1])])
def test_a_warning_about_gradients_that_no_checkpoint_keeps(tmp_path, capsys, parts, waiting):
    """Epochs of 5 iterations; at the end of the training MMEngine steps with all gradients there are."""
    wrapper = dict(optimizer=dict(type='Adam', lr=0.1), accumulative_counts=parts)
    make_runner(tmp_path, optim_wrapper=wrapper).train()
    warnings = [line for line in capsys.readouterr().out.splitlines() if 'accumulated gradients' in line]
    expected = [f'the accumulated gradients of {number} batches' for number in waiting]
    assert len(warnings) == len(expected) and all(words in line for words, line in zip(expected, warnings))


def test_events_of_the_uninterrupted_run(uninterrupted):
    """Otherwise the runs might agree on wrong results."""
    work_dir, events, _ = uninterrupted
    kinds = (['iteration'] * LENGTH + ['epoch', 'validation']) * EPOCHS
    assert [event[0] for event in events] == kinds
    iterations = [event for event in events if event[0] == 'iteration']
    assert [event[2] for event in iterations] == list(range(EPOCHS * LENGTH))
    assert [event[3] for event in iterations] == list(range(LENGTH)) * EPOCHS
    for epoch in range(EPOCHS):
        seen = [sample for event in iterations[epoch * LENGTH :][:LENGTH] for sample in event[5]]
        assert sorted(seen) == list(range(2 * LENGTH))
    assert len({event[-1] for event in iterations}) == EPOCHS * LENGTH  # no two iterations draw the same
    assert not torch.equal(
        saved(work_dir)['state_dict']['last.weight'], saved(work_dir, 5)['state_dict']['last.weight']
    )


def test_mmengine_starts_the_epoch_again(uninterrupted, tmp_path):
    """The reason for the loop; if this fails, MMEngine has been corrected."""
    work_dir, _, workers = uninterrupted
    recorder = Recorder()
    resume_from = dict(load_from=str(work_dir / 'iter_13.pth'), resume=True)
    make_runner(tmp_path, recorder, workers=workers, loop='EpochBasedTrainLoop', **resume_from).train()
    assert [event[3] for event in recorder.events if event[0] == 'iteration'] == list(range(LENGTH))


def test_a_resumed_run_logs_what_it_skips_and_the_time_left(uninterrupted, tmp_path, capsys):
    work_dir, _, workers = uninterrupted
    resume_from = dict(load_from=str(work_dir / 'iter_8.pth'), resume=True)
    make_runner(tmp_path, LoggerHook(interval=1), workers=workers, log_level='INFO', **resume_from).train()
    printed = capsys.readouterr().out
    assert 'epoch 2: skipping 3 of 5 iterations, done before' in printed
    assert re.search(r'Epoch\(train\) +\[3\]\[4/5\].* eta: ', printed)


def test_every_iteration_has_its_own_seed():
    numbers = [(seed, rank, epoch) for seed in range(3) for rank in range(3) for epoch in range(9)]
    seeds = {mix_seed(*three, iteration) for three in numbers for iteration in [None, *range(9)]}
    assert len(seeds) == 10 * len(numbers)


def test_the_epochs_own_seed_has_not_changed():
    assert [mix_seed(0, 0, 0), mix_seed(3, 1, 2)] == [2968811710, 1620210449]


# An epoch of another length


def resume_with_batches_of_one(work_dir, tmp_path, name, *hooks):
    return make_runner(tmp_path, *hooks, batch_size=1, load_from=str(work_dir / name), resume=True)


def test_another_length_is_refused_in_the_middle_of_an_epoch(uninterrupted, tmp_path):
    runner = resume_with_batches_of_one(uninterrupted[0], tmp_path, 'iter_8.pth')
    with pytest.raises(ValueError, match=r'after 3 of 5 iterations of epoch 2, and an epoch has 10 now; .*batch size'):
        runner.train()


@pytest.mark.parametrize('by_epoch', [False, True])
def test_another_length_is_counted_from_the_start_of_an_epoch(tmp_path, capsys, by_epoch):
    checkpoint = dict(type='CheckpointHook', interval=1 if by_epoch else LENGTH, by_epoch=by_epoch)
    make_runner(tmp_path / 'first', checkpoint=checkpoint).train()
    name = 'epoch_1.pth' if by_epoch else f'iter_{LENGTH}.pth'
    recorder = Recorder()
    runner = resume_with_batches_of_one(tmp_path / 'first', tmp_path / 'second', name, recorder)
    runner.train()
    iterations = [event for event in recorder.events if event[0] == 'iteration']
    assert [event[1:4] for event in iterations] == [(1 + i // 10, 10 + i, i % 10) for i in range(20)]
    assert runner.optim_wrapper._inner_count == runner.iter == 30  # by which gradients are accumulated
    assert 'an epoch has 10 iterations now, not 5' in capsys.readouterr().out
    # Written at the last iteration of epoch 1, the checkpoint by iterations has that epoch's end still before it.
    assert recorder.events[0][:2] == (('iteration', 1) if by_epoch else ('epoch', 0))


# Two processes. This file is also the script that each of them runs.


def on_each_process(folder):
    assert init_cpu_process_group('pytorch')
    rank = torch.distributed.get_rank()

    def run(name, *hooks, **kwargs):
        wrapper = Config(dict(model_wrapper_cfg=cpu_model_wrapper()))
        # No workers: beside gloo's threads a fork can, rarely, leave a worker waiting for a lock for ever.
        settings = dict(launcher='pytorch', workers=0, batch_size=1, cfg=wrapper)
        runner = make_runner(Path(folder, name), *hooks, **settings, **kwargs)
        runner.train()
        ema = next(hook for hook in runner.hooks if isinstance(hook, EMAHook)).ema_model
        torch.save((runner.model.module.state_dict(), ema.state_dict()), f'{folder}/{name}_{rank}.pth')

    run('uninterrupted')
    for done in (3, LENGTH, 12):
        run(f'from_{done}', load_from=f'{folder}/uninterrupted/iter_{done}.pth', resume=True)
    run('by_epoch', checkpoint=dict(type='CheckpointHook', interval=1))
    iterations = dict(train_cfg=dict(by_epoch=False, max_iters=4), log_processor=dict(by_epoch=False))
    run('iterations', checkpoint=dict(type='CheckpointHook', interval=3, by_epoch=False), **iterations)
    # Saving averages the buffers, so only runs that save at the same iterations end with the same weights.
    for name, plan in (('interrupted', {}), ('interrupted_by_epoch', dict(type='CheckpointHook', interval=1))):
        with pytest.raises(KeyboardInterrupt):
            run(name, InterruptHook(), SignalFromOneProcess(), checkpoint=plan)
        assert find_latest_checkpoint(f'{folder}/{name}').endswith('iter_3.pth')
        run(name, resume=True, checkpoint=plan)
    end_cpu_process()


class SignalFromOneProcess(Hook):
    """The second process is terminated in the second iteration; the first one learns of it before the third."""

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.rank == 1 and runner.iter == 1:
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.fixture(scope='module')
def two_processes(tmp_path_factory):
    folder = tmp_path_factory.mktemp('two')
    command = [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc_per_node=2', __file__, folder]
    environment = dict(os.environ, PYTHONPATH=str(ROOT), CUDA_VISIBLE_DEVICES='-1', OMP_NUM_THREADS='1')
    done = subprocess.run(map(str, command), cwd=folder, env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    return folder


def final(folder, name, rank):
    return torch.load(folder / f'{name}_{rank}.pth')


@pytest.mark.parametrize('name', ['uninterrupted', 'by_epoch', 'iterations', 'interrupted_by_epoch'])
def test_two_processes_hold_the_same_weights_averages_and_statistics(two_processes, name):
    (weights, averages), (other_weights, other_averages) = (final(two_processes, name, rank) for rank in (0, 1))
    assert_equal(weights, other_weights)
    assert_equal(averages, other_averages)
    assert not torch.equal(weights['last.weight'], averages['module.last.weight'])
    assert_equal(averages['module.scale'], weights['scale'])  # saved by EMAHook, and so tested later


def test_average_over_two_processes_follows_its_formula(two_processes):
    """Computed again from the weights that each checkpoint holds: those of iterations 1, 3, 5, ... are taken in."""
    weights = [saved(two_processes / 'uninterrupted', i)['ema_state_dict']['module.last.weight'] for i in range(1, 16)]
    average = weights[0]
    for step in range(2, EPOCHS * LENGTH, 2):
        average = 0.9 * average + 0.1 * weights[step]
    found = final(two_processes, 'uninterrupted', 0)[1]['module.last.weight']
    torch.testing.assert_close(found, average, rtol=1e-5, atol=1e-7)  # float32, seven steps


@pytest.mark.parametrize('name', ['from_3', f'from_{LENGTH}', 'from_12', 'interrupted'])
def test_two_resumed_processes_equal_the_uninterrupted_ones(two_processes, name):
    for rank in (0, 1):
        assert_equal(final(two_processes, name, rank), final(two_processes, 'uninterrupted', rank))
    assert_equal(saved(two_processes / name), saved(two_processes / 'uninterrupted'))


if __name__ == '__main__':
    on_each_process(sys.argv[1])
