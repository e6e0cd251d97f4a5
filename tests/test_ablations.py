"""The paper's tables: the config of every row on every kind of data, and tools/ablation.py from end to end."""

import copy
import json
import logging
import os
import runpy
import shutil
import signal
import subprocess
import sys
import time
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner
from mmpose.registry import HOOKS, MODELS, TRANSFORMS
from narrow_network import NARROW

from projects.crowdbench.synthetic_crowd import CrowdSettings, write_crowd
from projects.markdown import align
from projects.paper_tables.ablation import Ablation, Run, parse_options
from projects.paper_tables.report import as_markdown, format_figures, reason_against_paper
from projects.paper_tables.row_configs import SPLITS, SYNTHETIC_ONLY, row_config, write_row_config
from projects.paper_tables.tables import PAPER_TABLES
from rnnpose_plugin.runtime.check_views import check_test_time_views

ROOT = Path(__file__).parent.parent
ROWS = [row for table in PAPER_TABLES.values() for row in table.rows]
FILES = {path.stem for path in (ROOT / 'configs' / 'ablations').glob('*.py')}
CONFIGS = sorted(FILES | set(SYNTHETIC_ONLY))
AE = ('ae', 'ae_longer', 'ae_multiscale')
TRAINED = sorted({row.trains for row in ROWS} - {None})
# Some configs are only in tables for some kinds of data.
SHOWN = {(row.config, data) for table in PAPER_TABLES.values() for data in table.data or SPLITS for row in table.rows}
CASES = [(name, data) for name in CONFIGS for data in SPLITS if (name, data) in SHOWN]
RUN_NUMBER = count()


@pytest.fixture(autouse=True)
def in_the_repository(monkeypatch):
    monkeypatch.chdir(ROOT)


