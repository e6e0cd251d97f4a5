"""The benchmark: its clock and table, its cases at a tiny size, and the command."""

import importlib.util
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import cv2
import pytest
import torch
from mmengine.config import Config

from projects.benchmark import decoder as benchmark_decoder
from projects.benchmark import growth as benchmark_growth
from projects.benchmark import pipeline as benchmark_pipeline
from projects.benchmark import training as benchmark_training
from projects.benchmark.decoder import CountedDecoder, PlainDecoder, make_decoder, make_features
from projects.benchmark.measure import SIZES, Clock, Row, growth_exponent, in_ms, machine, write_report
from rnnpose_plugin.models.first_lstm import FirstLSTM

ROOT = Path(__file__).parents[1]
CLOCK = Clock('cpu', turns=1)


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize(
    ('value', 'target', 'met'),
    [(1.5, '>= 1.45', 'yes'), (1.45, '>= 1.45', 'yes'), (1.4, '>= 1.45', 'no'), (0.2, '<= 0.25', 'yes'),
     (0.26, '<= 0.25', 'no'), (7, '', ''), (math.nan, '<= 1', 'no')],
)  # fmt: skip
def test_targets(value, target, met):
    assert Row('x', 'paper', value, target).met == met


def test_the_clock_takes_turns_and_drops_the_first():
    calls = []
    clock = Clock('cpu', turns=3)
    times = iter(range(100))
    clock._now = lambda: float(next(times)) ** 2
    ratio = clock.ratio(lambda: calls.append('a'), lambda: calls.append('b'))
    assert ''.join(calls) == 'abababab'
    # The clock reads 0, 1, 4, 9, ..., so that the runs take 1, 5 (which do not count), 9, 13, 17, 21, 25 and 29.
    assert (ratio.first, ratio.second, ratio.value) == (17, 21, 17 / 21)
    assert (ratio.least, ratio.most) == (9 / 13, 25 / 29) and str(ratio).startswith('0.69 to 0.86; 17000 ms')
    calls.clear()
    assert clock.median(lambda: calls.append('a')) > 0 and len(calls) == 4


def test_short_runs_are_timed_more_often():
    calls = []
    Clock('cpu', turns=2).ratio(lambda: calls.append('a'), lambda: None)
    Clock('cpu', turns=2).median(lambda: calls.append('b'))
    assert ''.join(calls) == 'a' * 11 + 'b' * 11


def test_growth_of_a_power():
    assert growth_exponent([1, 2, 4, 8], [3 * n**1.5 for n in (1, 2, 4, 8)]) == pytest.approx(1.5)


def test_times_in_words():
    assert [in_ms(s) for s in (2.5, 0.1234, 0.01234, 0.000123)] == ['2500 ms', '123 ms', '12.3 ms', '0.123 ms']


@torch.no_grad()
def test_the_counted_decoder_computes_what_a_decoder_computes():
    size = SIZES['tiny']
    plain, counted = make_decoder(size, 'cpu'), make_decoder(size, 'cpu', CountedDecoder)
    plain.to_stop.bias.data.fill_(9)
    counted.counts = torch.tensor([0, 3, 2])
    features = make_features(size, 'cpu', 3)
    people, unfinished = counted.decode_people(features, 0.5, 10)
    expected, _ = plain.decode_people(features, 0.5, 3)
    assert [len(maps) for maps, _ in people] == [0, 3, 2] and unfinished == []
    for (maps, _), (others, _) in zip(people, expected):
        torch.testing.assert_close(maps, others[: len(maps)], rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    'case',
    [benchmark_decoder.hoist, benchmark_decoder.batch_decoding, benchmark_training.matching,
     benchmark_training.chunk_time, benchmark_training.memory, benchmark_growth.growth],
)  # fmt: skip
def test_cases_of_the_decoder(case):
    result = case('tiny', CLOCK)
    assert result['rows'] and all(math.isfinite(row.value) and row.size == 'tiny' for row in result['rows'])
    assert all(row.target for row in result['rows'])


