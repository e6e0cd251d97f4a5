"""Every checkpoint that MMEngine loads, local or remote, by torch's weights-only unpickler: nothing in it is run."""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

import torch
from mmengine.runner import checkpoint as loaders
from mmengine.runner.checkpoint import CheckpointLoader
from mmengine.utils import digit_version

from .checkpoint_file import check_checkpoint_file

PLAIN = (
    ast.Module, ast.Assign, ast.Name, ast.expr_context, ast.Constant, ast.List, ast.Tuple, ast.Set, ast.Dict, ast.Call,
    ast.keyword, ast.UnaryOp, ast.unaryop,
)  # fmt: skip
FORCE, FORBID = 'TORCH_FORCE_WEIGHTS_ONLY_LOAD', 'TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD'


def restrict_checkpoint_loader() -> None:
    """Replace the one method through which MMEngine and MMPose load checkpoints.

    So ``load_from``, ``resume``, ``init_cfg``, ``init_model`` and the inferencers run nothing of a file, whichever of
    MMEngine's sources (a path, http, ``torchvision://``, ``open-mmlab://``, ...) it comes from. The loaders for remote
    files, and those of forks of MMEngine, ask torch for an unrestricted load.
    """
    if hasattr(loaders, '_safe_torch_load'):  # onedl-mmengine's allows getattr, and then reads everything
        loaders._safe_torch_load = torch.load
    original = CheckpointLoader.load_checkpoint.__func__
    if hasattr(original, '__wrapped__'):
        return

    @wraps(original)
    def load_checkpoint(cls: type, filename: str, map_location: Any = None, logger: Any = 'current') -> dict:
        name = os.fspath(filename)
        with _sentences(name), _weights_only(name):
            check_checkpoint_file(name)
            checkpoint = original(cls, name, map_location, logger)
        return _without_code(checkpoint, name)

    CheckpointLoader.load_checkpoint = classmethod(load_checkpoint)


def read_checkpoint(path: str) -> dict:
    """Read a checkpoint into memory without running anything in it.

    Args:
        path (str): a file, or a URL that MMEngine knows.

    Returns:
        dict: The checkpoint.

    Raises:
        ValueError: if it is damaged or holds other objects than weights and plain values.
        OSError: if it does not exist or cannot be fetched.
    """
    return CheckpointLoader.load_checkpoint(path, map_location='cpu', logger='silent')


@contextmanager
def _weights_only(name: str) -> Iterator[None]:
    """Let torch refuse everything but weights, whatever the caller of ``torch.load`` asks for.

    Before torch 2.6 that cannot read the histories in MMEngine's own checkpoints: there a local file is read without.
    """
    if digit_version(torch.__version__) < digit_version('2.6.0') and '://' not in name:
        yield
        return
    before = {key: os.environ.pop(key, None) for key in (FORCE, FORBID)}
    os.environ[FORCE] = '1'
    try:
        yield
    finally:
        del os.environ[FORCE]
        os.environ.update({key: value for key, value in before.items() if value is not None})


@contextmanager
def _sentences(name: str) -> Iterator[None]:
    """One sentence for what torch, torch.hub and MMEngine raise; torch's advises to load without restriction."""
    remote = '://' in name
    try:
        yield
    except (ImportError, ValueError):
        raise
    except OSError as error:
        if not remote:
            raise
        raise OSError(f'checkpoint {name} cannot be fetched ({error}); download it and name the file') from None
    except KeyError:
        if not remote:
            raise _damaged(name) from None
        raise ValueError(f'checkpoint {name}: there are no weights of this name; name a file, or correct it') from None
    except Exception as error:  # what torch raises depends on the kind of the file
        found = re.search(r'GLOBAL ([\w.]+)|class (\S+)', str(error).partition('WeightsUnpickler error')[2])
        if found is None:
            raise _damaged(name) from None
        raise ValueError(
            f'checkpoint {name} holds more than weights ({found[1] or found[2]}), and reading that could run code; '
            'nothing was read: get a file with a state_dict only, or make one where you trust the file'
        ) from None


def _damaged(name: str) -> ValueError:
    return ValueError(f'{name} is not a checkpoint that torch can read: damaged, or of another kind; use another')


def _without_code(checkpoint: object, name: str) -> dict:
    """The checkpoint without the texts that MMEngine executes as a config and that are more than values.

    Its Runner executes ``meta['config']`` when it resumes, and its inferencers ``meta['cfg']``.
    """
    if not isinstance(checkpoint, dict):
        raise ValueError(f'{name} is not a checkpoint but a {type(checkpoint).__name__}; name one with a state_dict')
    meta = checkpoint.get('meta')
    if meta is not None and not isinstance(meta, dict):
        raise ValueError(f'checkpoint {name}: its meta is a {type(meta).__name__}, not a dict; use another one')
    if meta:
        meta.pop('config', None)
        if 'cfg' in meta and not _is_plain(meta['cfg']):
            del meta['cfg']
    return checkpoint


def _is_plain(text: object) -> bool:
    """Whether a config only assigns values and ``dict(...)``, without a base and without MMEngine's ``{{ }}``."""
    try:
        nodes = [] if not isinstance(text, str) or '{{' in text else list(ast.walk(ast.parse(text)))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    calls = [node for node in nodes if isinstance(node, ast.Call)]
    called = all(isinstance(call.func, ast.Name) and call.func.id in ('dict', 'float', 'set') for call in calls)
    bases = any(isinstance(node, ast.Name) and node.id == '_base_' for node in nodes)
    return bool(nodes) and called and not bases and all(isinstance(node, PLAIN) for node in nodes)
