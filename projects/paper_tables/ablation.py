"""Training and testing for the paper's tables: which runs they need, and running them, one after the other."""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mmengine.config import DictAction

from projects.stages import Stage, finished, run_stages
from rnnpose_plugin.runtime.errors import sentence_of
from rnnpose_plugin.runtime.launch import check_options, read_config

from .tables import PAPER_TABLES, Row

# What is tested on, and the config that says where it lies.
SPLITS = {
    'crowd': {'plain': 'rnnpose_hg_crowd', 'occluded': 'rnnpose_hg_crowd_occluded'},
    'crowdbench': {
        'plain': 'rnnpose_hg_crowdbench',
        'occluded': 'rnnpose_hg_crowdbench_occluded',
        'crowded': 'rnnpose_hg_crowdbench_crowded',
    },
    'coco': {'COCO': 'rnnpose_hg_coco', 'OC-val': 'rnnpose_hg_ochuman_val', 'OC-test': 'rnnpose_hg_ochuman'},
}
DATASET_KEYS = ('type', 'data_root', 'ann_file', 'data_prefix.img')
# The AE config has no decoder to set, and is not trained here.
AE_OPTIONS = ('test_', 'env_cfg.', 'model.backbone.')


@dataclass(frozen=True)
class Run:
    """One training with one seed and all tests of its checkpoint; without a training, the tests of the AE weights.

    Args:
        train (str, optional): config. Defaults to None, nothing is trained.
        seed (int, optional): of the training. Defaults to None.
    """

    train: str | None = None
    seed: int | None = None

    @property
    def name(self) -> str:
        """str: its folder."""
        return 'ae' if self.train is None else f'{self.train}/seed_{self.seed}'

    @property
    def tests(self) -> list[str]:
        """list[str]: the configs that any table tests it with, its own first.

        All of them, whichever tables are asked for: ``run_stages`` does not know of tests that it is not shown, and
        would take those of an older training for this one's.
        """
        rows = [row for table in PAPER_TABLES.values() for row in table.rows if row.trains == self.train]
        configs = dict.fromkeys(row.config for row in rows)
        return sorted(configs, key=lambda config: config != self.train)


@contextmanager
def data_chosen(data: str) -> Iterator[None]:
    """Read the configs of ``configs/ablations``, here and in child processes, for one kind of data.

    Args:
        data (str): a key of ``SPLITS``.
    """
    before = os.environ.get('ABLATION_DATA')
    os.environ['ABLATION_DATA'] = data
    try:
        yield
    finally:
        if before is None:
            del os.environ['ABLATION_DATA']
        else:
            os.environ['ABLATION_DATA'] = before


