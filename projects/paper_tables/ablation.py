"""The trainings and tests that the tables need, run one after the other."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from projects.stages import Stage, finished, run_stages
from rnnpose_plugin.runtime.errors import sentence_of
from rnnpose_plugin.runtime.launch import check_options, read_config
from rnnpose_plugin.runtime.options import OptionAction

from .row_configs import SPLITS, row_config, row_file, write_row_config
from .tables import PAPER_TABLES, Row

# The settings that move a test to another split.
DATASET_KEYS = ('type', 'data_root', 'ann_file', 'data_prefix.img')
# The options that a test of the AE weights takes; the others are for the decoder or its training.
AE_OPTIONS = ('test_', 'env_cfg.', 'model.backbone.')


@dataclass(frozen=True)
class Run:
    """One training with one seed, and all tests of its checkpoint; without a training, the tests of the AE weights.

    Args:
        train (str, optional): the config to train. Defaults to None, no training.
        seed (int, optional): of the training. Defaults to None.
    """

    train: str | None = None
    seed: int | None = None

    @property
    def name(self) -> str:
        """str: the folder of the run, below that of the data."""
        return 'ae' if self.train is None else f'{self.train}/seed_{self.seed}'

    @property
    def tests(self) -> list[str]:
        """list[str]: the configs with which any table tests the checkpoint, its own first.

        They do not depend on the tables of this call: ``run_stages`` only repeats the tests that it is given, so the
        results of a left out test would survive from an older training.
        """
        rows = [row for table in PAPER_TABLES.values() for row in table.rows if row.trains == self.train]
        configs = dict.fromkeys(row.config for row in rows)
        return sorted(configs, key=lambda config: config != self.train)


class Ablation:
    """The runs of some tables on one kind of data. The working directory is that of the repository.

    Args:
        tables (list[str]): keys of ``PAPER_TABLES``.
        data (str): a key of ``SPLITS``.
        seeds (list[int]): every config is trained with each of them.
        work_dir (str): all output goes into its subfolder ``data``.
        options (list[str]): as after ``--cfg-options``, for every training and its tests.
        only (list[str], optional): the configs to run; rows of other configs show earlier results. Defaults to None,
            all.

    Raises:
        ValueError: for an unknown table, kind of data or config, and for invalid seeds or options.
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
        _check_tables(tables, data, seeds)
        self.tables, self.data, self.seeds, self.options = list(tables), data, list(seeds), list(options)
        self.folder = Path(work_dir, data)
        self.only = self._check_only(only)
        # Metrics of the finished tests, by config and split; and the errors of failed runs.
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
        """Check the options before the first run starts, not hours later."""
        for run in filter(self._is_wanted, self.runs()):
            options = parse_options(self._options_of(run))
            for config in run.tests if run.seed in (None, self.seeds[0]) else ():
                check_options(row_config(config, self.data), options)

    def runs(self) -> list[Run]:
        """The runs of all tables, each once; all configs with the first seed come first.

        Returns:
            list[Run]: in order.
        """
        configs = dict.fromkeys(row.trains for name in self.tables for row in PAPER_TABLES[name].rows)
        runs = [Run(config, seed) for seed in self.seeds for config in configs if config is not None]
        return [*runs, Run()] if None in configs else runs

    def runs_of(self, row: Row) -> list[Run]:
        """The runs over which a row shows the mean.

        Args:
            row (Row): of a table.

        Returns:
            list[Run]: one per seed.
        """
        return [Run()] if row.trains is None else [Run(row.trains, seed) for seed in self.seeds]

    def figures(self, row: Row, split: str, metric: str) -> list[float]:
        """The results of a row so far.

        Args:
            row (Row): of a table.
            split (str): one of ``SPLITS[data]``.
            metric (str): such as ``coco/AP``.

        Returns:
            list[float]: one per seed with a finished test, in the order of the seeds.
        """
        tests = [self.results.get(run, {}).get((row.config, split)) for run in self.runs_of(row)]
        return [metrics[metric] for metrics in tests if metrics is not None]

    def run(self, fresh: bool = False) -> Iterator[Run]:
        """Run everything that is neither finished nor left out. A failure is kept in ``failures``; the others go on.

        Args:
            fresh (bool): repeat finished runs. Defaults to False.

        Yields:
            Run: the one that has just finished or failed.
        """
        runs = self.runs()
        for number, run in enumerate(runs, start=1):
            note = '' if self._is_wanted(run) else ': left out'
            print(f'{run.name}, run {number} of {len(runs)}{note}', flush=True)
            self._run(run, self.folder / run.name, fresh)
            yield run

    def _is_wanted(self, run: Run) -> bool:
        return (run.train or 'ae') in self.only

    def _run(self, run: Run, folder: Path, fresh: bool) -> None:
        begin, stages, wanted = time.time(), [], self._is_wanted(run)
        try:
            self._write_configs(run)
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
            list[Stage]: the training, if any, and the tests, split by split. Outside COCO they need the files of
            :meth:`config_file`, which :meth:`run` writes.
        """
        folder, checkpoint = self.folder / run.name, self._checkpoint(run)
        tests = [
            self._test_stage(config, split, checkpoint, folder, self._options_of(run))
            for split in SPLITS[self.data]
            for config in run.tests
        ]
        if run.train is None:
            return tests
        config = self.config_file(run.train)
        command = ['tools/train.py', config, '--no-validate', '--work-dir', f'{folder}/train']
        command += ['--cfg-options', *self.options, f'randomness.seed={run.seed}']
        cfg = row_config(run.train, self.data)
        backbone = cfg.model.backbone.get('init_cfg')
        inputs = (backbone['checkpoint'],) if isinstance(backbone, dict) and 'checkpoint' in backbone else ()
        inputs += (cfg.load_from,) if cfg.load_from else ()
        return [Stage('train', command, config, f'{folder}/train', inputs), *tests]

    def config_file(self, config: str) -> str:
        """The config file that a command of a run is given.

        Args:
            config (str): as the tables name it.

        Returns:
            str: on COCO the one in ``configs/ablations``, else the resolved config in the folder of these data.
        """
        return str(row_file(config) if self.data == 'coco' else self.folder / 'configs' / f'{config}.py')

    def _write_configs(self, run: Run) -> None:
        for config in run.tests if self.data != 'coco' else ():  # they hold the config of the training
            write_row_config(config, self.data, Path(self.config_file(config)))

    def _options_of(self, run: Run) -> list[str]:
        if run.train is not None:
            return self.options
        return [option for option in self.options if option.startswith(AE_OPTIONS) and '.init_cfg' not in option]

    def _checkpoint(self, run: Run) -> str:
        if run.train is not None:
            return str(self.folder / run.name / 'train')  # tools/test.py takes the last one there
        cfg = row_config('base', self.data)
        cfg.merge_from_dict(parse_options(self.options))
        init_cfg = cfg.model.backbone.get('init_cfg')
        if not isinstance(init_cfg, dict) or 'checkpoint' not in init_cfg:
            raise ValueError(f'model.backbone.init_cfg is {init_cfg}; name the AE weights to be tested there')
        return init_cfg['checkpoint']

    def _test_stage(self, config: str, split: str, checkpoint: str, folder: Path, options: list[str]) -> Stage:
        name = f'{config}_{split}'
        dataset = read_config(f'configs/{SPLITS[self.data][split]}.py').test_dataloader.dataset
        place = [f'test_dataloader.dataset.{key}={_get(dataset, key)}' for key in DATASET_KEYS]
        command = ['tools/test.py', self.config_file(config), checkpoint, '--work-dir', f'{folder}/test']
        command += ['--out', f'{folder}/{name}.json', '--cfg-options', *place, *options]
        return Stage(name, command, self.config_file(config))


def parse_options(options: list[str]) -> dict:
    """Parse ``--cfg-options`` as ``tools/train.py`` does.

    Args:
        options (list[str]): each ``KEY=VALUE``.

    Returns:
        dict: values by dotted key.

    Raises:
        ValueError: for an option without ``=``.
    """
    for option in options:
        if '=' not in option:
            raise ValueError(f'--cfg-options {option}: write KEY=VALUE')
    parser = argparse.ArgumentParser()
    parser.add_argument('--cfg-options', nargs='*', action=OptionAction)
    return parser.parse_args(['--cfg-options', *options]).cfg_options


def _check_tables(tables: list[str], data: str, seeds: list[int]) -> None:
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


def _get(node: dict, key: str) -> str:
    for name in key.split('.'):
        node = node[name]
    return node


def _reason(error: Exception, folder: Path, begin: float) -> str:
    """The error of the failed command, which is the last line of the traceback it saved, and then our own."""
    saved = [path for path in folder.rglob('error_*.log') if path.stat().st_mtime >= begin]
    text = max(saved, key=lambda path: path.stat().st_mtime).read_text().strip() if saved else ''
    return ' '.join([*text.splitlines()[-1:], sentence_of(error)])
