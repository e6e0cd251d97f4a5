"""Finished stages are skipped, changed, interrupted and failed ones run again; signals end the command too."""

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from projects.stages import Stage, finished, resumable, run_stages

ROOT = Path(__file__).parent.parent
APPEND = 'import sys; open(sys.argv[1], "a").write(" ".join(sys.argv[2:]) + ";")'


def stage(tmp_path, name, *words, **settings):
    return Stage(name, ['-c', APPEND, str(tmp_path / 'ran.txt'), name, *words], **settings)


def ran(tmp_path):
    path = tmp_path / 'ran.txt'
    return path.read_text().split(';')[:-1] if path.exists() else []


def test_a_finished_stage_is_not_repeated_unless_asked(tmp_path, capsys):
    stages = [stage(tmp_path, 'one'), stage(tmp_path, 'two')]
    run_stages(stages, tmp_path)
    run_stages(stages, tmp_path)
    assert ran(tmp_path) == ['one', 'two'] and 'done before' in capsys.readouterr().out
    run_stages(stages, tmp_path, fresh=True)
    assert ran(tmp_path) == ['one', 'two'] * 2


def test_a_changed_stage_and_all_after_it_are_repeated(tmp_path):
    run_stages([stage(tmp_path, name) for name in ('one', 'two', 'three')], tmp_path)
    run_stages([stage(tmp_path, 'one'), stage(tmp_path, 'two', 'changed'), stage(tmp_path, 'three')], tmp_path)
    assert ran(tmp_path)[3:] == ['two changed', 'three']


def test_a_changed_config_changes_the_stage(tmp_path):
    config = tmp_path / 'config.py'
    for text in ('a = 1', 'a = 1', 'a = 2'):
        config.write_text(text)
        run_stages([stage(tmp_path, 'one', config=str(config))], tmp_path)
    assert ran(tmp_path) == ['one', 'one']


def test_an_input_that_was_written_again_changes_the_stage(tmp_path):
    weights = tmp_path / 'weights'
    for text in ('a', None, 'another'):
        if text:
            weights.write_text(text)
        run_stages([stage(tmp_path, 'one', inputs=(str(weights), 'not there'))], tmp_path)
    assert ran(tmp_path) == ['one', 'one']


# Counts up in a file; the handler takes a moment, as a training does that finishes its step and saves.
LOOP = """
import signal, sys, time
beat, number, handled = sys.argv[1], int(sys.argv[2]), sys.argv[3] == 'handled'
def save(*_):
    for text in ('begun', ' saved'):
        with open(beat + '.saved', 'a') as file:
            file.write(text)
        time.sleep(0.3)
    sys.exit(1)
if handled:
    signal.signal(number, save)
while True:
    open(beat, 'w').write(str(time.time()))
    time.sleep(0.02)
"""
JOB = """
import sys
from projects.stages import Stage, run_stages
run_stages([Stage('loop', ['-c', *sys.argv[2:]])], sys.argv[1])
"""


def start_job(tmp_path, number, handled='', code=LOOP, ignored=()):
    """A job in a process group of its own, as soon as its command runs; some signals are ignored from the start."""

    def set_signals():
        for other in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(other, signal.SIG_IGN if other in ignored else signal.default_int_handler
                          if other == signal.SIGINT else signal.SIG_DFL)  # fmt: skip

    command = [sys.executable, '-c', JOB, tmp_path, code, tmp_path / 'beat', str(int(number)), handled]
    process = subprocess.Popen(
        command, cwd=ROOT, stderr=subprocess.DEVNULL, preexec_fn=set_signals, start_new_session=True
    )
    while not (tmp_path / 'beat').exists():
        assert process.poll() is None
        time.sleep(0.02)
    return process


def assert_ended(beat):
    last = beat.read_text()
    time.sleep(0.2)  # ten beats
    assert beat.read_text() == last


@pytest.mark.parametrize('handled', ['', 'handled'])
@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_the_job_ends_its_command_where_sigint_is_ignored(tmp_path, number, handled):
    """As for a background job of a shell without job control, `nohup make compare &` among them."""
    process = start_job(tmp_path, number, handled, ignored=[signal.SIGINT])
    process.send_signal(number)
    assert process.wait(timeout=60) == 128 + number
    if handled:
        assert (tmp_path / 'beat.saved').read_text() == 'begun saved'  # the job waits for the command
    assert_ended(tmp_path / 'beat')


