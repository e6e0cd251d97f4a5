"""What a user sees when something is wrong: the real commands, run from another folder, on a tiny crowd.

The first test that asks for a run starts all of them, two at a time. What is refused before a model is built shares one
process.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from mmengine.config import Config
from mmengine.device import get_device
from narrow_network import NARROW

from projects.crowdbench.synthetic_crowd import CrowdSettings, write_crowd
from rnnpose_plugin.runtime.launch import check_options, load_config, prepare_test, prepare_training

ROOT = Path(__file__).resolve().parents[1]
CONFIG = str(ROOT / 'configs' / 'rnnpose_hg_crowd.py')
IMAGES, EPOCHS = 6, 3
SMALLEST = [*NARROW, f'train_cfg.max_epochs={EPOCHS}', 'train_dataloader.batch_size=1']

# Runs several commands of this Python one after the other, and prints status, stdout and stderr of each.
SEVERAL = """
import io, json, runpy, sys
from contextlib import redirect_stderr, redirect_stdout
outcomes = []
for sys.argv in json.loads(sys.argv[1]):
    out, err, status = io.StringIO(), io.StringIO(), 0
    with redirect_stdout(out), redirect_stderr(err):
        try:
            runpy.run_path(sys.argv[0], run_name='__main__')
        except SystemExit as stop:
            status = stop.code
    outcomes.append([status, out.getvalue(), err.getvalue()])
