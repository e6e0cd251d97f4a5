"""Changes how MMEngine reads and writes files and merges configs; ``compat.apply`` makes the changes.

MMEngine executes what a checkpoint contains, leaves cut-off files on a full disk, deletes an old checkpoint before it
writes the new one, and does not merge an evaluator given as a dict into a list of metrics.
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


def delete_after_saving() -> None:
    """Lets CheckpointHook delete an old checkpoint once the new one is whole: a full disk leaves the old one."""
    from mmengine.hooks import CheckpointHook

    for name in ('_save_checkpoint_with_step', '_save_best_checkpoint'):
        save = getattr(CheckpointHook, name)
        if not hasattr(save, '__wrapped__'):
            setattr(CheckpointHook, name, _deleting_last(save))


def _deleting_last(save: Callable) -> Callable:
    @wraps(save)
    def saved(hook: Any, *args: Any, **kwargs: Any) -> None:
        backend, hook.file_backend = hook.file_backend, _Deferred(hook.file_backend)
        try:
            save(hook, *args, **kwargs)
            asked = hook.file_backend.asked
        finally:
            hook.file_backend = backend
        new = [
            hook.last_ckpt,
            getattr(hook, 'best_ckpt_path', None),
            *getattr(hook, 'best_ckpt_path_dict', {}).values(),
        ]
        written = {os.path.realpath(path) for path in new if path}
        for name, path in asked:
            if os.path.realpath(path) not in written:  # the new one may have the name of the old
                getattr(backend, name)(path)

    return saved


class _Deferred:
    """A file backend that notes what to delete."""

    def __init__(self, backend: Any) -> None:
        self.backend, self.asked = backend, []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.backend, name)

    def remove(self, path: str) -> None:
        self.asked.append(('remove', path))

    def rmtree(self, path: str) -> None:
        self.asked.append(('rmtree', path))


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
