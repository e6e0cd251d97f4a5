"""Finished stages are not run again; changed, interrupted and failed ones are."""

import subprocess
import sys
import time

import pytest

from projects.stages import Stage, finished, run_stages

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


def test_a_sigterm_ends_the_command_too(tmp_path):
    """The job is a process of its own; its command would otherwise live on."""
    beat = tmp_path / 'beat'
    loop = f"import time\nwhile True: open({str(beat)!r}, 'w').write(str(time.time())); time.sleep(0.05)"
    job = f'from projects.stages import *; run_stages([Stage("loop", ["-c", {loop!r}])], {str(tmp_path)!r})'
    process = subprocess.Popen([sys.executable, '-c', job], stderr=subprocess.DEVNULL)
    while not beat.exists():
        assert process.poll() is None
        time.sleep(0.1)
    process.terminate()
    assert process.wait(timeout=60) != 0
    last = beat.read_text()
    time.sleep(0.5)
    assert beat.read_text() == last


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

    last = tmp_path / 'run' / 'last_checkpoint'  # of an older run, which must not be taken for this one's
    last.parent.mkdir()
    last.touch()
    for word in ('a', 'a', 'b'):
        with pytest.raises(RuntimeError):
            run_stages(job(word), tmp_path)
    marker.touch()
    run_stages(job('b'), tmp_path)
    assert ran(tmp_path) == ['a', 'a --resume', 'b', 'b --resume']
    assert not last.exists()


def test_finished_stages_end_where_one_is_not_done_or_not_as_it_is_now(tmp_path):
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
