"""Training and test as commands of several processes and under slurm, on a tiny crowd.

Scripts in the place of `srun` and `scontrol` start the processes and set the environment that slurm would.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from narrow_network import NARROW

from projects.crowdbench.synthetic_crowd import CrowdSettings, write_crowd

ROOT = Path(__file__).resolve().parents[1]
TOOLS = ROOT / 'tools'
CONFIG = ROOT / 'configs' / 'rnnpose_hg_crowd.py'
IMAGES = 16

PYTHON = f"""#!/usr/bin/env bash
exec {sys.executable} "$@"
"""
SRUN = """#!/usr/bin/env bash
printf '%s\\n' "$@" > srun_arguments
while [[ $1 == -* ]]; do
    if [[ $1 == --ntasks=* ]]; then export SLURM_NTASKS=${1#*=}; fi
    shift
done
export SLURM_NODELIST='node[1]'
for ((i = 0; i < SLURM_NTASKS; i++)); do
    SLURM_PROCID=$i SLURM_LOCALID=0 "$@" & # each on a node of its own
    started+=($!)
done
for process in "${started[@]}"; do wait $process || exit; done
"""
SCONTROL = """#!/usr/bin/env bash
[ "$*" = 'show hostnames node[1]' ] && echo localhost && echo another
"""


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """A folder with a crowd in it, and a `bin` to be first on PATH."""
    folder = tmp_path_factory.mktemp('commands')
    write_crowd(folder / 'crowd', dict(train=IMAGES, val=2, plain=4), 0, CrowdSettings(max_people=4))
    (folder / 'bin').mkdir()
    for name, text in dict(python=PYTHON, srun=SRUN, scontrol=SCONTROL).items():
        (folder / 'bin' / name).write_text(text)
        (folder / 'bin' / name).chmod(0o755)
    return folder


def options(folder, *more):
    crowd = folder / 'crowd'
    return [
        '--cfg-options',
        *NARROW,
        'model.head.stop_threshold=0.2',  # so that the barely trained network detects people
        'train_cfg.max_epochs=1',
        'train_dataloader.batch_size=1',
        'test_dataloader.batch_size=1',
        'default_hooks.checkpoint.by_epoch=False',
        'default_hooks.checkpoint.interval=1',
        *[f'{name}_dataloader.dataset.data_root={crowd}/' for name in ('train', 'val', 'test')],
        f'test_evaluator.0.ann_file={crowd}/annotations/plain.json',
        *more,
    ]


def start(folder, *command, **environment):
    environment = dict(os.environ, PATH=f'{folder}/bin:{os.environ["PATH"]}', OMP_NUM_THREADS='1', **environment)
    environment.update(PYTHONWARNINGS='ignore', CUDA_VISIBLE_DEVICES='-1')
    environment.pop('RNNPOSE_TRACEBACK', None)
    return subprocess.Popen([str(part) for part in command], cwd=folder, env=environment, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)  # fmt: skip


def finish(process):
    try:
        out, err = process.communicate(timeout=150)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    return process.returncode, out, err


def run(folder, *command, **environment):
    return finish(start(folder, *command, **environment))


def free_port():
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return str(probe.getsockname()[1])


# Two processes


@pytest.fixture(scope='module')
def trained(folder):
    """A short training by two processes: the outcome of the command."""
    flags = ['--work-dir', 'two', '--no-validate', '--auto-scale-lr']
    settings = options(
        folder, 'auto_scale_lr.base_batch_size=8', 'param_scheduler=None', 'default_hooks.logger.interval=1',
        'train_dataloader.num_workers=0',  # a fork beside gloo's threads can, rarely, deadlock
    )  # fmt: skip
    return run(folder, TOOLS / 'dist_train.sh', CONFIG, 2, *flags, *settings, PORT=free_port())


def test_dist_train_trains_on_two_processes(folder, trained):
    status, out, err = trained
    assert status == 0, err
    assert 'Traceback' not in err and 'error' not in err
    assert (folder / 'two' / 'last_checkpoint').read_text().endswith('iter_8.pth')  # 16 images, 2 processes


def test_learning_rate_is_scaled_by_both_processes_batches(folder, trained):
    assert 'based on batch size of 8 and the current batch size is 2. Scaling the original LR by 0.25' in trained[1]
    (log,) = (folder / 'two').glob('*/vis_data/scalars.json')
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    assert [entry['lr'] for entry in entries] == [pytest.approx(0.25 * 2e-3)] * 8


@pytest.fixture(scope='module')
def metrics(folder, trained):
    """Metrics of the checkpoint by one process."""
    command = [sys.executable, TOOLS / 'test.py', CONFIG, 'two/iter_8.pth', '--work-dir', 'one', '--out', 'one.json']
    status, _, err = run(folder, *command, *options(folder), PYTHONPATH=str(ROOT))
    assert status == 0, err
    return json.loads((folder / 'one.json').read_text())


def test_dist_test_gives_the_metrics_of_one_process(folder, metrics):
    command = [TOOLS / 'dist_test.sh', CONFIG, 'two/iter_8.pth', 2, '--work-dir', 'tested', '--out', 'two.json']
    status, _, err = run(folder, *command, *options(folder), PORT=free_port())
    assert status == 0, err
    assert json.loads((folder / 'two.json').read_text()) == metrics
    assert metrics['people/found'] > 0 and metrics['people/true'] > 4


def test_slurm_test_gives_the_metrics_of_one_process(folder, metrics):
    command = [TOOLS / 'slurm_test.sh', 'part', 'job', CONFIG, 'two/iter_8.pth', '--work-dir', 'slurm']
    settings = dict(GPUS='2', GPUS_PER_NODE='2', SRUN_ARGS='--time=5 --quiet', MASTER_PORT=free_port())
    status, _, err = run(folder, *command, '--out', 'slurm.json', *options(folder), **settings)
    assert status == 0, err
    assert json.loads((folder / 'slurm.json').read_text()) == metrics
    asked = (folder / 'srun_arguments').read_text().split('\n')
    assert asked[:9] == [
        '--partition=part', '--job-name=job', '--gres=gpu:2', '--ntasks=2', '--ntasks-per-node=2', '--cpus-per-task=5',
        '--kill-on-bad-exit=1', '--time=5', '--quiet',
    ]  # fmt: skip


def test_slurm_train_starts_the_tool(folder):
    status, out, err = run(folder, TOOLS / 'slurm_train.sh', 'part', 'job', CONFIG, 'work', '--help', GPUS='1')
    assert status == 0, err
    assert '--auto-scale-lr' in out
    asked = (folder / 'srun_arguments').read_text().split('\n')
    assert asked[2:5] == ['--gres=gpu:8', '--ntasks=1', '--ntasks-per-node=8']
    assert asked[7:-1] == [
        'python', '-u', f'{TOOLS}/train.py', str(CONFIG), '--work-dir', 'work', '--launcher', 'slurm', '--help',
    ]  # fmt: skip


# A process that dies


def ranks_of(launcher):
    found = {}
    for folder in Path('/proc').glob('[0-9]*'):
        try:
            variables = dict(v.partition('=')[::2] for v in (folder / 'environ').read_text().split('\0'))
            parent = int(folder.joinpath('stat').read_text().rpartition(')')[2].split()[1])
        except OSError:  # it has ended, or is another user's
            continue
        if parent == launcher and 'RANK' in variables:
            found[int(variables['RANK'])] = int(folder.name)
    return found


@pytest.mark.slow
@pytest.mark.skipif(not Path('/proc/self/environ').exists(), reason='no /proc to find the processes in')
@pytest.mark.parametrize(('count', 'victim'), [(2, 1), (3, 0)])
def test_one_killed_process_ends_all(folder, count, victim):
    work = folder / f'killed_{count}'
    settings = options(folder, 'train_cfg.max_epochs=1000', 'train_dataloader.num_workers=0')
    command = [TOOLS / 'dist_train.sh', CONFIG, count, '--work-dir', work, '--no-validate', *settings]
    process = start(folder, *command, PORT=free_port())
    while not (work / 'iter_2.pth').exists():
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.1)
    ranks = ranks_of(process.pid)
    assert sorted(ranks) == list(range(count))
    os.kill(ranks[victim], signal.SIGKILL)
    begin = time.monotonic()
    status, _, err = finish(process)
    assert time.monotonic() - begin < 10  # torchrun alone waits up to 30 s for processes that wait for the killed one
    assert status == 1 and 'Traceback' not in err and 'RuntimeError' not in err
    assert f'error: process {victim} was killed by SIGKILL, so all were stopped' in err
    assert err.count('another process of this run has ended') == count - 1
    assert not [pid for pid in ranks.values() if Path(f'/proc/{pid}').exists()]


# What is refused


def test_error_of_a_process_is_reported_without_a_traceback(folder):
    command = [TOOLS / 'dist_train.sh', CONFIG, 1, '--work-dir', 'refused', *options(folder, 'sync_bn=torch')]
    status, out, err = run(folder, *command, PORT=free_port())
    assert status == 1
    assert 'Traceback' not in out + err
    first, second = (line for line in err.splitlines() if line)
    assert first.startswith("error: sync_bn='torch' needs accelerators")
    assert second == 'process 0 ended with status 1, so all were stopped'


def test_port_in_use_is_reported_in_one_sentence(folder):
    with socket.socket() as other:
        other.bind(('0.0.0.0', 0))
        other.listen()
        port = str(other.getsockname()[1])
        status, _, err = run(folder, TOOLS / 'dist_train.sh', CONFIG, 2, PORT=port)
    (line,) = err.splitlines()
    assert status == 1 and line.startswith('error: ') and port in line and 'set another PORT' in line


@pytest.mark.parametrize(
    ('script', 'given', 'usage'),
    [
        ('dist_train.sh', ['config.py'], 'CONFIG GPUS'),
        ('dist_train.sh', ['config.py', 'none'], 'CONFIG GPUS'),
        ('dist_test.sh', ['config.py', '2'], 'CONFIG CHECKPOINT GPUS'),
        ('dist_test.sh', ['config.py', 'a.pth', '0'], 'CONFIG CHECKPOINT GPUS'),
        ('slurm_train.sh', ['part', 'job', 'config.py'], 'PARTITION JOB_NAME CONFIG WORK_DIR'),
        ('slurm_test.sh', [], 'PARTITION JOB_NAME CONFIG CHECKPOINT'),
    ],
)
def test_missing_argument_prints_the_usage(folder, script, given, usage):
    status, out, err = run(folder, TOOLS / script, *given)
    assert status == 2 and not out
    (line,) = err.splitlines()
    assert line.startswith(f'usage: {TOOLS}/{script} {usage}')


def test_another_python_can_be_chosen(folder):
    status, out, err = run(folder, TOOLS / 'dist_train.sh', CONFIG, 2, PYTHON='/bin/echo')
    assert status == 0, err
    assert out.split()[0] == f'{TOOLS}/dist_run.py'


def test_gpu_session_says_what_it_leaves_out(tmp_path):
    """Without a stage it only makes its folder; the stages themselves need a GPU and minutes."""
    environment = dict(os.environ, STAGES='none', PYTHON=sys.executable)
    command = ['bash', str(ROOT / 'tools' / 'gpu_session.sh'), str(tmp_path / 'out')]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    stages = ('tests', 'benchmark', 'data', 'trainings')
    assert [line.split('] ')[1] for line in done.stdout.splitlines()[:4]] == [f'{name}: left out' for name in stages]
    assert list((tmp_path / 'out').iterdir()) == []


def test_gpu_session_needs_a_folder(tmp_path):
    done = subprocess.run(
        ['bash', str(ROOT / 'tools' / 'gpu_session.sh')], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode != 0 and 'usage: tools/gpu_session.sh OUT' in done.stderr