@pytest.mark.skipif(sys.platform != 'linux', reason='only Linux tells a process that its parent was killed')
def test_the_command_ends_with_a_job_that_is_killed(tmp_path):
    process = start_job(tmp_path, signal.SIGTERM, 'handled')
    process.kill()
    process.wait(timeout=60)
    while not (tmp_path / 'beat.saved').exists():  # the command's own handler of SIGTERM
        time.sleep(0.05)
    time.sleep(0.5)
    assert_ended(tmp_path / 'beat')


@pytest.mark.parametrize(
    ('error', 'status'),
    [(KeyboardInterrupt(), 130), (KeyboardInterrupt(signal.SIGHUP), 129), (SystemExit(143), 143), (SystemExit(3), 3)],
)
@pytest.mark.parametrize('quiet', [False, True])
def test_a_stopped_command_says_how_to_resume(error, status, quiet, capsys):
    with pytest.raises(SystemExit) as end, resumable('work', quiet):
        raise error
    said = capsys.readouterr().err
    assert end.value.code == status
    assert said == ('' if quiet or status == 3 else '\nstopped; run the same command again to resume\n')


def test_a_full_disk_is_named_with_the_folder_and_other_errors_pass():
    with pytest.raises(ValueError, match='no space left to write to work .*again to resume'), resumable('work'):
        raise OSError(errno.ENOSPC, 'No space left on device')
    with pytest.raises(FileNotFoundError), resumable('work'):
        raise FileNotFoundError


def test_nohup_keeps_a_job_running_after_sighup(tmp_path):
    code = LOOP.replace('while True', f'while not __import__("os").path.exists({str(tmp_path / "end")!r})')
    process = start_job(tmp_path, signal.SIGHUP, code=code, ignored=[signal.SIGHUP])
    process.send_signal(signal.SIGHUP)
    time.sleep(0.3)
    (tmp_path / 'end').touch()
    assert process.wait(timeout=60) == 0 and (tmp_path / 'loop.done').exists()


def test_ctrl_c_reaches_the_command_once_and_is_waited_for(tmp_path):
    process = start_job(tmp_path, signal.SIGINT, 'handled')
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    assert process.wait(timeout=60) == -signal.SIGINT
    assert (tmp_path / 'beat.saved').read_text() == 'begun saved' and not (tmp_path / 'loop.done').exists()
    assert_ended(tmp_path / 'beat')


def test_a_failed_stage_is_named_with_its_log_and_stops_the_job(tmp_path):
    broken = Stage('broken', ['-c', 'print("why"); raise SystemExit(3)'])
    with pytest.raises(RuntimeError, match='status 3.*broken.log'):
        run_stages([stage(tmp_path, 'one'), broken, stage(tmp_path, 'two')], tmp_path)
    assert ran(tmp_path) == ['one'] and (tmp_path / 'broken.log').read_text() == 'why\n'


def test_an_interrupted_stage_is_resumed_and_a_changed_one_is_not(tmp_path):
    marker = tmp_path / 'go'
    code = f'import os, sys; {APPEND.split("; ", 1)[1]}; sys.exit(not os.path.exists({str(marker)!r}))'

    def job(word):
        return [Stage('train', ['-c', code, str(tmp_path / 'ran.txt'), word], work_dir=str(tmp_path / 'run'))]

    last = tmp_path / 'run' / 'last_checkpoint'  # of an older run, not to be resumed
    last.parent.mkdir()
    last.touch()
    for word in ('a', 'a', 'b'):
        with pytest.raises(RuntimeError):
            run_stages(job(word), tmp_path)
    marker.touch()
    run_stages(job('b'), tmp_path)
    assert ran(tmp_path) == ['a', 'a --resume', 'b', 'b --resume']
    assert not last.exists()


def test_finished_stages_end_at_the_first_that_is_not_done_or_has_changed(tmp_path):
    one, two, three = (stage(tmp_path, name) for name in ('one', 'two', 'three'))
    assert finished([one, two, three], tmp_path) == []
    run_stages([one, two, three], tmp_path)
    assert finished([one, two, three], tmp_path) == [one, two, three]
    assert finished([one, stage(tmp_path, 'two', 'changed'), three], tmp_path) == [one]
    (tmp_path / 'one.done').unlink()
    assert finished([one, two, three], tmp_path) == []


def test_a_stage_is_repeated_when_its_inputs_are_newer(tmp_path):
    ran, made = tmp_path / 'ran.txt', tmp_path / 'made.pth'
    stage = Stage('one', ['-c', f'open({str(ran)!r}, "a").write("x")'], inputs=(str(made),))
    for content in ('a', None, 'bc', None):
        if content:
            made.write_text(content)
        run_stages([stage], tmp_path / 'records')
    assert ran.read_text() == 'xx'