def test_a_plain_step_with_other_numbers_is_found_out(monkeypatch):
    monkeypatch.setattr(PlainDecoder, 'feedback_passes', 1, raising=False)
    monkeypatch.setattr(PlainDecoder, '__setattr__', _but_for_passes)
    with pytest.raises(ArithmeticError, match='the hoisted step is off the plain one'):
        benchmark_decoder.hoist('tiny', CLOCK)


def _but_for_passes(self, name, value):
    if name != 'feedback_passes':
        torch.nn.Module.__setattr__(self, name, value)


@pytest.mark.parametrize(('factor', 'told'), [(1.001, '0.001'), (math.nan, 'nan')])
def test_slightly_wrong_gradients_are_found_out(monkeypatch, factor, told):
    """Those of one layer, which are at most 0.005, so that a thousandth of them is less than 1e-5."""

    def with_a_wrong_gradient(size, device, kind=FirstLSTM, training=False):
        decoder = make_decoder(size, device, kind, training)
        if kind is FirstLSTM:
            decoder.to_heatmaps.weight.register_hook(lambda gradient: factor * gradient)
        return decoder

    monkeypatch.setattr(benchmark_decoder, 'make_decoder', with_a_wrong_gradient)
    with pytest.raises(ArithmeticError, match=f'is off the plain one by a relative {told};'):
        benchmark_decoder.hoist('tiny', CLOCK)


def test_targets_are_counted_in_bytes():
    rows = benchmark_pipeline.targets('tiny', CLOCK)['rows']
    people, joints, cells = SIZES['tiny'].crowd, 17, SIZES['tiny'].cells
    as_joints = 4 * people * joints * 3  # x, y and the weight, four bytes each
    assert rows[0].value == pytest.approx(as_joints / (as_joints + 4 * people * joints * cells**2))


def test_whole_pictures():
    result = benchmark_pipeline.whole_image('crowd', CLOCK)
    curve = result['curves']['people:crowd']
    assert curve['people'] == [1, 2, 5, 10, 20, 30] and len(curve['AE']) == len(curve['decoder']) == 6
    total, alone = result['rows']
    assert total.value == curve['ratio'][2] and alone.value == curve['decoder'][2] / curve['AE'][2]
    expected = (curve['backbone'] + curve['decoder'][2]) / (curve['backbone'] + curve['AE'][2])
    assert total.value == pytest.approx(expected)


def test_maps_that_the_grouping_reads_otherwise_are_found_out(monkeypatch):
    draw = benchmark_pipeline._ae_maps
    monkeypatch.setattr(benchmark_pipeline, '_ae_maps', lambda size, people: draw(size, people + 1))
    with pytest.raises(ArithmeticError, match='AE grouped 2 people out of maps drawn for 1'):
        benchmark_pipeline.whole_image('crowd', CLOCK)


@pytest.mark.parametrize('name', ['paper', 'crowd'])
def test_sizes_are_those_of_the_configs(name):
    size = SIZES[name]
    for path in benchmark_pipeline.CONFIGS[name]:
        cfg = Config.fromfile(path)
        assert cfg.input_size == (benchmark_pipeline.STRIDE * size.cells,) * 2
        assert cfg.heatmap_size == (size.cells,) * 2
    assert (cfg.model.head.in_channels, cfg.model.head.hidden_channels) == (size.channels, size.hidden)


@pytest.mark.parametrize(
    ('ratios', 'words'), [([0.9, 1.2], 'faster one at 1 people'), ([1.1, 1.2], 'at no number of'), ([0.5, 1], '1, 2')]
)
def test_where_the_decoder_is_faster(ratios, words):
    assert words in benchmark_pipeline._crossover(dict(people=[1, 2], ratio=ratios))


