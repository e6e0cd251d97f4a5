"""What ``tools/demo.py`` and ``tools/compare_crowd.py`` share: the synthetic crowd, and AE and decoder trained on it.

Paths are relative to the repository, which has to be the working directory.
"""

from __future__ import annotations

from pathlib import Path

from mmengine.config import Config

from projects.stages import Stage

# The records of these stages lie here for both tools, so that neither repeats what the other has done.
FOLDER = 'work_dirs/demo'
AE, RNN, OCCLUDED = (f'configs/{name}.py' for name in ('ae_hg_crowd', 'rnnpose_hg_crowd', 'rnnpose_hg_crowd_occluded'))
SPLITS = {'plain': RNN, 'occluded': OCCLUDED}


def folder_of(config: str) -> str:
    """Where tools/train.py writes.

    Args:
        config (str): path of a config.

    Returns:
        str: a folder.
    """
    return f'work_dirs/{Path(config).stem}'


def last_checkpoint(config: str) -> str:
    """Where the training of a config ends.

    Args:
        config (str): its path.

    Returns:
        str: a file.
    """
    return f'{folder_of(config)}/epoch_{Config.fromfile(config).train_cfg.max_epochs}.pth'


def training_stage(name: str, config: str, inputs: tuple[str, ...] = ()) -> Stage:
    """The training of a config.

    Args:
        name (str): of the stage.
        config (str): its path.
        inputs (tuple[str, ...]): as of :class:`Stage`. Defaults to ().

    Returns:
        Stage: without validation, as the tests come later.
    """
    return Stage(name, ['tools/train.py', config, '--no-validate'], config, folder_of(config), inputs)


def shared_stages() -> list[Stage]:
    """Crowd, AE network and decoder.

    Returns:
        list[Stage]: to be run with ``FOLDER``.
    """
    return [
        Stage('crowd', ['tools/make_crowd.py', '--out', 'data/crowd']),
        training_stage('train_ae', AE),
        training_stage('train_rnn', RNN),
    ]