class Ablation:
    """The runs of some tables on one kind of data. Paths are relative to the repository, which has to be the cwd.

    Args:
        tables (list[str]): keys of ``PAPER_TABLES``.
        data (str): a key of ``SPLITS``.
        seeds (list[int]): each config is trained with each.
        work_dir (str): for everything that is written; each kind of data gets a folder in it.
        options (list[str]): as after ``--cfg-options``, for every training and its tests.
        only (list[str], optional): configs to run; of the others is shown what was done before. Defaults to None, all.

    Raises:
        ValueError: for an unknown table, kind of data or config, or seeds or options that cannot be.
    """

    def __init__(
        self,
        tables: list[str],
        data: str,
        seeds: list[int],
        work_dir: str,
        options: list[str],
        only: list[str] | None = None,
    ) -> None:
        unknown = [name for name in tables if name not in PAPER_TABLES]
        if unknown or not tables:
            what = f'there is no table {" ".join(unknown)}' if unknown else 'no table is named'
            raise ValueError(f'{what}; choose some of {" ".join(PAPER_TABLES)}')
        if data not in SPLITS:
            raise ValueError(f'--data {data} is unknown; use {" or ".join(SPLITS)}')
        for name in tables:
            if data not in (PAPER_TABLES[name].data or SPLITS):
                raise ValueError(f'table {name} cannot be made on {data}; use {" or ".join(PAPER_TABLES[name].data)}')
        if min(seeds, default=-1) < 0 or len(set(seeds)) < len(seeds):
            raise ValueError(f'--seeds {" ".join(map(str, seeds))}: name different numbers of 0 and more')
        self.tables, self.data, self.seeds, self.options = list(tables), data, list(seeds), list(options)
        self.folder = Path(work_dir, data)
        self.only = self._check_only(only)
        # Metrics by test config and split, of the tests that are done; and what kept the others from it.
        self.results: dict[Run, dict[tuple[str, str], dict[str, float]]] = {}
        self.failures: dict[Run, str] = {}
        self._check_options()

    def _check_only(self, only: list[str] | None) -> set[str]:
        trained = {run.train or 'ae' for run in self.runs()}
        unknown = [config for config in only or () if config not in trained]
        if unknown:
            raise ValueError(
                f'--only {unknown[0]} is run for none of these tables; choose some of {" ".join(sorted(trained))}'
            )
        return set(only or trained)

    def _check_options(self) -> None:
        """Now rather than in the middle of the night."""
        with data_chosen(self.data):
            for run in filter(self._is_wanted, self.runs()):
                options = parse_options(self._options_of(run))
                for config in run.tests if run.seed in (None, self.seeds[0]) else ():
                    check_options(read_config(_path(config)), options)

    def runs(self) -> list[Run]:
        """What has to be run, each once however many rows show it; all configs with the first seed come first.

        Returns:
            list[Run]: in order.
        """
        configs = dict.fromkeys(row.trains for name in self.tables for row in PAPER_TABLES[name].rows)
        runs = [Run(config, seed) for seed in self.seeds for config in configs if config is not None]
        return [*runs, Run()] if None in configs else runs

    def runs_of(self, row: Row) -> list[Run]:
        """The runs whose mean a row shows.

        Args:
            row (Row): of a table.

        Returns:
            list[Run]: one for each seed.
        """
        return [Run()] if row.trains is None else [Run(row.trains, seed) for seed in self.seeds]

    def figures(self, row: Row, split: str, metric: str) -> list[float]:
        """A row's results so far.

        Args:
            row (Row): of a table.
            split (str): one of ``SPLITS[data]``.
            metric (str): its name among the metrics.

        Returns:
            list[float]: one for each seed whose test is done, in the order of the seeds.
        """
        tests = [self.results.get(run, {}).get((row.config, split)) for run in self.runs_of(row)]
        return [metrics[metric] for metrics in tests if metrics is not None]

    def run(self, fresh: bool = False) -> Iterator[Run]:
        """Run what is not done and not left out. What fails is noted in ``failures`` and does not keep the others.

        Args:
            fresh (bool): repeat what is done. Defaults to False.

        Yields:
            Run: the one that was just ended, one way or the other.
        """
        runs = self.runs()
        for number, run in enumerate(runs, start=1):
            note = '' if self._is_wanted(run) else ': left out'
            print(f'{run.name}, run {number} of {len(runs)}{note}', flush=True)
            with data_chosen(self.data):
                self._run(run, self.folder / run.name, fresh)
            yield run

    def _is_wanted(self, run: Run) -> bool:
        return (run.train or 'ae') in self.only

    def _run(self, run: Run, folder: Path, fresh: bool) -> None:
        begin, stages, wanted = time.time(), [], self._is_wanted(run)
        try:
            stages = self.stages(run)
            if wanted:
                run_stages(stages, str(folder), fresh)
        except Exception as error:
            if wanted:
                self.failures[run] = _reason(error, folder, begin)
                print(f'{run.name} failed: {self.failures[run]}', flush=True)
        done = {stage.name for stage in finished(stages, str(folder))}
        self.results[run] = {
            (config, split): json.loads((folder / f'{config}_{split}.json').read_text())
            for config in run.tests
            for split in SPLITS[self.data]
            if f'{config}_{split}' in done
        }

    def stages(self, run: Run) -> list[Stage]:
        """The commands of a run.

        Args:
            run (Run): one of :meth:`runs`.

        Returns:
            list[Stage]: the training, if there is one, and the tests, split by split.
        """
        folder, checkpoint = self.folder / run.name, self._checkpoint(run)
        tests = [
            self._test_stage(config, split, checkpoint, folder, self._options_of(run))
            for split in SPLITS[self.data]
            for config in run.tests
        ]
        if run.train is None:
            return tests
        command = ['tools/train.py', _path(run.train), '--no-validate', '--work-dir', f'{folder}/train']
        command += ['--cfg-options', *self.options, f'randomness.seed={run.seed}']
        cfg = read_config(_path(run.train))
        backbone = cfg.model.backbone.get('init_cfg')
        inputs = (backbone['checkpoint'],) if isinstance(backbone, dict) and 'checkpoint' in backbone else ()
        inputs += (cfg.load_from,) if cfg.load_from else ()
        return [Stage('train', command, _path(run.train), f'{folder}/train', inputs), *tests]

    def _options_of(self, run: Run) -> list[str]:
        if run.train is not None:
            return self.options
        return [option for option in self.options if option.startswith(AE_OPTIONS) and '.init_cfg' not in option]

    def _checkpoint(self, run: Run) -> str:
        if run.train is not None:
            return str(self.folder / run.name / 'train')  # its last one
        cfg = read_config(_path('base'))
        cfg.merge_from_dict(parse_options(self.options))
        init_cfg = cfg.model.backbone.get('init_cfg')
        if not isinstance(init_cfg, dict) or 'checkpoint' not in init_cfg:
            raise ValueError(f'model.backbone.init_cfg is {init_cfg}; name the AE weights that are to be tested there')
        return init_cfg['checkpoint']

    def _test_stage(self, config: str, split: str, checkpoint: str, folder: Path, options: list[str]) -> Stage:
        name = f'{config}_{split}'
        dataset = read_config(f'configs/{SPLITS[self.data][split]}.py').test_dataloader.dataset
        place = [f'test_dataloader.dataset.{key}={_get(dataset, key)}' for key in DATASET_KEYS]
        command = ['tools/test.py', _path(config), checkpoint, '--work-dir', f'{folder}/test']
        command += ['--out', f'{folder}/{name}.json', '--cfg-options', *place, *options]
        return Stage(name, command, _path(config))


def parse_options(options: list[str]) -> dict:
    """What the tools make of ``--cfg-options``.

    Args:
        options (list[str]): each ``KEY=VALUE``.

    Returns:
        dict: dotted keys and values.

    Raises:
        ValueError: for one without ``=``.
    """
    for option in options:
        if '=' not in option:
            raise ValueError(f'--cfg-options {option}: write KEY=VALUE')
    parser = argparse.ArgumentParser()
    parser.add_argument('--cfg-options', nargs='*', action=DictAction)
    return parser.parse_args(['--cfg-options', *options]).cfg_options


def _path(config: str) -> str:
    return f'configs/ablations/{config}.py'


def _get(node: dict, key: str) -> str:
    for name in key.split('.'):
        node = node[name]
    return node


def _reason(error: Exception, folder: Path, begin: float) -> str:
    """The sentence of the command that failed, which ends the traceback that it saved, before our own."""
    saved = [path for path in folder.rglob('error_*.log') if path.stat().st_mtime >= begin]
    text = max(saved, key=lambda path: path.stat().st_mtime).read_text().strip() if saved else ''
    return ' '.join([*text.splitlines()[-1:], sentence_of(error)])
