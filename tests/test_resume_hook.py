"""Resuming with other settings: the new ones hold, and one warning names them; files of other runs stay."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest
import torch
from mmengine.hooks import Hook
from test_resumable_loop import LENGTH, assert_equal, make_runner, saved

from rnnpose_plugin.engine import ResumeHook
from rnnpose_plugin.engine.config_changes import config_changes, read_settings
from rnnpose_plugin.runtime.checkpoint_file import checkpoint_to_resume

LINEAR = dict(type='LinearLR', start_factor=1.0, end_factor=0.0, by_epoch=True, begin=0)


class Rates(Hook):
    """Notes learning rate and weight decay of each iteration."""

    priority = 'LOWEST'

    def __init__(self):
        self.seen = []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        group = runner.optim_wrapper.param_groups[0]
        self.seen.append((runner.iter, group['lr'], group['weight_decay']))


def train(work_dir, epochs, scheduler, lr=0.1, resume=None, **kwargs):
    """Learning rates of a run, and the runner."""
    rates = Rates()
    kwargs.setdefault('optim_wrapper', dict(optimizer=dict(type='Adam', lr=lr)))
    runner = make_runner(
        work_dir, rates, ResumeHook(), param_scheduler=scheduler, val_dataloader=None, val_cfg=None, val_evaluator=None,
        train_cfg=dict(type='mmpose.ResumableEpochLoop', max_epochs=epochs),
        load_from=str(resume) if resume else None, resume=bool(resume), **kwargs,
    )  # fmt: skip
    runner.train()
    return rates.seen, runner


def linear(epochs):
    return [dict(LINEAR, end=epochs)]


@pytest.fixture(scope='module')
def short(tmp_path_factory):
    """Two epochs whose schedule ends there."""
    folder = tmp_path_factory.mktemp('short')
    train(folder, 2, linear(2))
    return folder


SCHEDULES = {
    'longer': (4, linear(4)),
    'another': (4, [dict(type='ExponentialLR', gamma=0.5, by_epoch=True)]),
    'two': (4, [dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=8), *linear(5)]),
    'by iteration': (4, [dict(type='CosineAnnealingLR', by_epoch=True, begin=0, end=4, convert_to_iter_based=True)]),
    'none': (4, None),
}


@pytest.mark.parametrize('done', [7, 2 * LENGTH])
@pytest.mark.parametrize('name', SCHEDULES)
def test_the_new_schedule_is_followed_as_if_from_the_start(short, tmp_path, name, done):
    epochs, scheduler = SCHEDULES[name]
    expected = [rate for rate in train(tmp_path / 'whole', epochs, scheduler)[0] if rate[0] >= done]
    rates, _ = train(tmp_path / 'resumed', epochs, scheduler, resume=short / f'iter_{done}.pth')
    assert rates == expected and rates[0][1] > 0.01


def test_an_unchanged_run_is_not_touched(short, tmp_path, capsys):
    train(tmp_path, 2, linear(2), resume=short / 'iter_7.pth')
    for part, value in saved(tmp_path, 10).items():
        assert_equal(value, saved(short, 10)[part], part)
    assert not warnings_of(capsys)


def warnings_of(capsys):
    output = ''.join(capsys.readouterr())
    return [line for line in output.splitlines() if 'settings differ' in line or 'random seed' in line]


def test_new_learning_rate_and_weight_decay(short, tmp_path, capsys):
    wrapper = dict(optimizer=dict(type='Adam', lr=0.3, weight_decay=0.01))
    rates, _ = train(tmp_path, 3, linear(3), resume=short / 'iter_10.pth', optim_wrapper=wrapper)
    # The third of three epochs of a linear schedule from 0.3 to 0 that ends with the last epoch's rate.
    whole, _ = train(tmp_path / 'whole', 3, linear(3), optim_wrapper=wrapper)
    assert rates == whole[10:] and {decay for _, _, decay in rates} == {0.01}
    (line,) = warnings_of(capsys)
    assert 'Optimizer, learning rate and schedule follow the settings of this run' in line
    assert 'weight_decay 0 -> 0.01; initial_lr 0.1 -> 0.3' in line


def test_a_constant_learning_rate(tmp_path):
    train(tmp_path / 'first', 1, None, lr=0.1)
    rates, _ = train(tmp_path / 'second', 2, None, lr=0.2, resume=tmp_path / 'first' / 'iter_5.pth')
    assert {rate for _, rate, _ in rates} == {0.2}


def test_moments_stay_with_a_new_rate_and_go_with_another_optimizer(short, tmp_path):
    checkpoint = torch.load(short / 'iter_10.pth', weights_only=False)
    for name, text in (('kept', 'Adam'), ('gone', 'SGD')):
        checkpoint['meta']['cfg'] = f"optim_wrapper = dict(optimizer=dict(lr=0.1, type='{text}'))"
        torch.save(checkpoint, tmp_path / f'{name}.pth')
    steps = {}
    for name in ('kept', 'gone'):
        cfg = dict(optim_wrapper=dict(optimizer=dict(lr=0.1, type='Adam')))
        _, runner = train(tmp_path / name, 3, linear(3), resume=tmp_path / f'{name}.pth', cfg=cfg)
        steps[name] = {int(state['step']) for state in runner.optim_wrapper.optimizer.state.values()}
    assert steps == dict(kept={15}, gone={5})


def test_the_seed_stays_and_is_named_in_the_only_warning(short, tmp_path, capsys):
    _, runner = train(tmp_path, 3, linear(3), lr=0.2, resume=short / 'iter_10.pth', randomness=dict(seed=8))
    assert runner.seed == 3
    (line,) = warnings_of(capsys)
    assert 'randomness.seed stays 3, that of the checkpoint, instead of 8' in line and 'initial_lr' in line


def test_a_scheduled_momentum_is_not_a_change(tmp_path, capsys):
    schedule = [*linear(3), dict(type='LinearMomentum', start_factor=0.5, by_epoch=True, begin=0, end=3)]
    train(tmp_path / 'whole', 3, schedule)
    train(tmp_path / 'resumed', 3, schedule, resume=tmp_path / 'whole' / 'iter_7.pth')
    for part, value in saved(tmp_path / 'resumed').items():
        assert_equal(value, saved(tmp_path / 'whole')[part], part)
    assert not warnings_of(capsys)


def test_twelve_changes_are_named_and_the_others_counted(short, tmp_path, capsys):
    checkpoint = torch.load(short / 'iter_10.pth', weights_only=False)
    checkpoint['meta']['cfg'] = f'model = dict({", ".join(f"a{number}=0" for number in range(20))})'
    torch.save(checkpoint, tmp_path / 'given.pth')
    now = dict(model={f'a{number}': 1 for number in range(20)})
    train(tmp_path / 'run', 2, linear(2), resume=tmp_path / 'given.pth', cfg=now)
    (line,) = warnings_of(capsys)
    assert 'model.a11 0 -> 1 and 8 more. ' in line and 'a12' not in line


def test_more_epochs_than_iterations_are_refused(short, tmp_path):
    checkpoint = torch.load(short / 'iter_10.pth', weights_only=False)
    checkpoint['meta'].update(epoch=2, iter=1)
    torch.save(checkpoint, tmp_path / 'given.pth')
    given = dict(load_from=str(tmp_path / 'given.pth'), resume=True, train_cfg=dict(by_epoch=True, max_epochs=3))
    with pytest.raises(ValueError, match='says epoch 2 and iteration 1; use another one'):
        make_runner(tmp_path / 'run', ResumeHook(), **given).train()


def test_settings_of_the_config_are_named():
    text = """
