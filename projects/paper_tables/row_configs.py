"""The config of a row on each kind of data.

On COCO it is a file of ``configs/ablations``. On other data the changes in that file are merged into the config that
stands in for its base, such as ``rnnpose_hg_crowd.py`` for ``rnnpose_hg_coco.py``.
"""

from __future__ import annotations

import ast
import os
from pathlib import Path

from mmengine.config import Config
from mmengine.config.utils import RemoveAssignFromAST

from rnnpose_plugin.runtime.launch import read_config

# The splits of each kind of data, and the config that names their files.
SPLITS = {
    'crowd': {'plain': 'rnnpose_hg_crowd', 'occluded': 'rnnpose_hg_crowd_occluded'},
    'crowdbench': {
        'plain': 'rnnpose_hg_crowdbench',
        'occluded': 'rnnpose_hg_crowdbench_occluded',
        'crowded': 'rnnpose_hg_crowdbench_crowded',
    },
    'coco': {'COCO': 'rnnpose_hg_coco', 'OC-val': 'rnnpose_hg_ochuman_val', 'OC-test': 'rnnpose_hg_ochuman'},
}
CONFIGS = Path('configs')
# Rows that have no config on COCO.
SYNTHETIC_ONLY = {'ae_longer': 'ae_hg_{data}_longer'}


def row_file(name: str) -> Path:
    """The file of a row's config on COCO.

    Args:
        name (str): of the config, as the tables name it.

    Returns:
        Path: relative to the repository.
    """
    return CONFIGS / 'ablations' / f'{name}.py'


def row_config(name: str, data: str) -> Config:
    """The config of a row.

    Args:
        name (str): of the config, as the tables name it.
        data (str): a key of ``SPLITS``.

    Returns:
        Config: resolved.

    Raises:
        FileNotFoundError: if there is no such config, or none for these data.
    """
    if name in SYNTHETIC_ONLY:
        return read_config(str(CONFIGS / f'{SYNTHETIC_ONLY[name].format(data=data)}.py'))
    return read_config(str(row_file(name))) if data == 'coco' else _on_other_data(row_file(name), data)


def write_row_config(name: str, data: str, path: Path) -> None:
    """Write the resolved config of a row as a file; a file with the same content is left alone.

    Args:
        name (str): of the config, as the tables name it.
        data (str): a key of ``SPLITS``.
        path (Path): of the file; its folder is made.
    """
    text = row_config(name, data).pretty_text
    if not path.is_file() or path.read_text(encoding='utf-8') != text:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding='utf-8')


def _on_other_data(path: Path, data: str) -> Config:
    if path.stem.endswith('_coco'):
        return read_config(str(path).replace('_coco.py', f'_{data}.py'))
    tree = ast.parse(path.read_text(encoding='utf-8'))
    base = _on_other_data(Path(os.path.normpath(path.parent / _base_of(tree))), data)
    cfg = Config(base.to_dict(), filename=str(path))
    cfg.merge_from_dict(_own_settings(tree, base))
    return cfg


def _base_of(tree: ast.Module) -> str:
    """The one file of a config's ``_base_``."""
    assignments = [node for node in tree.body if isinstance(node, ast.Assign)]
    (base,) = next(ast.literal_eval(node.value) for node in assignments if node.targets[0].id == '_base_')
    return base


def _own_settings(tree: ast.Module, base: Config) -> dict:
    """The settings of a config file without those of its base; ``_base_.NAME`` in it is read from ``base``."""
    names = {'_base_': base}
    exec(compile(RemoveAssignFromAST('_base_').visit(tree), '<config>', 'exec'), names)
    return {name: value for name, value in names.items() if not name.startswith('_')}
