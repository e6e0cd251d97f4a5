"""The benchmark: its timer and table, its cases at a tiny size, and the command."""

import importlib.util
import json
import math
import shutil
import sys
from pathlib import Path

import cv2
import pytest
import torch
from mmengine.config import Config

from projects.benchmark import decoder as inference
from projects.benchmark import methods, training
from projects.benchmark.decoder import CountedDecoder, PlainDecoder, make_decoder, make_features
from projects.benchmark.measure import SIZES, Row, Timer, in_ms, machine, write_report
from rnnpose_plugin.models.first_lstm import FirstLSTM

ROOT = Path(__file__).parents[1]
TIMER = Timer('cpu', turns=1)


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch):
    monkeypatch.chdir(ROOT)


def test_the_timer_takes_turns_and_drops_the_warm_up():
    calls = []
    timer = Timer('cpu', turns=3)
    times = iter(range(100))
    timer._now = lambda: float(next(times)) ** 2
    ratio = timer.ratio(lambda: calls.append('a'), lambda: calls.append('b'))
    assert ''.join(calls) == 'abababab'
    # The clock reads 0, 1, 4, 9, ..., so the runs take 1, 5 (the warm-up), 9, 13, 17, 21, 25 and 29.
    assert (ratio.first, ratio.second, ratio.value) == (17, 21, 17 / 21)
    assert (ratio.least, ratio.most) == (9 / 13, 25 / 29) and str(ratio).startswith('0.69 to 0.86; 17000 ms')
    calls.clear()
    assert timer.median(lambda: calls.append('a')) > 0 and len(calls) == 4


def test_short_runs_are_timed_more_often():
    calls = []
    Timer('cpu', turns=2).ratio(lambda: calls.append('a'), lambda: None)
    Timer('cpu', turns=2).median(lambda: calls.append('b'))
    assert ''.join(calls) == 'a' * 11 + 'b' * 11


def test_times_in_milliseconds():
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
    ('case', 'rows'),
    [(inference.caching, 2), (inference.batching, 1), (inference.options, 2), (training.matching, 1),
     (training.chunk_time, 1), (training.memory, 2)],
)  # fmt: skip
def test_cases_at_a_tiny_size(case, rows):
    result = case('tiny', TIMER)['rows']
    assert len(result) == rows and all(math.isfinite(row.value) and row.size == 'tiny' for row in result)


def test_a_plain_step_with_another_result_is_detected(monkeypatch):
    monkeypatch.setattr(PlainDecoder, 'feedback_passes', 1, raising=False)
    monkeypatch.setattr(PlainDecoder, '__setattr__', set_all_but_passes)
    with pytest.raises(ArithmeticError, match='cached static gates change the result'):
        inference.caching('tiny', TIMER)


def set_all_but_passes(self, name, value):
    if name != 'feedback_passes':
        torch.nn.Module.__setattr__(self, name, value)


@pytest.mark.parametrize(('factor', 'printed'), [(1.001, '0.001'), (math.nan, 'nan')])
def test_slightly_wrong_gradients_are_detected(monkeypatch, factor, printed):
    """Those of one layer, which are at most 0.005, so that a thousandth of them is less than 1e-5."""

    def with_a_wrong_gradient(size, device, kind=FirstLSTM, training=False):
        decoder = make_decoder(size, device, kind, training)
        if kind is FirstLSTM:
            decoder.to_heatmaps.weight.register_hook(lambda gradient: factor * gradient)
        return decoder

    monkeypatch.setattr(inference, 'make_decoder', with_a_wrong_gradient)
    with pytest.raises(ArithmeticError, match=f'change the result by a relative {printed};'):
        inference.caching('tiny', TIMER)


def test_images_decoded_together_with_another_result_are_detected(monkeypatch):
    monkeypatch.setattr(CountedDecoder, 'draw_noise', lambda self, n, h, w, g: torch.rand(n, 17, h, w))
    with pytest.raises(ArithmeticError, match='decoded together differ'):
        inference.batching('tiny', TIMER)


def test_whole_images_by_number_of_people():
    result = inference.people('crowd', TIMER)
    curve = result['people']
    assert curve['people'] == [1, 2, 5, 10, 20, 30] and len(curve['AE']) == len(curve['decoder']) == 6
    total, alone = result['rows']
    expected = (curve['backbone'] + curve['decoder'][2]) / (curve['backbone'] + curve['AE'][2])
    assert total.value == pytest.approx(expected) and f'5: {expected:.2f}, 10: ' in total.note
    assert alone.value == curve['decoder'][2] / curve['AE'][2]


def test_ae_maps_with_another_number_of_people_are_detected(monkeypatch):
    draw = inference.ae_maps
    monkeypatch.setattr(inference, 'ae_maps', lambda size, people: draw(size, people + 1))
    with pytest.raises(ArithmeticError, match='AE grouped 2 people from maps drawn for 1'):
        inference.people('crowd', TIMER)


