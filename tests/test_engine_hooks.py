"""The hooks of the engine, each in small but real trainings by mmengine's Runner."""

from __future__ import annotations

import os
import random
import signal
from itertools import count

import numpy as np
import pytest
import torch
from mmengine.dataset.utils import worker_init_fn as default_worker_init_fn
from mmengine.hooks import CheckpointHook, EMAHook, Hook
from mmengine.model import BaseModel
from mmengine.runner import Runner
from mmpose.structures import PoseDataSample
from torch.utils.data import DataLoader, Dataset

from rnnpose_plugin.engine import (
    CheckpointFitHook,
    InterruptHook,
    InvalidLossHook,
    SeedEpochHook,
    seed_worker,
)
from rnnpose_plugin.engine.interrupt_hook import SIGNALS
from rnnpose_plugin.engine.seed_epoch_hook import mix_seed

RUN_NUMBER = count()


class NoisyData(Dataset):
    """Eight samples, each with noise from all three generators."""

    metainfo = dict(classes=('person',))

    def __len__(self):
        return 8

    def __getitem__(self, index):
        noise = np.random.rand() + random.random() + torch.rand(()).item()
        return dict(inputs=torch.tensor([float(index), noise]), data_samples=sample(f'{index}.jpg'))


def sample(path):
    return PoseDataSample(metainfo=dict(img_path=path))


class NoisyModel(BaseModel):
    """A linear layer with noise in its forward; its loss is ``bad_value`` in one iteration."""

    def __init__(self, width=1, bad_iteration=None, bad_value=float('nan')):
        super().__init__()
        torch.manual_seed(5)
        self.layer = torch.nn.Linear(2, width)
        self.bad_iteration, self.bad_value, self.iteration = bad_iteration, bad_value, 0

    def forward(self, inputs, data_samples=None, mode='loss'):
        output = self.layer(torch.stack(inputs) + torch.rand(len(inputs), 2)).mean()
        if mode != 'loss':
            return [dict(value=output.item() + np.random.rand())]
        self.iteration += 1
        factor = self.bad_value if self.iteration == self.bad_iteration else 1.0
        return dict(loss_a=output.square() * factor, loss_b=output.abs())


def loader(num_workers=0, worker_init_fn=None, **kwargs):
    kwargs.setdefault('sampler', dict(type='DefaultSampler', shuffle=True))
    worker_init_fn = worker_init_fn or dict(type='seed_worker')
    return dict(batch_size=2, num_workers=num_workers, dataset=NoisyData(), worker_init_fn=worker_init_fn, **kwargs)


def make_runner(work_dir, hooks, model=None, epochs=4, validate=False, train_loader=None, checkpoint=None, **kwargs):
    evaluator = dict(type='DumpResults', out_file_path=f'{work_dir}/results.pkl')
    val = dict(val_dataloader=loader(), val_cfg=dict(), val_evaluator=evaluator)
    settings = dict(
        model=model or NoisyModel(),
        work_dir=str(work_dir),
        train_dataloader=train_loader or loader(),
        train_cfg=dict(by_epoch=True, max_epochs=epochs),
        optim_wrapper=dict(optimizer=dict(type='Adam', lr=0.01)),
        default_hooks=dict(checkpoint=checkpoint or dict(type='CheckpointHook', interval=1)),
        custom_hooks=hooks,
        randomness=dict(seed=3),
        experiment_name=f'run{next(RUN_NUMBER)}',
        **(val if validate else {}),
    )
    return Runner(**{**settings, **kwargs})


def train(work_dir, hooks=None, **kwargs):
    model = make_runner(work_dir, [SeedEpochHook()] if hooks is None else hooks, **kwargs).train()
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


# SeedEpochHook, seed_worker