# The changes of every config, written down a second time: each path and its value.
LSTM2 = {
    'model.head.second_lstm.hidden_channels': (68, 34),
    'model.head.second_lstm.feedback_passes': 0,
    'model.head.second_lstm.order': 'learned',
    'log_processor.custom_cfg': ['heatmap', 'second_lstm_heatmap', 'stop'],
}
MULTISCALE = {
    'model.test_cfg.flip_test': True,
    'model.test_cfg.multiscale_test': True,
}
CHUNK, LOSS, ORDER = 'default_hooks.chunked_backprop', 'model.head.heatmap_loss', 'model.head.second_lstm.order'
PAIRS = (0.025, 0.035, 0.079, 0.072, 0.062, 0.107, 0.087, 0.089)
COCO_SIGMAS = [0.026, *(PAIRS[joint // 2] for joint in range(16))]
CHANGES = {
    'base': {},
    'feedback_0': {'model.head.feedback_passes': 0},
    'feedback_3': {'model.head.feedback_passes': 3},
    **{f'chunk_{size}': {'model.head.chunk_size': size} for size in (1, 2, 4, 6)},
    'chunk_step': {f'{CHUNK}.mode': 'step'},
    **{f'chunk_{n}_step': {f'{CHUNK}.mode': 'step', 'model.head.chunk_size': n} for n in (1, 2, 4, 6)},
    'lstm2_learned': LSTM2,
    **{f'lstm2_{order}': {**LSTM2, ORDER: order} for order in ('random', 'confidence', 'inverse', 'canonical')},
    **{
        f'lstm2_layers_{len(sizes)}_{order}': {**LSTM2, 'model.head.second_lstm.hidden_channels': sizes, ORDER: order}
        for sizes in ((68, 34, 17), (68, 34, 17, 8))
        for order in ('learned', 'random')
    },
    'lstm2_only_loss': {
        **LSTM2,
        'model.head.first_lstm_loss': False,
        'log_processor.custom_cfg': ['second_lstm_heatmap', 'stop'],
    },
    'lstm2_feedback_only': {
        **LSTM2,
        'model.head.feedback_passes': 0,
        'model.head.second_lstm.feedback_passes': 2,
    },
    'lstm2_others': {**LSTM2, 'model.head.second_lstm.others': True},
    'assign_a_b': {f'{LOSS}.overcount': 'all'},
    'assign_b_a': {f'{LOSS}.undercount': 'all'},
    'assign_b_b': {f'{LOSS}.undercount': 'all', f'{LOSS}.overcount': 'all'},
    **{f'omega_0{percent}': {'model.head.stop_threshold': percent / 100} for percent in (10, 20, 40, 50)},
    'norm_off': {'model.head.feature_norm': None},
    'stop_after_8': {'model.head.max_train_instances': 8},
    'sgd_exact': {'model.head.chunk_size': None, 'train_dataloader.dataset.pipeline': 'SmallGroups first'},
    'sgd_approximate': {'model.head.chunk_size': 4, 'train_dataloader.dataset.pipeline': 'SmallGroups first'},
    'multiscale': {**LSTM2, **MULTISCALE, 'model.test_cfg.ae_refinement': True, 'model.neck.ae_channels': 34},
    'context': {},
    'context_pooled': {'model.head.context': 'pooled'},
    'context_read': {'model.head.context': 'read'},
    'coarse': {'model.head.context': 'none'},
    'wide': {'model.head.hidden_channels': (36, 28, 28)},
    'denoising': {
        'model.head.denoising.sigmas': COCO_SIGMAS,
        'log_processor.custom_cfg': ['heatmap', 'stop', 'denoising_heatmap', 'denoising_stop'],
    },
    'ae': {},
    'ae_longer': {},
    'ae_multiscale': {
        **MULTISCALE,
        'model.test_cfg.shift_heatmap': True,
    },
}


def leaves(node, path=''):
    """Dotted paths and values; lists are values."""
    if isinstance(node, dict):
        return {key: value for name in node for key, value in leaves(node[name], f'{path}.{name}'.strip('.')).items()}
    return {path: node}


def changed(name, data):
    """The settings in which a config differs from its base."""
    own = {
        'ae_longer': f'ae_hg_{data}_longer',
        'context': f'rnnpose_context_{data}',
        'coarse': f'rnnpose_context_{data}',
    }
    base = own.get(name, f'ae_hg_{data}' if name in AE else f'rnnpose_hg_{data}')
    base = leaves(Config.fromfile(ROOT / 'configs' / f'{base}.py').to_dict())
    new = leaves(row_config(name, data).to_dict())
    assert base.keys() <= new.keys()
    return {path: value for path, value in new.items() if path not in base or base[path] != value}


def test_every_row_names_configs_and_every_config_has_a_row():
    assert {row.config for row in ROWS} | set(TRAINED) == set(CONFIGS)
    assert not FILES & set(SYNTHETIC_ONLY)


@pytest.mark.parametrize(('name', 'data'), CASES)
def test_a_config_changes_what_it_says_and_can_be_built(name, data):
    found, cfg = changed(name, data), row_config(name, data)
    found.pop('model.neck.ae_channels', None) if data == 'coco' else None  # on COCO the neck always keeps the AE maps
    wanted = {**CHANGES[name]}
    wanted.pop('model.neck.ae_channels', None) if data == 'coco' else None
    if name.endswith('multiscale'):
        for loader in ('test_pipeline', 'val_dataloader.dataset.pipeline', 'test_dataloader.dataset.pipeline'):
            _, resize, pack = found.pop(loader)
            assert resize['aug_scales'] == [0.5, 2] and 'aug_scales' in pack['meta_keys']
    if 'log_processor.custom_cfg' in found:
        found['log_processor.custom_cfg'] = [part['data_src'] for part in found['log_processor.custom_cfg']]
    if 'train_dataloader.dataset.pipeline' in found:
        first, *rest = found['train_dataloader.dataset.pipeline']
        assert first == dict(type='SmallGroups', max_people=8)
        assert rest == row_config('base', data).to_dict()['train_dataloader']['dataset']['pipeline']
        found['train_dataloader.dataset.pipeline'] = 'SmallGroups first'
    assert found == wanted

    check_test_time_views(cfg)
    if data == 'coco':
        return  # tests/test_configs.py builds these files
    MODELS.build(cfg.model)
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        for step in loader.dataset.pipeline:
            TRANSFORMS.build(step)
    if name not in AE:
        HOOKS.build(cfg.default_hooks.chunked_backprop)


@pytest.mark.parametrize('name', CONFIGS)
def test_unknown_data(name):
    with pytest.raises(FileNotFoundError, match=r"config 'configs/\w+_mars(_longer)?\.py' does not exist"):
        row_config(name, 'mars')


def test_a_config_that_does_not_exist():
    for data in SPLITS:
        with pytest.raises(FileNotFoundError, match=r'configs/ablations/absent\.py'):
            row_config('absent', data)


@pytest.mark.parametrize('name', sorted(FILES))
def test_changes_are_merged_as_mmengine_merges_them(name, tmp_path):
    """mmengine reads the same files where the crowd's base configs have taken the names of COCO's."""
    configs = tmp_path / 'configs'
    shutil.copytree(ROOT / 'configs', configs)
    for method in ('rnnpose_hg', 'rnnpose_context', 'ae_hg'):
        shutil.copy(configs / f'{method}_crowd.py', configs / f'{method}_coco.py')
    wanted = Config.fromfile(configs / 'ablations' / f'{name}.py')
    assert row_config(name, 'crowd').to_dict() == wanted.to_dict()


@pytest.mark.parametrize('name', ['base', 'multiscale', 'sgd_exact'])
def test_a_written_config_is_the_same_config(name, tmp_path):
    path = tmp_path / 'folder' / 'config.py'
    write_row_config(name, 'crowdbench', path)
    assert Config.fromfile(path).to_dict() == row_config(name, 'crowdbench').to_dict()
    os.utime(path, (0, 0))
    write_row_config(name, 'crowdbench', path)
    assert path.stat().st_mtime == 0  # left alone


def test_the_wider_decoder_has_as_many_parameters_as_the_context():
    sizes = [sum(p.numel() for p in MODELS.build(row_config(name, 'crowdbench').model.head).parameters())
             for name in ('wide', 'context_read')]  # fmt: skip
    assert sizes == [278_866, 276_418]
    assert all(f'{size:,}' in PAPER_TABLES['parameters'].note for size in sizes)


# Every config runs on the crowd, through mmengine's Runner.


@pytest.fixture(scope='module')
def crowd(tmp_path_factory):
    folder = tmp_path_factory.mktemp('crowd')
    write_crowd(folder, dict(train=8, plain=2, occluded=2), 0, CrowdSettings())
    return folder


def make_runner(name, crowd, work_dir):
    cfg = row_config(name, 'crowd')
    if name not in AE:
        cfg.model.backbone.init_cfg = None
    cfg.load_from = None
    for loader in (cfg.train_dataloader, cfg.test_dataloader):
        loader.dataset.data_root = f'{crowd}/'
        loader.num_workers = 0
    cfg.train_dataloader.dataset.indices = 2 * cfg.train_dataloader.batch_size  # two iterations
    cfg.train_cfg.max_epochs = 1
    cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    cfg.default_hooks.checkpoint = None
    cfg.work_dir, cfg.launcher, cfg.experiment_name = str(work_dir), 'none', f'ablation{next(RUN_NUMBER)}'
    return Runner.from_cfg(cfg)


@pytest.mark.parametrize('name', TRAINED)
def test_a_training_config_trains(name, crowd, tmp_path):
    runner = make_runner(name, crowd, tmp_path)
    if name.endswith('_step'):  # three people at most never reach T = 8
        runner.model.head.chunk_size = 1
    head = runner.model.head
    parts = (
        [runner.model.backbone] if name in AE else [head.first_lstm, *([head.second_lstm] if head.second_lstm else [])]
    )
    before = copy.deepcopy([list(part.parameters()) for part in parts])
    runner.train()
    losses, iterations = runner.message_hub.get_scalar('train/loss').data
    assert len(losses) == runner.iter == 2 and np.isfinite(losses).all()
    if name.endswith('_step'):
        steps = [state['step'] for state in runner.optim_wrapper.optimizer.state.values()]
        assert max(steps) > 2  # more than batches
    for part, weights in zip(parts, before):
        assert any(not torch.equal(new, old) for new, old in zip(part.parameters(), weights))
        assert all(new.isfinite().all() for new in part.parameters())


@pytest.mark.parametrize('name', sorted(set(CONFIGS) - set(TRAINED)) + ['lstm2_learned'])
def test_a_test_config_tests(name, crowd, tmp_path):
    runner = make_runner(name, crowd, tmp_path)
    if name not in AE:
        runner.model.head.first_lstm.to_stop.bias.data.fill_(1.0)  # an untrained decoder finds people
        runner.model.head.max_instances = 3
    metrics = runner.test()
    assert 0 <= metrics['coco/AP'] <= 1 and metrics['people/found'] > 0


# The tool.


def test_runs_are_shared_by_rows_and_the_first_seed_comes_first():
    ablation = Ablation(['5', '4'], 'crowd', [3, 4], 'w', [])
    configs = ['feedback_0', 'base', 'feedback_3', 'assign_a_b', 'assign_b_a', 'assign_b_b']
    assert ablation.runs() == [Run(config, seed) for seed in (3, 4) for config in configs]


def test_ae_is_tested_and_not_trained():
    ablation = Ablation(['1'], 'coco', [0], 'w', ['model.head.max_instances=9', 'test_dataloader.num_workers=0'])
    learned, ae = ablation.runs()
    assert learned == Run('lstm2_learned', 0) and ae == Run()
    commands = [stage.command for stage in ablation.stages(ae)]
    names = [stage.name for stage in ablation.stages(learned)]
    assert len(commands) == 6 and all(command[0] == 'tools/test.py' for command in commands)
    assert [command[1] for command in commands] == ['configs/ablations/ae.py', 'configs/ablations/ae_multiscale.py'] * 3
    assert all(command[2] == 'work_dirs/ae_hg_coco/epoch_300.pth' for command in commands)
    assert all(command[-1] == 'test_dataloader.num_workers=0' for command in commands)
    assert not [word for command in commands for word in command if 'model.head' in word]
    assert 'test_dataloader.dataset.type=OCHumanDataset' in commands[-1]
    splits = ['COCO', 'OC-val', 'OC-test']
    assert names == ['train'] + [f'{c}_{split}' for split in splits for c in ('lstm2_learned', 'multiscale')]


def test_ae_weights_that_are_not_named():
    ablation = Ablation(['1'], 'crowd', [0], 'w', ['model.backbone.init_cfg=None'])
    with pytest.raises(ValueError, match='model.backbone.init_cfg is None; name the AE weights'):
        ablation.stages(Run())


def test_the_checkpoint_is_the_last_one_of_the_training():
    options = ['train_cfg.max_epochs=2']
    train, *tests = Ablation(['norm'], 'crowd', [5], 'w', options).stages(Run('norm_off', 5))
    assert train.command[-2:] == [*options, 'randomness.seed=5']
    assert {stage.command[2] for stage in tests} == {train.work_dir}  # the test tool takes the last one there
    assert train.inputs == ('work_dirs/ae_hg_crowd/epoch_7.pth',)
    assert train.config == train.command[1] == 'w/crowd/configs/norm_off.py'


@pytest.mark.parametrize(
    ('given', 'match'),
    [
        (dict(tables=['5', '9']), 'there is no table 9; choose some of 1 2 .*figure6'),
        (dict(tables=[]), 'no table is named; choose some of 1 2'),
        (dict(data='mars'), '--data mars is unknown; use crowd or crowdbench or coco'),
        (dict(tables=['5', 'ae'], data='coco'), 'table ae cannot be made on coco; use crowd or crowdbench'),
        (dict(seeds=[0, -1]), '--seeds 0 -1: name different numbers'),
        (dict(seeds=[1, 1]), '--seeds 1 1: name different numbers'),
        (
            dict(only=['base', 'norm_off']),
            '--only norm_off is run for none of these tables; choose some of base feedback_0',
        ),
        (dict(options=['model.head']), '--cfg-options model.head: write KEY=VALUE'),
        (dict(options=['modle.head.a=1']), "configs/ablations/.* has no setting 'modle'"),
    ],
)
def test_invalid_arguments(given, match):
    with pytest.raises(ValueError, match=match):
        Ablation(**{**dict(tables=['5'], data='crowd', seeds=[0], work_dir='w', options=[]), **given})


def test_options_need_to_suit_only_what_is_run():
    given = dict(
        tables=['ae'], data='crowdbench', seeds=[0], work_dir='w', options=['model.backbone.init_cfg.checkpoint=x']
    )
    ablation = Ablation(**given, only=['context'])
    assert [len(ablation.stages(run)) for run in ablation.runs()] == [4, 4, 4]  # those left out may be shown
    with pytest.raises(ValueError, match="ae_hg_crowdbench_longer.py is .*, without a 'checkpoint'"):
        Ablation(**given)


def test_a_row_left_out_cannot_fail(tmp_path):
    given = dict(tables=['1'], data='crowd', seeds=[0], work_dir=tmp_path, options=['model.backbone.init_cfg=None'])
    for only, failures in ((['lstm2_learned'], 0), (['ae'], 1)):
        ablation = Ablation(**given, only=only)
        ablation._run(Run(), tmp_path / 'ae', fresh=False)  # no AE weights are named
        assert len(ablation.failures) == failures and ablation.results == {Run(): {}}


def test_options_are_read_as_the_tools_read_them():
    assert parse_options([]) == {}
    assert parse_options(['a.b=1', 'c=[1,x]', 'd=None']) == {'a.b': 1, 'c': [1, 'x'], 'd': None}


# The table.


def test_figures_are_mean_deviation_and_number():
    """By hand: mean 50, squared deviations 4 + 0 + 4, over n - 1 = 2, root 2; by numpy for others."""
    assert format_figures([48, 50, 52]) == '50.0 ± 2.0 (n=3)'
    assert format_figures([48.04]) == '48.0 (n=1)' and format_figures([]) == ''
    values = np.random.default_rng(0).uniform(0, 100, 7)
    wanted = f'{values.mean():.1f} ± {np.sqrt(((values - values.mean()) ** 2).sum() / 6):.1f} (n=7)'
    assert format_figures(list(values)) == wanted


def test_columns_are_aligned():
    assert align([['', 'b'], ['long', 'c']]) == ['|      | b |', '|------|---|', '| long | c |']


def test_the_reason_why_figures_are_not_comparable():
    assert 'synthetic crowd' in reason_against_paper('crowd', [])
    assert reason_against_paper('crowd', ['a=1']).endswith('compared; the configs were changed by a=1')
    assert reason_against_paper('coco', []) == ''
    assert (
        reason_against_paper('coco', ['train_dataloader.dataset.data_root=x', 'train_dataloader.num_workers=2']) == ''
    )
    changed = reason_against_paper('coco', ['train_cfg.max_epochs=1', 'train_dataloader.dataset.data_root=x'])
    assert changed == 'not comparable: the configs were changed by train_cfg.max_epochs=1'


def with_results(tables, data, seeds, results):
    """An ablation whose tests gave these AP, by run, config and split."""
    ablation = Ablation(tables, data, seeds, 'w', [])
    for run, config, split, ap in results:
        metrics = {'coco/AP': ap / 100, 'people/count_error': 0.25}
        ablation.results.setdefault(run, {})[config, split] = metrics
    return ablation


def test_a_table_on_the_papers_data():
    base = [(Run('base', seed), 'base', split, 50 + seed) for seed in (0, 2) for split in SPLITS['coco']]
    ablation = with_results(['5'], 'coco', [0, 2], [*base, (Run('feedback_3', 0), 'feedback_3', 'COCO', 40)])
    ablation.failures[Run('feedback_0', 0)] = 'because.'
    title, _, header, _, *rows, _, note, _, failed = as_markdown(ablation, '5').splitlines()
    assert title == '## Table 5: passes of the feedback loop per person'
    rows = [[cell.strip() for cell in line.split('|')[1:-1]] for line in (header, *rows)]
    assert rows == [
        ['', 'COCO AP', 'OC-val AP', 'OC-test AP', 'people off', 'paper COCO', 'paper OC-val', 'paper OC-test'],
        ['0', 'failed', 'failed', 'failed', '- / - / -', '54.6', '35.1', '28.5'],
        ['2', *['51.0 ± 1.4 (n=2)'] * 3, '0.25 / 0.25 / 0.25', '58.7', '37.8', '31.7'],
        ['3 [1]', '40.0 (n=1)', 'not yet', 'not yet', '0.25 / - / -', '57.2', '30.0', '36.3'],
    ]
    assert note.startswith('[1] on OCHuman') and failed == 'feedback_0/seed_0 failed: because.'


def test_a_table_on_the_crowd_marks_the_papers_figures():
    text = as_markdown(with_results(['1'], 'crowd', [0], []), '1')
    header = text.splitlines()[2]
    assert '| plain AP | occluded AP | people off | paper COCO [3] |' in header and 'OC-val' not in header
    assert '\n[3] not comparable' in text
    (line,) = [line for line in text.splitlines() if line.startswith('| AE, one scale')]
    assert line.split('|')[-2].strip() == '56.6 [4]' and '\n[4] not comparable: the paper quotes AE' in text
    assert text.count('the paper quotes AE') == 1 and '| 65.5 [4]' in text


def test_the_papers_figures_agree_where_it_prints_them_twice():
    figures = {}
    for row in [row for name in ('3', '4', '5', '7') for row in PAPER_TABLES[name].rows]:
        assert figures.setdefault(row.config, row.paper) == row.paper


# End to end, through the real command.

OPTIONS = [
    *NARROW,
    'model.head.max_instances=3',
    'train_cfg.max_epochs=1',
    'train_dataloader.dataset.indices=4',
]


def arguments(work_dir, crowd, *flags):
    roots = [f'{name}_dataloader.dataset.data_root={crowd}/' for name in ('train', 'test')]
    path = str(ROOT / 'tools' / 'ablation.py')
    command = [path, 'norm', '--data', 'crowd', '--seeds', '7', '--work-dir', str(work_dir), *flags]
    return [*command, '--cfg-options', *OPTIONS, *roots]


@pytest.fixture
def run_tool(monkeypatch, capfd):
    """A function that runs the tool in this process; its trainings and tests are processes of their own."""

    def run(*args):
        monkeypatch.setattr(sys, 'argv', arguments(*args))
        monkeypatch.setattr(logging, 'raiseExceptions', True)  # the tool changes it
        monkeypatch.setenv('OMP_NUM_THREADS', '1')
        capfd.readouterr()
        try:
            runpy.run_path(sys.argv[0], run_name='__main__')
            status = 0
        except SystemExit as error:
            status = error.code
        return status, capfd.readouterr().out

    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    yield run
    for number, handler in handlers.items():
        signal.signal(number, handler)


def finish(ablation, run):
    """Leave the records of a finished run, as tools/train.py and tools/test.py would, with an AP for each split."""
    folder = ablation.folder / run.name
    folder.mkdir(parents=True)
    ablation._write_configs(run)
    for stage in ablation.stages(run):
        (folder / f'{stage.name}.done').write_text(stage.identity())
        (folder / f'{stage.name}.json').write_text(json.dumps({'coco/AP': 0.5, 'people/count_error': 1.0}))


def test_the_tool_from_end_to_end(crowd, tmp_path, run_tool):
    """Two rows. The second one fails at first, as a folder lies where its checkpoint is to be written."""
    folder = tmp_path / 'crowd'
    table, train = folder / 'table_norm.md', folder / 'norm_off' / 'seed_7' / 'train'
    (train / 'epoch_1.pth').mkdir(parents=True)
    status, log = run_tool(tmp_path, crowd, '--only', 'norm_off')  # the other one is left out
    assert status == '1 of 2 runs failed; the tables say why', log
    assert 'base/seed_7, run 1 of 2: left out' in log
    assert '| not yet ' in table.read_text() and '| failed ' in table.read_text()
    assert 'norm_off/seed_7 failed: IsADirectoryError' in table.read_text() and table.read_text().strip() in log

    (train / 'epoch_1.pth').rmdir()
    options = arguments(tmp_path, crowd)[arguments(tmp_path, crowd).index('--cfg-options') + 1 :]
    finish(Ablation(['norm'], 'crowd', [7], str(tmp_path), options), Run('base', 7))
    status, log = run_tool(tmp_path, crowd)
    assert status == 0, log
    assert log.count('done before') == 3 and log.index('done before') < log.index('norm_off/seed_7, run 2 of 2')
    whole = table.read_text()
    assert '50.0 (n=1)' in whole and 'failed' not in whole and whole.strip() in log
    rows = json.loads((folder / 'table_norm.json').read_text())['rows']
    assert [len(row['ours'][split]['coco/AP']) for row in rows for split in ('plain', 'occluded')] == [1, 1, 1, 1]
    saved = torch.load(train / 'epoch_1.pth', weights_only=False)
    assert saved['meta']['seed'] == 7 and not [name for name in saved['state_dict'] if name.startswith('head.norm')]

    status, log = run_tool(tmp_path, crowd, '--only', 'norm_off')
    assert status == 0 and log.count('done before') == 3, log
    assert table.read_text() == whole  # base was left out, and is shown


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_the_tool_and_its_training(number, crowd, tmp_path):
    """The training inherits stderr, so communicate() returns only after it has ended as well."""
    command = [*arguments(tmp_path, crowd, '--only', 'base'), 'train_cfg.max_epochs=100000']
    environment = dict(os.environ, OMP_NUM_THREADS='1')
    process = subprocess.Popen([sys.executable, *command], env=environment, stderr=subprocess.PIPE, text=True)
    while not (tmp_path / 'crowd' / 'base' / 'seed_7' / 'train.started').exists():
        assert process.poll() is None
        time.sleep(0.1)
    process.send_signal(number)
    _, errors = process.communicate(timeout=250)
    assert process.returncode == 128 + number, errors
    assert errors.strip().endswith('stopped; run the same command again to resume')