def test_methods_on_one_backbone_give_the_same_number_of_people(monkeypatch):
    monkeypatch.setattr(methods, 'PEOPLE', (1, 2))
    monkeypatch.setattr(methods, 'COMPARED_AT', 2)
    rows = methods.methods('shipped', TIMER)['rows']
    assert [row.figure for row in rows] == [
        f'time of an image with 2 people, {method} / AE'
        for method in ('CID', "the paper's decoder", 'ours, context', 'ours, full')
    ]
    assert all(row.value > 0 and f'2: {row.value:.2f}; heads' in row.note for row in rows)


def test_a_method_that_gives_another_number_of_people_is_not_timed(monkeypatch):
    monkeypatch.setattr(inference.Counted, 'step', inference.FirstLSTM.step)  # stops where its own weights say
    with pytest.raises(ArithmeticError, match='RecurrentPoseHead gave .* people, not 5'):
        monkeypatch.setattr(methods, 'CONFIGS', {'paper': 'configs/rnnpose_hg_crowdbench.py'})
        monkeypatch.setattr(methods, 'PEOPLE', (5,))
        methods.methods('shipped', TIMER)


@pytest.mark.parametrize('name', ['paper', 'crowd'])
def test_sizes_are_those_of_the_configs(name):
    size = SIZES[name]
    for path in inference.CONFIGS[name]:
        cfg = Config.fromfile(path)
        assert cfg.input_size == (inference.STRIDE * size.cells,) * 2
        assert cfg.heatmap_size == (size.cells,) * 2
    assert (cfg.model.head.in_channels, cfg.model.head.hidden_channels) == (size.channels, size.hidden)


def test_the_report(tmp_path):
    rows = [vars(Row('one', 'paper', 1.234567, 'note')), vars(Row('two', 'crowd', 0.5))]
    people = dict(people=[1, 2], AE=[0.01, 0.02], decoder=[0.02, 0.03], backbone=0.1)
    results = [dict(rows=rows[:1], people=people), dict(rows=rows[1:])]
    table = write_report(results, 'cpu', str(tmp_path))
    assert '| one    | paper | 1.23  | note |' in table
    content = json.loads((tmp_path / 'benchmark.json').read_text())
    assert content['rows'] == rows and content['people'] == dict(paper=people) and 'threads' in content['machine']
    assert table in (tmp_path / 'benchmark.md').read_text()
    assert cv2.imread(str(tmp_path / 'people.png')).std() > 5


@pytest.fixture
def command(tmp_path, monkeypatch):
    """tools/benchmark.py in this process; each case that it runs is a process of its own."""
    spec = importlib.util.spec_from_file_location('benchmark', ROOT / 'tools' / 'benchmark.py')
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '-1')
    monkeypatch.delenv('RNNPOSE_TRACEBACK', raising=False)

    def run(*arguments):
        monkeypatch.setattr(sys, 'argv', ['benchmark.py', '--out', str(tmp_path), *arguments])
        tool.main()

    return run


def write_older_result(folder, name, **changes):
    (folder / 'cases').mkdir(exist_ok=True)
    result = dict(rows=[vars(Row('an older figure', 'paper', 2.0))], machine=machine('cpu'))
    (folder / 'cases' / f'{name}.json').write_text(json.dumps({**result, **changes}))


def test_the_command_keeps_results_of_earlier_runs_on_this_machine(command, tmp_path, capsys):
    write_older_result(tmp_path, 'caching_paper')
    write_older_result(tmp_path, 'caching_crowd', machine='another')
    command('--only', 'matching', '--size', 'crowd', '--turns', '1')
    assert '[1/1] matching, crowd: ' in capsys.readouterr().out
    figures = [row['figure'] for row in json.loads((tmp_path / 'benchmark.json').read_text())['rows']]
    assert figures == ['an older figure', 'matching speed-up over a loop, 30 x 30 people']
    assert (tmp_path / 'cases' / 'caching_crowd.json').exists()


def test_a_case_that_fails_leaves_the_others_in_the_table(command, tmp_path, monkeypatch, capsys):
    write_older_result(tmp_path, 'caching_paper')
    write_older_result(tmp_path, 'matching_crowd', rows=[vars(Row('a stale figure', 'crowd', 2.0))])
    monkeypatch.setattr(sys, 'executable', shutil.which('false'))  # the process of the case ends with status 1
    with pytest.raises(SystemExit):
        command('--only', 'matching', '--size', 'crowd', '--turns', '1')
    printed = capsys.readouterr()
    assert 'an older figure' in printed.out and 'a stale figure' not in printed.out
    assert 'matching, crowd failed, see the errors above' in printed.err


@pytest.mark.parametrize(
    ('arguments', 'sentence'),
    [
        (('--turns', '0'), '--turns 0: every function is timed at least once'),
        (('--device', 'cuda'), 'but torch sees no GPU'),
        (('--only', 'memory', '--size', 'crowd'), 'not measured at that size; leave --size out'),
    ],
)
def test_bad_arguments(command, capsys, arguments, sentence):
    with pytest.raises(SystemExit) as stopped:
        command(*arguments)
    assert stopped.value.code == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith('error:')]
    assert sentence in line


@pytest.mark.slow
def test_memory_at_the_papers_size():
    """30 people at 128 x 128 cells: ratios that do not depend on the machine's speed."""
    peak, growth = training.memory('paper', TIMER)['rows']
    assert peak.value <= 0.25 and growth.value <= 0.05