@pytest.mark.parametrize('num_workers', [0, 1])
def test_resumed_training_equals_uninterrupted_training(tmp_path, num_workers):
    uninterrupted = train(tmp_path / 'uninterrupted', train_loader=loader(num_workers), validate=True)
    train(tmp_path / 'broken', epochs=2, train_loader=loader(num_workers))
    resumed = train(tmp_path / 'broken', train_loader=loader(num_workers), resume=True)
    assert torch.equal(uninterrupted, resumed)


def test_resumed_training_differs_without_the_hook(tmp_path):
    uninterrupted = train(tmp_path / 'uninterrupted', hooks=[])
    train(tmp_path / 'broken', hooks=[], epochs=2)
    assert not torch.equal(uninterrupted, train(tmp_path / 'broken', hooks=[], resume=True))


class StateRecorder(Hook):
    """Records a draw of each generator after the epoch has been seeded."""

    priority = 'LOWEST'

    def __init__(self):
        self.draws = []

    def before_train_epoch(self, runner):
        self.draws.append((random.random(), np.random.rand(), torch.rand(()).item()))


def test_epochs_differ_in_all_generators(tmp_path):
    recorder = StateRecorder()
    train(tmp_path, [SeedEpochHook(), recorder])
    for draws in zip(*recorder.draws):
        assert len(set(draws)) == 4


def test_every_epoch_and_rank_has_its_own_seed():
    seeds = {mix_seed(seed, rank, epoch) for seed in range(4) for rank in range(4) for epoch in range(50)}
    assert len(seeds) == 4 * 4 * 50
    assert all(0 <= seed < 2**32 for seed in seeds)


def noise_of_two_epochs(worker_init_fn):
    data_loader = Runner.build_dataloader(
        loader(1, worker_init_fn, sampler=dict(type='DefaultSampler', shuffle=False)), seed=3
    )
    torch.manual_seed(0)
    return [[batch['inputs'][0][1].item() for batch in data_loader] for _ in range(2)]


def test_workers_see_new_noise_in_every_epoch():
    first, second = noise_of_two_epochs(dict(type='seed_worker'))
    assert not set(first) & set(second)


def test_mmengine_repeats_the_noise_of_an_epoch():
    """The reason for seed_worker; if this fails, MMEngine has been corrected and it can be deleted."""
    default = dict(type=default_worker_init_fn, num_workers=1, rank=0, seed=3)
    first, second = noise_of_two_epochs(default)
    assert first == second


def test_seed_worker_sets_numpy_and_random():
    data_loader = DataLoader(WorkerState(), num_workers=1, worker_init_fn=seed_worker)
    torch.manual_seed(0)
    seed, numpy_draw, python_draw = (float(value) for value in next(iter(data_loader))[0])
    assert numpy_draw == np.random.RandomState(int(seed)).rand()
    assert python_draw == random.Random(int(seed)).random()


class WorkerState(Dataset):
    def __len__(self):
        return 1

    def __getitem__(self, index):
        return torch.tensor([torch.initial_seed() % 2**32, np.random.rand(), random.random()], dtype=torch.float64)


def test_a_warning_about_persistent_workers(tmp_path, capsys):
    train(tmp_path, epochs=1, train_loader=loader(1, persistent_workers=True))
    assert 'persistent_workers=False' in capsys.readouterr().out


# InvalidLossHook


@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_bad_loss_stops_before_the_checkpoint_of_its_iteration(tmp_path, value):
    every_iteration = dict(type='CheckpointHook', interval=1, by_epoch=False)
    model = NoisyModel(bad_iteration=6, bad_value=value)
    with pytest.raises(FloatingPointError) as caught:
        train(tmp_path, [InvalidLossHook()], model=model, checkpoint=every_iteration)
    text = str(caught.value)
    assert 'iteration 6, epoch 2' in text and f'loss_a={value}' in text and 'loss_b' not in text
    assert text.count('.jpg') == 2
    assert f'load_from={tmp_path}/iter_5.pth' in text
    assert sorted(path.name for path in tmp_path.glob('*.pth')) == [f'iter_{i}.pth' for i in range(1, 6)]