custom_hooks = [dict(type='EMAHook', momentum=0.1), dict(type='SeedEpochHook')]
model = dict(head=dict(chunk_size=8, hidden=(8, -1)), backbone=dict(init_cfg=dict(checkpoint='a')))
optim_wrapper = dict(optimizer=dict(lr=0.1, type='Adam'))
train_dataloader = dict(batch_size=2, dataset=dict(data_root='a'))
work_dir = 'a'
"""
    new = text.replace('chunk_size=8', 'chunk_size=4').replace('lr=0.1', 'lr=0.2').replace("'a'", "'b'")
    new = new.replace('batch_size=2', 'batch_size=3').replace(", dict(type='SeedEpochHook')", '')

    class Now:
        pretty_text = new

    assert config_changes(text, Now) == [
        'optim_wrapper.optimizer.lr 0.1 -> 0.2',
        'train_dataloader.batch_size 2 -> 3',
        'model.head.chunk_size 8 -> 4',
        "custom_hooks.1 {'type': 'SeedEpochHook'} -> None",
    ]
    assert config_changes(new, Now) == config_changes('not = a ( config', Now) == config_changes(None, Now) == []


def test_a_config_is_read_without_running_it():
    assert read_settings("a = open('code_ran', 'w')\nb = [dict(c=-1)]") == {
        'a': "open('code_ran', 'w')",
        'b': [{'c': '-1'}],
    }
    assert not Path('code_ran').exists()


@pytest.mark.parametrize('place', ['elsewhere', 'work_dir', 'not_best'])
def test_only_the_runs_own_best_checkpoint_may_be_deleted(short, tmp_path, place):
    """CheckpointHook deletes what the checkpoint names as the best one once there is a better one."""
    work_dir = tmp_path / 'run'
    work_dir.mkdir()
    name = {'elsewhere': tmp_path / 'best_a.pth', 'work_dir': work_dir / 'best_a.pth', 'not_best': work_dir / 'notes'}
    name[place].touch()
    checkpoint = torch.load(short / 'iter_10.pth', weights_only=False)
    checkpoint['message_hub']['runtime_info'].update(best_ckpt=str(name[place]), keep_ckpt_ids=['../a'])
    torch.save(checkpoint, tmp_path / 'given.pth')
    _, runner = train(work_dir, 3, linear(3), resume=tmp_path / 'given.pth')
    assert ('best_ckpt' in runner.message_hub.runtime_info) == (place == 'work_dir')
    assert 'keep_ckpt_ids' not in runner.message_hub.runtime_info  # from which names of files are made


def save(path):
    torch.save(dict(state_dict=dict(w=torch.zeros(1000))), path)
    return str(path)


def aged(path, hours):
    os.utime(path, (1e9 - 3600 * hours,) * 2)
    return path


@pytest.mark.parametrize(
    ('files', 'expected'),
    [
        ([], None),
        (['epoch_9.pth', 'epoch_10.pth'], 'epoch_10.pth'),
        (['epoch_1.pth', 'iter_30.pth'], 'iter_30.pth'),
        (['iter_30.pth', 'epoch_2.pth'], 'epoch_2.pth'),
        (['epoch_3.pth', 'best_coco_AP_epoch_4.pth', 'weights.pth'], 'epoch_3.pth'),
        (['epoch_10.pth', 'epoch_9.pth'], 'epoch_10.pth'),  # copied in another order
    ],
)
@pytest.mark.parametrize('empty', [False, True])
def test_without_last_checkpoint_the_newest_is_taken(tmp_path, capsys, files, expected, empty):
    for age, name in enumerate(reversed(files)):
        aged(save(tmp_path / name), age)
    if empty:  # as after a full disk
        (tmp_path / 'last_checkpoint').touch()
    assert checkpoint_to_resume(str(tmp_path)) == (str(tmp_path / expected) if expected else None)
    assert (str(expected) in capsys.readouterr().err) == bool(expected)


def test_a_damaged_newest_one_is_named_and_the_one_before_only_when_asked(tmp_path):
    first, second = save(tmp_path / 'epoch_1.pth'), save(tmp_path / 'epoch_2.pth')
    content = bytearray(Path(second).read_bytes())
    content[len(content) // 2] ^= 1
    Path(second).write_bytes(content)
    with pytest.raises(ValueError, match=f'{second}, .* damaged; .*--resume {first}'):
        checkpoint_to_resume(str(tmp_path))


def test_a_work_dir_that_has_moved(tmp_path, capsys):
    path = save(tmp_path / 'epoch_1.pth')
    (tmp_path / 'last_checkpoint').write_text('/gone/with/its/folder/epoch_1.pth')
    assert checkpoint_to_resume(str(tmp_path)) == path
    assert capsys.readouterr().err == ''


def test_without_optimizer_where_none_was_saved(tmp_path):
    """A run told not to save its optimizer is resumed as before."""
    checkpoint = dict(type='CheckpointHook', interval=1, by_epoch=False, save_optimizer=False)
    train(tmp_path / 'first', 1, None, checkpoint=checkpoint)
    assert 'optimizer' not in torch.load(tmp_path / 'first' / 'iter_5.pth', weights_only=False)
    rates, _ = train(tmp_path / 'second', 2, None, checkpoint=checkpoint, resume=tmp_path / 'first' / 'iter_5.pth')
    assert len(rates) == LENGTH


def test_older_forms_of_state_are_accepted(short, tmp_path):
    """Before torch 1.12 a step was a number, and SGD kept None without momentum."""
    checkpoint = torch.load(io.BytesIO((short / 'iter_10.pth').read_bytes()), weights_only=False)
    for state in checkpoint['optimizer']['state'].values():
        state['step'] = 10.0
    torch.save(checkpoint, tmp_path / 'given.pth')
    assert len(train(tmp_path / 'run', 3, linear(3), resume=tmp_path / 'given.pth')[0]) == LENGTH
