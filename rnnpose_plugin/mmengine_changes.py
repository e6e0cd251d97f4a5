"""Changes how MMEngine reads and writes files and merges configs; ``compat.apply`` makes the changes.

MMEngine executes what a checkpoint contains, leaves cut-off files on a full disk, and does not merge an evaluator given
as a dict into a list of metrics.
"""

from __future__ import annotations

import os
from functools import wraps
from typing import Any, Callable


def restrict_and_complete_files() -> None:
    """Lets MMEngine run nothing of a checkpoint it loads, and leave no cut-off file where it could not write one."""
    from mmengine.fileio import LocalBackend

    from .runtime.restricted_load import restrict_checkpoint_loader

    restrict_checkpoint_loader()
    LocalBackend.put = put_whole
    LocalBackend.put_text = put_whole_text


def put_whole(backend: Any, obj: bytes, filepath: Any) -> None:
    """Writes a file for MMEngine's `LocalBackend`: checkpoints, dumps, images.

    Args:
        backend: Not used.
        obj: The content.
        filepath: The file; its folder is made.
    """
    from .runtime.checkpoint_file import whole_file

    os.makedirs(os.path.dirname(filepath) or '.', exist_ok=True)
    with whole_file(filepath) as file:
        file.write(obj)


def put_whole_text(backend: Any, obj: str, filepath: Any, encoding: str = 'utf-8') -> None:
    """Writes a text file for MMEngine's `LocalBackend`.

    Args:
        backend: Not used.
        obj: The content.
        filepath: The file; its folder is made.
        encoding: Of the file.
    """
    put_whole(backend, obj.encode(encoding), filepath)


def merge_evaluators() -> None:
    """Lets a config give its evaluator as a dict, as MMPose's do, where the config below it has a list of metrics.

    MMEngine refuses that. A dict of the type of the list's first metric, or without a type, changes that metric as a
    dict changes a dict; one of another type, or with ``_delete_=True``, replaces the list.
    """
    from mmengine import Config

    merge = Config._merge_a_into_b
    if getattr(merge, 'merges_evaluators', False):
        return

    @wraps(merge)
    def merged(a: dict, b: Any, allow_list_keys: bool = False) -> Any:
        below = {name: b.get(name) for name in ('val_evaluator', 'test_evaluator')} if isinstance(b, dict) else {}
        for name, metrics in below.items():
            given = a.get(name)
            if isinstance(metrics, list) and metrics and isinstance(given, dict) and not any(map(str.isdigit, given)):
                a = dict(a, **{name: _merged_metrics(given, metrics, merge)})
        return merge(a, b, allow_list_keys)

    merged.merges_evaluators = True
    Config._merge_a_into_b = staticmethod(merged)


def _merged_metrics(given: dict, metrics: list, merge: Callable) -> list | dict:
    replaces = given.get('_delete_', False) or given.get('type', metrics[0].get('type')) != metrics[0].get('type')
    if replaces or 'metrics' in given:
        alone = {key: value for key, value in given.items() if key != '_delete_'}
        return dict(alone, _delete_=True) if 'metrics' in given else [alone]
    return [merge(given, metrics[0]), *metrics[1:]]