def test_bad_weights_are_not_saved_between_two_looks(tmp_path):
    every_iteration = dict(type='CheckpointHook', interval=1, by_epoch=False)
    with pytest.raises(FloatingPointError, match=r'2 weights are not finite .*layer\.weight'):
        train(tmp_path, [InvalidLossHook(100)], model=NoisyModel(bad_iteration=3), checkpoint=every_iteration)
    assert (tmp_path / 'last_checkpoint').read_text().endswith('iter_2.pth')


def test_loss_is_checked_every_interval(tmp_path):
    with pytest.raises(FloatingPointError, match=r'iteration 4, epoch 1 .*start again$'):
        train(tmp_path, [InvalidLossHook(4)], model=NoisyModel(bad_iteration=2))


def test_good_loss_passes(tmp_path):
    assert torch.isfinite(train(tmp_path, [InvalidLossHook()], epochs=1)).all()


def test_interval_below_one_is_refused():
    with pytest.raises(ValueError, match='at least 1, got 0'):
        InvalidLossHook(interval=0)


# CheckpointFitHook


def load(tmp_path, checkpoint, model=None):
    """Load what was saved in a file through the Runner, with the hook."""
    torch.save(checkpoint, tmp_path / 'given.pth')
    runner = make_runner(tmp_path / 'run', [CheckpointFitHook(), EMAHook()], model, cfg=dict(load_from='given.pth'))
    runner.call_hook('before_run')
    runner.load_checkpoint(str(tmp_path / 'given.pth'))
    return runner.model


def test_fitting_checkpoint_is_loaded(tmp_path):
    weights = NoisyModel().state_dict()
    for checkpoint in (dict(state_dict=weights), dict(state_dict={f'module.{k}': v for k, v in weights.items()})):
        assert torch.equal(load(tmp_path, checkpoint).layer.weight, weights['layer.weight'])


def test_missing_and_reshaped_weights_are_refused(tmp_path):
    with pytest.raises(
        ValueError, match=r'given\.pth does not fit .* 2 weights missing \(layer\.weight, layer\.bias\)'
    ):
        load(tmp_path, dict(state_dict=dict(other=torch.zeros(1))))
    with pytest.raises(ValueError, match=r'0 weights missing, 2 weights of another shape \(layer\.weight'):
        load(tmp_path, dict(state_dict=NoisyModel().state_dict()), NoisyModel(width=5))


def test_superfluous_weights_only_warn(tmp_path, capsys):
    weights = NoisyModel().state_dict()
    load(tmp_path, dict(state_dict=dict(weights, extra=torch.zeros(1))))
    assert '1 weights superfluous (extra)' in capsys.readouterr().out


@pytest.mark.parametrize('checkpoint', [[1, 2], dict(state_dict=5), dict(epoch=3)])
def test_other_files_are_no_checkpoint(tmp_path, checkpoint):
    with pytest.raises(ValueError, match='is not a checkpoint'):
        load(tmp_path, checkpoint)


def test_fit_hook_leaves_averaged_weights_unchanged(tmp_path):
    """A resumed training with averaging equals the uninterrupted one: the trial load changed neither set of weights."""

    def run(name, **kwargs):
        hooks = [SeedEpochHook(), CheckpointFitHook(), EMAHook(momentum=0.1)]
        train(tmp_path / name, hooks, **kwargs)
        return torch.load(tmp_path / name / 'epoch_4.pth', weights_only=False) if 'epochs' not in kwargs else None

    uninterrupted = run('uninterrupted')
    run('broken', epochs=2)
    resumed = run('broken', resume=True)
    for part in ('state_dict', 'ema_state_dict'):
        for name, value in uninterrupted[part].items():
            assert torch.equal(value, resumed[part][name]), (part, name)
    assert not torch.equal(
        uninterrupted['state_dict']['layer.weight'], uninterrupted['ema_state_dict']['module.layer.weight']
    )