def test_the_report(tmp_path):
    rows = [vars(Row('one', 'paper', 1.234567, '>= 1', 'so')), vars(Row('two', 'crowd', 0.5))]
    people = dict(people=[1, 2], AE=[0.01, 0.02], decoder=[0.02, 0.03], backbone=0.1)
    growth = dict(x=[1, 2], seconds=[1.0, 1.5], exponent=0.58)
    results = [dict(rows=rows[:1], curves={'people:paper': people}), dict(rows=rows[1:], curves={'growth:T': growth})]
    table = write_report(results, 'cpu', str(tmp_path))
    assert '| one    | paper | 1.23     | >= 1   | yes | so  |' in table
    content = json.loads((tmp_path / 'benchmark.json').read_text())
    assert [row['met'] for row in content['rows']] == ['yes', ''] and content['curves']['growth:T'] == growth
    assert table in (tmp_path / 'benchmark.md').read_text() and 'threads' in content['machine']
    for name in ('people', 'growth'):
        assert cv2.imread(str(tmp_path / f'{name}.png')).std() > 5


def run(*arguments):
    command = [sys.executable, ROOT / 'tools' / 'benchmark.py', *arguments]
    environment = dict(os.environ, OMP_NUM_THREADS='1', CUDA_VISIBLE_DEVICES='-1')
    environment.pop('RNNPOSE_TRACEBACK', None)
    return subprocess.run(list(map(str, command)), env=environment, capture_output=True, text=True, timeout=200)


def test_the_command_keeps_what_was_measured_before(tmp_path):
    (tmp_path / 'cases').mkdir()
    old = dict(rows=[vars(Row('an older figure', 'paper', 2.0))], curves={}, machine=machine('cpu'))
    other = dict(rows=[vars(Row('a figure of another', 'crowd', 2.0))], curves={}, machine='another')
    for name, content in dict(hoist_paper=old, hoist_crowd=other).items():
        (tmp_path / 'cases' / f'{name}.json').write_text(json.dumps(content))
    done = run('--only', 'matching', '--size', 'crowd', '--turns', 1, '--out', tmp_path)
    assert done.returncode == 0, done.stderr
    assert '[1/1] matching, crowd: ' in done.stdout
    figures = [row['figure'] for row in json.loads((tmp_path / 'benchmark.json').read_text())['rows']]
    assert figures == ['an older figure', 'loop over matching of 30 x 30 persons']
    assert (tmp_path / 'cases' / 'hoist_crowd.json').exists()


def test_a_case_that_fails_leaves_the_others_their_table(tmp_path, monkeypatch, capsys):
    spec = importlib.util.spec_from_file_location('benchmark', ROOT / 'tools' / 'benchmark.py')
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    (tmp_path / 'cases' / 'matching_crowd.json').mkdir(parents=True)  # so that it cannot be written
    (tmp_path / 'cases' / 'hoist_paper.json').write_text(
        json.dumps(dict(rows=[vars(Row('an older figure', 'paper', 2.0))], curves={}, machine=machine('cpu')))
    )
    monkeypatch.setattr(Path, 'unlink', lambda path, missing_ok: None)
    monkeypatch.setattr(sys, 'argv', ['b', *f'--only matching --size crowd --turns 1 --out {tmp_path}'.split()])
    monkeypatch.delenv('RNNPOSE_TRACEBACK', raising=False)
    with pytest.raises(SystemExit):
        tool.main()
    printed = capsys.readouterr()
    assert 'an older figure' in printed.out and 'matching, crowd failed, see the errors above' in printed.err


@pytest.mark.parametrize(
    ('arguments', 'sentence'),
    [
        (('--turns', 0), '--turns 0: time everything at least once'),
        (('--device', 'cuda'), 'but torch sees no GPU'),
        (('--only', 'targets', '--size', 'crowd'), 'not measured at that size; leave --size out'),
    ],
)
def test_bad_arguments(tmp_path, arguments, sentence):
    done = run('--out', tmp_path, *arguments)
    assert done.returncode != 0
    (line,) = [line for line in done.stderr.splitlines() if line.startswith('error:')]
    assert sentence in line


@pytest.mark.slow
def test_memory_at_the_papers_size():
    """30 people at 128 x 128 cells: a figure that does not depend on the machine's speed."""
    rows = benchmark_training.memory('paper', CLOCK)['rows']
    assert [row.met for row in rows] == ['yes', 'yes'], rows