print(json.dumps(outcomes))
"""


@pytest.fixture(scope='module')
def crowd(tmp_path_factory):
    """Six images to train on and two to test on."""
    folder = tmp_path_factory.mktemp('crowd')
    write_crowd(folder, dict(train=IMAGES, val=2, plain=2), 0, CrowdSettings(max_people=3))
    return folder


class Commands:
    """Runs the tools in a folder of their own.

    Args:
        folder (Path): For copies of the data and for work directories.
        crowd (Path): The data.
    """

    def __init__(self, folder, crowd):
        self.folder, self.crowd = folder, crowd
        self.environment = dict(os.environ, PYTHONPATH=str(ROOT), OMP_NUM_THREADS='1', PYTHONWARNINGS='ignore')
        self.environment.pop('RNNPOSE_TRACEBACK', None)

    def options(self, data, *options):
        loaders = [f'{name}_dataloader.dataset.data_root={data}/' for name in ('train', 'val', 'test')]
        files = [f'{name}_evaluator.0.ann_file={data}/annotations/{file}.json' for name, file in
                 (('val', 'val'), ('test', 'plain'))]  # fmt: skip
        return ['--cfg-options', *SMALLEST, *loaders, *files, *options]

    def train(self, name, *options, data=None, flags=()):
        command = [ROOT / 'tools' / 'train.py', CONFIG, '--work-dir', self.folder / name, '--no-validate', *flags]
        return [str(part) for part in [*command, *self.options(data or self.crowd, *options)]]

    def test(self, name, checkpoint, *flags):
        command = [ROOT / 'tools' / 'test.py', CONFIG, checkpoint, '--work-dir', self.folder / name, *flags]
        return [str(part) for part in [*command, *self.options(self.crowd)]]

    def start(self, command, limit='', sigint=signal.SIG_DFL):
        """Starts Python with a command; a limit is the largest size of a file in KiB."""
        command = [sys.executable, *command]
        if limit:
            command = ['bash', '-c', f'ulimit -f {limit}; exec "$@"', 'bash', *command]
        return subprocess.Popen(
            command, cwd=self.folder, env=self.environment, text=True, start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, sigint), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def run(self, command, **how):
        return outcome_of(self.start(command, **how))

    def run_several(self, commands):
        status, out, err = outcome_of(self.start(['-c', SEVERAL, json.dumps(commands)]))
        assert status == 0, err
        return [Outcome(*each) for each in json.loads(out.splitlines()[-1])]

    def copy_of_data(self, name):
        return Path(shutil.copytree(self.crowd, self.folder / name))


class Outcome(NamedTuple):
    """Exit status and output of a finished command."""

    status: int
    out: str
    err: str

    def the_error(self):
        """The one line of the error; everything else that must hold of it is asserted here."""
        assert self.status not in (0, None), self.err
        assert 'Traceback' not in self.out + self.err, self.err
        (line,) = [line for line in self.err.splitlines() if line.startswith('error:')]
        return line


def outcome_of(process):
    out, err = process.communicate(timeout=100)
    return Outcome(process.returncode, out, err)


# Each case is a faulty command; its sentence has to contain the offending value and a cure.
CASES = {}
EARLY = []  # refused before a model is built


def case(*parts, late=False):
    def register(function):
        CASES[function.__name__] = (function, parts)
        EARLY.extend([] if late else [function.__name__])
        return function

    return register


@case('annotations/gone.json does not exist', 'check data_root and ann_file')
def missing_annotation_file(commands):
    return commands.train('a', 'train_dataloader.dataset.ann_file=annotations/gone.json')


def an_image(data):
    return sorted((data / 'train').iterdir())[3]


@case('.png does not exist (1 of 6 images', 'check data_root and data_prefix')
def missing_image(commands):
    data = commands.copy_of_data('missing_image')
    an_image(data).unlink()
    return commands.train('b', data=data)


@case('image ', ' is cut off after 900 bytes', 'fetch it again', late=True)
def truncated_image(commands):
    data = commands.copy_of_data('truncated_image')
    os.truncate(an_image(data), 900)
    return commands.train('c', data=data)


def with_people(commands, name, change):
    data = commands.copy_of_data(name)
    path = data / 'annotations' / 'train.json'
    content = json.loads(path.read_text())
    for ann in content['annotations']:
        change(ann)
    path.write_text(json.dumps(content))
    return commands.train(f'run_{name}', data=data)


@case('train.json is a JSON without keypoints', 'person_keypoints_train2017.json')
def json_without_keypoints(commands):
    return with_people(commands, 'no_keypoints', lambda ann: ann.pop('keypoints'))


@case('annotation 1 has nan in its keypoints', 'correct or remove it')
def nan_annotation(commands):
    return with_people(commands, 'nan', lambda ann: ann['keypoints'].__setitem__(0, float('nan')))


@case('annotation 1 has 42 keypoint numbers, that is 14 keypoints, but the model has 17', 'use data and a model')
def wrong_length(commands):
    return with_people(commands, 'length', lambda ann: ann.update(keypoints=ann['keypoints'][:42]))


@case('model.head.num_keypoints=14', 'has 17 keypoints', 'make them equal')
def data_and_model_differ(commands):
    return commands.train('d', 'model.head.num_keypoints=14')


@case('other.pth does not fit the model', 'weights missing (backbone.', 'use the config it was trained with', late=True)
def checkpoint_of_another_model(commands):
    torch.save(dict(state_dict=torch.nn.Linear(2, 2).state_dict()), commands.folder / 'other.pth')
    return commands.test('e', commands.folder / 'other.pth')


@case(
    'the loss is not finite at iteration 2, epoch 1',
    'loss=nan',
    '.png',
    'lower optim_wrapper.optimizer.lr',
    late=True,
)
def nan_loss(commands):
    return commands.train('f', 'optim_wrapper.optimizer.lr=1e30', 'param_scheduler=None')


@case("has no setting 'optimzer', only", 'check the spelling')
def misspelt_option(commands):
    return commands.train('g', 'optim_wrapper.optimzer.lr=1')


@pytest.fixture(scope='module')
def runs(tmp_path_factory, crowd):
    """Futures of all outcomes, by name."""
    commands = Commands(tmp_path_factory.mktemp('runs'), crowd)
    with ThreadPoolExecutor(2) as pool:
        runs: dict[str, Future] = {'commands': commands}
        # The long ones first.
        runs['interrupted'] = pool.submit(interrupt_twice_and_resume, commands)
        runs['limited'] = pool.submit(run_out_of_space_and_resume, commands)
        runs['uninterrupted'] = pool.submit(lambda: commands.run(commands.train('uninterrupted')))
        early = pool.submit(lambda: commands.run_several([CASES[name][0](commands) for name in EARLY]))
        for name, (function, _) in CASES.items():
            if name not in EARLY:
                runs[name] = pool.submit(lambda function=function: commands.run(function(commands)))
        yield {**runs, 'early': early}
        pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize('name', CASES)
def test_fault_is_reported_in_one_sentence(runs, name):
    outcome = runs['early'].result()[EARLY.index(name)] if name in EARLY else runs[name].result()
    line = outcome.the_error()
    for part in CASES[name][1]:
        assert part in line, line


def weights(commands, name):
    return torch.load(commands.folder / name / f'epoch_{EPOCHS}.pth', weights_only=False)['state_dict']


def assert_same_weights(commands, first, second):
    first, second = weights(commands, first), weights(commands, second)
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


def wait_for_iteration(number, folder, process):
    """Until this many iterations are logged, by all runs in a folder together."""
    while process.poll() is None:
        if sum(len(path.read_text().splitlines()) for path in folder.rglob('scalars.json')) >= number:
            return
        time.sleep(0.01)


def interrupt_twice_and_resume(commands):
    """By Ctrl-C, then by SIGTERM where SIGINT is ignored, as in the background of a shell without job control."""
    log, stopped = 'default_hooks.logger.interval=1', []
    for number, iteration in ((signal.SIGINT, 2), (signal.SIGTERM, IMAGES + 2)):
        sigint = signal.SIG_IGN if stopped else signal.SIG_DFL
        command = commands.train('interrupted', log, flags=['--resume'] if stopped else [])
        process = commands.start(command, sigint=sigint)
        wait_for_iteration(iteration, commands.folder / 'interrupted', process)
        if stopped:
            os.killpg(process.pid, signal.SIGINT)  # without effect
        os.killpg(process.pid, number)  # as a terminal and a scheduler do: the workers receive it, too
        stopped.append(outcome_of(process))
    return *stopped, commands.run(commands.train('interrupted', flags=['--resume']))


def test_interrupted_training_is_resumed_to_the_same_weights(runs):
    *stopped, resumed = runs['interrupted'].result()
    folder = runs['commands'].folder / 'interrupted'
    iterations = [0]
    for outcome, status, name in zip(stopped, (130, 143), ('Ctrl-C', 'SIGTERM')):
        assert outcome.status == status and 'Traceback' not in outcome.out + outcome.err, outcome.err
        last = outcome.err.strip().splitlines()[-1]
        # The signal may come in the last iteration of an epoch.
        path = rf'{folder}/(iter|epoch)_(\d+)\.pth'
        found = re.fullmatch(f'stopped by {name}; the last checkpoint is {path}, --resume continues from it', last)
        iterations.append(int(found[2]) * (IMAGES if found[1] == 'epoch' else 1))
    assert iterations == sorted(set(iterations)) and iterations[-1] < EPOCHS * IMAGES
    assert resumed.status == 0, resumed.err
    assert runs['uninterrupted'].result().status == 0
    assert_same_weights(runs['commands'], 'interrupted', 'uninterrupted')


def run_out_of_space_and_resume(commands):
    first = commands.run(commands.train('limited', 'train_cfg.max_epochs=1'))
    stopped = commands.run(commands.train('limited', flags=['--resume']), limit='100')
    sizes = {path.name: path.stat().st_size for path in (commands.folder / 'limited').glob('*.pth')}
    return first, stopped, sizes, commands.run(commands.train('limited', flags=['--resume']))


def test_full_disk_loses_nothing_that_was_saved(runs):
    first, stopped, sizes, resumed = runs['limited'].result()
    assert first.status == 0, first.err
    line = stopped.the_error()
    assert 'no space left to write' in line
    assert f'the last good checkpoint, {runs["commands"].folder}/limited/epoch_1.pth' in line
    assert 'epoch_2.pth' not in sizes and sizes['epoch_1.pth'] > 100 * 1024  # the limit came while saving
    assert resumed.status == 0, resumed.err
    assert runs['uninterrupted'].result().status == 0
    assert_same_weights(runs['commands'], 'limited', 'uninterrupted')


def test_test_tool_writes_all_outputs(runs):
    assert runs['uninterrupted'].result().status == 0
    commands = runs['commands']
    flags = ['--out', 'metrics.json', '--dump', 'all.pkl', '--show-dir', 'pictures']
    outcome = commands.run(commands.test('tested', commands.folder / 'uninterrupted' / f'epoch_{EPOCHS}.pth', *flags))
    assert outcome.status == 0, outcome.err
    assert 'coco/AP' in json.loads((commands.folder / 'metrics.json').read_text())
    assert (commands.folder / 'all.pkl').stat().st_size > 0
    assert len(list((commands.folder / 'tested').glob('*/pictures/*'))) == 2


# What is refused before anything is built, in this process.


def arguments(**given):
    shared = dict(config=CONFIG, work_dir=None, cfg_options={}, launcher='none', local_rank=0)
    training = dict(resume=None, amp=False, auto_scale_lr=False, no_validate=False)
    test = dict(checkpoint='', out=None, dump=None, show_dir=None)
    return argparse.Namespace(**{**shared, **training, **test, **given})


def small_config(**given):
    config = dict(
        model=dict(head=dict(a=1)),
        default_hooks=dict(),
        optim_wrapper=dict(),
        custom_hooks=[dict(interval=1)],
        codec=dict(sigma=1),
        work_dir='nowhere',
    )
    return Config({**config, **given}, cfg_text=' ', filename='small.py')


def test_missing_config():
    with pytest.raises(FileNotFoundError, match="config 'gone.py' does not exist; check the path"):
        load_config(arguments(config='gone.py'))


def test_work_dir_and_launcher_are_set():
    assert load_config(arguments()).work_dir == 'work_dirs/rnnpose_hg_crowd'
    assert load_config(arguments(cfg_options={'work_dir': 'a'})).work_dir == 'a'
    cfg = load_config(arguments(work_dir='b', cfg_options={'work_dir': 'a'}, launcher='pytorch'))
    assert (cfg.work_dir, cfg.launcher) == ('b', 'pytorch')


@pytest.mark.parametrize(
    'key', ['model.head.b', 'custom_hooks.0.priority', 'custom_hooks.0', 'load_from', 'randomness.seed', 'model']
)
def test_options_that_pass(key):
    check_options(small_config(), {key: 1})


@pytest.mark.parametrize(
    ('key', 'match'),
    [
        ('modle.head.a', "small.py has no setting 'modle'; check the spelling"),
        ('sead', "no setting 'sead'"),
        ('model.haed.a', "model in small.py has no setting 'haed', only head"),
        ('model.head.a.b', "model.head.a in small.py is 1, without a 'b'"),
        ('custom_hooks.1.interval', "custom_hooks in small.py has no setting '1', only 0"),
        ('model.head.a.b.c', "model.head.a in small.py has no setting 'b', only "),
        ('custom_hooks.1', "custom_hooks in small.py is .*, without a '1'"),
        (
            'codec.sigma',
            r'codec is only a variable of the config file; set the places that use its value \(model.sigma\)',
        ),
    ],
)
def test_options_that_are_refused(key, match):
    with pytest.raises(ValueError, match=match):
        check_options(small_config(model=dict(head=dict(a=1), sigma=1)), {key: 1})


@pytest.mark.skipif(get_device() != 'cpu', reason='needs a machine without an accelerator')
def test_amp_without_accelerator():
    with pytest.raises(ValueError, match='--amp needs an accelerator, .*device cpu.*leave it out'):
        prepare_training(small_config(), arguments(amp=True))


def test_auto_scale_lr_without_base_batch_size():
    with pytest.raises(ValueError, match='--auto-scale-lr needs auto_scale_lr = dict.base_batch_size'):
        prepare_training(small_config(), arguments(auto_scale_lr=True))
    cfg = small_config(auto_scale_lr=dict(base_batch_size=8))
    prepare_training(cfg, arguments(auto_scale_lr=True))
    assert cfg.auto_scale_lr.enable


def test_no_validate():
    cfg = small_config(val_cfg=dict(), val_dataloader=dict(), val_evaluator=dict())
    prepare_training(cfg, arguments(no_validate=True))
    assert cfg.val_cfg is cfg.val_dataloader is cfg.val_evaluator is None


def test_resume(tmp_path):
    for name in 'epoch_1.pth', 'epoch_2.pth':
        torch.save(dict(weight=torch.zeros(1000)), tmp_path / name)
    (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'epoch_2.pth'))
    cfg = small_config(work_dir=str(tmp_path), load_from='absent.pth')
    prepare_training(cfg, arguments(resume='auto'))
    assert cfg.resume and cfg.load_from == str(tmp_path / 'epoch_2.pth')
    prepare_training(cfg, arguments(resume=str(tmp_path / 'epoch_1.pth')))
    assert cfg.resume and cfg.load_from == str(tmp_path / 'epoch_1.pth')


def test_a_run_without_a_checkpoint_starts_from_load_from_of_the_config(tmp_path):
    (tmp_path / 'weights.pth').write_bytes(b'\x80')
    given = dict(load_from=str(tmp_path / 'weights.pth'), work_dir=str(tmp_path / 'run'))
    cfg = small_config(**given)
    prepare_training(cfg, arguments(resume='auto'))
    assert cfg.load_from == given['load_from'] and not cfg.get('resume')


def test_resume_from_a_missing_checkpoint():
    with pytest.raises(FileNotFoundError, match="checkpoint 'gone.pth' does not exist"):
        prepare_training(small_config(), arguments(resume='gone.pth'))


def test_resume_when_the_last_checkpoint_is_cut_off(tmp_path):
    test_resume(tmp_path)
    os.truncate(tmp_path / 'epoch_2.pth', 1000)
    cfg = small_config(work_dir=str(tmp_path))
    with pytest.raises(ValueError, match=f'epoch_2.pth, .*missing, .* damaged; .*--resume {tmp_path}/epoch_1.pth'):
        prepare_training(cfg, arguments(resume='auto'))


def test_pretrained_weights_are_missing():
    cfg = small_config(model=dict(backbone=dict(init_cfg=dict(type='Pretrained', checkpoint='gone.pth'))))
    with pytest.raises(FileNotFoundError, match='weights gone.pth .* do not exist; train them first'):
        prepare_training(cfg, arguments())


@pytest.mark.parametrize(
    ('given', 'match'),
    [
        (dict(checkpoint='gone.pth'), "checkpoint 'gone.pth' does not exist"),
        (dict(dump='all.json'), '--dump all.json has to end in .pkl'),
        (dict(out='metrics.txt'), '--out metrics.txt has to end in .json'),
        (dict(show_dir='pictures'), '--show-dir needs default_hooks.visualization'),
    ],
)
def test_arguments_of_the_test_tool(tmp_path, given, match):
    torch.save(dict(weight=torch.zeros(3)), tmp_path / 'a.pth')
    cfg = small_config(test_evaluator=dict(type='CocoMetric'))
    with pytest.raises((ValueError, FileNotFoundError), match=match):
        prepare_test(cfg, arguments(**dict(dict(checkpoint=str(tmp_path / 'a.pth')), **given)))