def test_order_of_the_hooks(tmp_path):
    hooks = [CheckpointHook(1), EMAHook(), InvalidLossHook(), CheckpointFitHook(), SeedEpochHook()]
    names = [type(hook).__name__ for hook in make_runner(tmp_path, hooks).hooks]
    assert names.index('CheckpointFitHook') < names.index('EMAHook')
    assert names.index('InvalidLossHook') < names.index('EMAHook') < names.index('CheckpointHook')


# InterruptHook

EVERY_ITERATION = dict(type='CheckpointHook', interval=1, by_epoch=False)
RESUMABLE = dict(type='mmpose.ResumableEpochLoop', max_epochs=4)  # of 4 iterations


class InterruptedModel(NoisyModel):
    """Signals itself while it computes the loss of one iteration, or of one validation batch."""

    def __init__(self, *signals, iteration=2, mode='loss'):
        super().__init__()
        self.signals, self.at, self.mode = signals, iteration, mode

    def forward(self, inputs, data_samples=None, mode='loss'):
        output = super().forward(inputs, data_samples, mode)
        if mode == self.mode and (self.iteration == self.at or mode == 'predict'):
            for number in self.signals:
                os.kill(os.getpid(), number)
        return output


def interrupt(tmp_path, model, **kwargs):
    """The signal's number in the exception, and the name of the last checkpoint."""
    before = [signal.getsignal(number) for number in SIGNALS]
    with pytest.raises(KeyboardInterrupt) as caught:
        train(tmp_path, [SeedEpochHook(), InterruptHook()], model=model, **kwargs)
    assert [signal.getsignal(number) for number in SIGNALS] == before
    return *caught.value.args, (tmp_path / 'last_checkpoint').read_text().split('/')[-1]


@pytest.mark.parametrize('number', SIGNALS)
def test_an_interrupted_iteration_is_finished_saved_and_resumed(tmp_path, capfd, number):
    assert interrupt(tmp_path, InterruptedModel(number), train_cfg=RESUMABLE) == (number, 'iter_2.pth')
    name = 'Ctrl-C' if number == signal.SIGINT else number.name
    assert capfd.readouterr().err.count(f'{name}: stopping after this iteration') == 1
    resumed = train(tmp_path, train_cfg=RESUMABLE, resume=True)
    assert torch.equal(resumed, train(tmp_path / 'uninterrupted', train_cfg=RESUMABLE))


@pytest.mark.parametrize(
    ('signals', 'saved'),
    [
        ([signal.SIGINT, signal.SIGINT], 1),
        ([signal.SIGTERM, signal.SIGINT], 1),
        ([signal.SIGTERM, signal.SIGTERM], 2),
        ([signal.SIGHUP, signal.SIGTERM], 2),
    ],
)
def test_only_a_second_ctrl_c_stops_at_once(tmp_path, signals, saved):
    model = InterruptedModel(*signals)
    assert interrupt(tmp_path, model, train_cfg=RESUMABLE, checkpoint=EVERY_ITERATION)[1] == f'iter_{saved}.pth'


