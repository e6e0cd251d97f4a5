"""The stages shared by ``tools/demo.py`` and ``tools/compare_crowd.py``: the synthetic crowd, AE and decoder on it.

Paths are relative to the root of the repository, which must be the working directory.
"""

from __future__ import annotations

from pathlib import Path

from mmengine.config import Config

from projects.stages import Stage

# Both tools keep the records of these stages here, so that neither repeats a stage of the other.
FOLDER = 'work_dirs/demo'
AE, RNN, OCCLUDED = (f'configs/{name}.py' for name in ('ae_hg_crowd', 'rnnpose_hg_crowd', 'rnnpose_hg_crowd_occluded'))
SPLITS = {'plain': RNN, 'occluded': OCCLUDED}


def folder_of(config: str) -> str:
    """The work directory of a config in tools/train.py.

    Args:
        config (str): path of a config.

    Returns:
        str: a folder.
    """
    return f'work_dirs/{Path(config).stem}'


def last_checkpoint(config: str) -> str:
    """The last checkpoint of the training of a config.

    Args:
        config (str): its path.

    Returns:
        str: path of the file.
    """
    return f'{folder_of(config)}/epoch_{Config.fromfile(config).train_cfg.max_epochs}.pth'


def training_stage(name: str, config: str, inputs: tuple[str, ...] = ()) -> Stage:
    """The stage that trains a config.

    Args:
        name (str): of the stage.
        config (str): its path.
        inputs (tuple[str, ...]): as of :class:`Stage`. Defaults to ().

    Returns:
        Stage: without validation, as stages of tests follow.
    """
    return Stage(name, ['tools/train.py', config, '--no-validate'], config, folder_of(config), inputs)


def shared_stages() -> list[Stage]:
    """Data, AE network and decoder.

    Returns:
        list[Stage]: to be run with ``FOLDER`` as their folder.
    """
    return [
        Stage('crowd', ['tools/make_crowd.py', '--out', 'data/crowd']),
        training_stage('train_ae', AE),
        training_stage('train_rnn', RNN),
    ]