@pytest.mark.parametrize(
    ('iteration', 'interval', 'saved'),
    [(4, 1, 'epoch_1.pth'), (4, 2, 'iter_4.pth'), (8, 2, 'epoch_2.pth'), (16, 1, 'epoch_4.pth')],
)
def test_a_signal_in_the_last_iteration_of_an_epoch_lets_the_epoch_end(tmp_path, iteration, interval, saved):
    checkpoint = dict(type='CheckpointHook', interval=interval)
    model = InterruptedModel(signal.SIGTERM, iteration=iteration)
    assert interrupt(tmp_path, model, train_cfg=RESUMABLE, checkpoint=checkpoint)[1] == saved
    meta = torch.load(tmp_path / saved, weights_only=False)['meta']
    assert (meta['epoch'], meta['iter']) == (iteration // 4, iteration)


def test_a_signal_during_validation_saves_the_epoch_before_it(tmp_path):
    model = InterruptedModel(signal.SIGTERM, mode='predict')
    checkpoint = dict(type='CheckpointHook', interval=3)
    assert interrupt(tmp_path, model, train_cfg=RESUMABLE, validate=True, checkpoint=checkpoint)[1] == 'iter_4.pth'
    meta = torch.load(tmp_path / 'iter_4.pth', weights_only=False)['meta']
    assert (meta['epoch'], meta['iter']) == (1, 4)


def test_accumulated_gradients_are_used_before_the_stop(tmp_path):
    wrapper = dict(optimizer=dict(type='Adam', lr=0.01), accumulative_counts=4)
    cfg = dict(type='mmpose.ResumableEpochLoop', max_epochs=4)
    model = InterruptedModel(signal.SIGTERM, iteration=5)
    assert interrupt(tmp_path, model, train_cfg=cfg, optim_wrapper=wrapper)[1] == 'epoch_2.pth'


def test_mmengines_loop_which_cannot_resume_within_an_epoch_saves_nothing_there(tmp_path):
    model = InterruptedModel(signal.SIGTERM, iteration=6)
    assert interrupt(tmp_path, model) == (signal.SIGTERM, 'epoch_1.pth')


def test_a_training_by_iterations_is_saved(tmp_path):
    by_iterations = dict(
        train_cfg=dict(by_epoch=False, max_iters=9), checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=5)
    )
    assert interrupt(tmp_path, InterruptedModel(signal.SIGTERM), **by_iterations)[1] == 'iter_2.pth'


def test_an_ignored_signal_stays_ignored(tmp_path):
    """As SIGHUP under nohup, and SIGINT in the background of a shell without job control."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGHUP)}
    try:
        train(tmp_path, [InterruptHook()], model=InterruptedModel(*before), epochs=1)
        assert all(signal.getsignal(number) is signal.SIG_IGN for number in before)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class InterruptedData(NoisyData):
    """A signal to a whole process group reaches the worker of the data loader, too."""

    def __init__(self, number):
        self.number = number

    def __getitem__(self, index):
        os.kill(os.getpid(), self.number)
        return super().__getitem__(index)


@pytest.mark.parametrize('number', SIGNALS)
def test_workers_leave_signals_to_the_main_process(tmp_path, capfd, number):
    train(tmp_path, [InterruptHook()], epochs=1, train_loader=dict(loader(1), dataset=InterruptedData(number)))
    assert 'stopping' not in capfd.readouterr().err
    assert (tmp_path / 'epoch_1.pth').exists()


def test_a_finished_run_restores_the_signals(tmp_path):
    before = [signal.getsignal(number) for number in SIGNALS]
    train(tmp_path, [InterruptHook()], epochs=1)
    assert [signal.getsignal(number) for number in SIGNALS] == before


# A pretrained backbone


@pytest.mark.parametrize(
    'shape, prefix, fits', [((2, 2), 'backbone.', True), ((3, 2), 'backbone.', False), ((2, 2), 'x.', False)]
)
def test_a_pretrained_backbone_that_does_not_fit_is_refused(tmp_path, shape, prefix, fits):
    path = tmp_path / 'ae.pth'
    torch.save(dict(state_dict={f'{prefix}weight': torch.zeros(shape), f'{prefix}bias': torch.zeros(2)}), path)

    class Runner:
        model, _test_loop = torch.nn.Module(), None

    Runner.model.backbone = torch.nn.Linear(2, 2)
    Runner.model.backbone.init_cfg = dict(type='Pretrained', checkpoint=str(path), prefix='backbone.')
    hook = CheckpointFitHook()
    if fits:
        return hook.before_run(Runner)
    with pytest.raises(ValueError, match='ae.pth.*(does not fit the backbone|no weights)'):
        hook.before_run(Runner)
