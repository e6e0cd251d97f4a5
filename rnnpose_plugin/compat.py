"""Lets MMPose 1.3 be imported, load checkpoints and train on current versions of its requirements.

Without it, MMPose does not import beside mmcv-lite, checkpoints do not load with torch >= 2.6, and activation
checkpointing silently trains no backbone. Each repair does nothing where it is not needed. MMPose is imported only
after its requirements have been checked, so that a missing package is reported in one sentence and not by a traceback.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import pickle
import re
import sys
from contextlib import nullcontext
from functools import wraps
from importlib.metadata import version
from types import ModuleType
from typing import Any, Callable

# Module to import -> lowest version. Named is the part of a package that fails, its compiled module.
REQUIREMENTS = {
    'numpy': '',
    'torch': '2.1',
    'cv2': '',
    'PIL.Image': '',
    'matplotlib.pyplot': '',
    'mmengine': '',
    'mmcv': '2.0',
    'mmpose': '1.3',
    'scipy.optimize': '',
    'pycocotools.mask': '',
}

# Importing these runs every import that MMPose's own registrations need.
MMPOSE_PACKAGES = ('mmpose.models', 'mmpose.datasets', 'mmpose.evaluation')

# Arguments for pip, where they differ from the name of the module.
PIP_ARGUMENTS = {
    'torch': "'torch>=2.1'",
    'mmcv': "'mmcv-lite>=2.0,<2.2'",
    'mmpose': "--no-deps 'mmpose>=1.3'",  # its metadata asks for chumpy, which does not build (mmpose #3218)
    'cv2': 'opencv-python',
    'PIL': 'pillow',
    'yaml': 'pyyaml',
}

# The one op that `import mmpose.models` needs without a guard, for the EDPose head (mmpose #3250).
UNGUARDED_OPS = ('MultiScaleDeformableAttention',)

# The methods that every mmengine HistoryBuffer carries in its pickle.
HISTORY_BUFFER_METHODS = ('min', 'max', 'current', 'mean')


def check_requirements() -> None:
    """Raises an ImportError of one sentence when a direct requirement is missing, too old or broken."""
    problems = missing_requirements()
    if problems:
        raise _refusal(problems)


def missing_requirements() -> list[str]:
    """Lists what is missing, too old or broken among the direct requirements.

    Returns:
        One phrase per package at fault, with its cure; not those that fail only because another one on the list is
        missing.
    """
    problems: dict[str, str] = {}
    for module, minimum in REQUIREMENTS.items():
        error = _import_error(module)
        if error is not None:
            phrase = _describe(module, error)
            if not any(_reason(error) in known for known in problems.values()):
                problems.setdefault(_package_at_fault(module, error), phrase)
        elif minimum and _release(sys.modules[module].__version__) < _release(minimum):
            problems[module] = f'{module} {sys.modules[module].__version__} is older than {minimum} ({_cure(module)})'
    return list(problems.values())


def check_mmpose() -> None:
    """Raises an ImportError of one sentence when MMPose does not import, for example because of a missing package.

    Call it after `apply`, without which MMPose does not import beside mmcv-lite.
    """
    for module in MMPOSE_PACKAGES:
        error = _import_error(module)
        if error is not None:
            raise _refusal([_describe(module, error)]) from error


def apply() -> None:
    """Makes MMPose importable, checkpoints loadable without running code in them, and activation checkpointing train.

    A second call changes nothing.
    """
    from .mmengine_changes import delete_after_saving, merge_evaluators, restrict_and_complete_files

    replace_missing_mmcv_ops()
    replace_missing_xtcocotools()
    allow_training_checkpoints()
    restrict_and_complete_files()
    delete_after_saving()
    correct_activation_checkpointing()
    merge_evaluators()


def replace_missing_mmcv_ops() -> None:
    """Lets `import mmpose.models` pass without mmcv's compiled ops; a full mmcv is not changed.

    It has only what MMPose imports without a guard; any other op is missing, for MMPose's own guards.
    """
    if 'mmcv.ops' in sys.modules or importlib.util.find_spec('mmcv._ext') is not None:
        return
    module = ModuleType('mmcv.ops', 'Replacement by rnnpose_plugin: mmcv is installed without its compiled ops.')
    module.__spec__ = importlib.util.spec_from_loader('mmcv.ops', loader=None)
    module.__getattr__ = _absent_op
    for name in UNGUARDED_OPS:
        setattr(module, name, _MissingOp(name, (), {'__module__': 'mmcv.ops'}))
    sys.modules['mmcv.ops'] = sys.modules['mmcv'].ops = module


def replace_missing_xtcocotools() -> None:
    """Lets MMPose pass without xtcocotools, or beside numpy 2, with which its published wheel does not load."""
    error = _import_error('xtcocotools.mask')
    if error is None:
        return
    if not _is_absence(error) and version('numpy').startswith('1.'):
        raise _refusal([_describe('xtcocotools', error)]) from error
    import pycocotools.mask

    from . import coco_api

    package = sys.modules['xtcocotools'] = ModuleType('xtcocotools', 'Replacement by rnnpose_plugin.')
    package.__path__, package.__spec__ = [], importlib.util.spec_from_loader('xtcocotools', loader=None)
    for name, module in dict(coco=coco_api, cocoeval=coco_api, mask=pycocotools.mask).items():
        setattr(package, name, module)
        sys.modules[f'xtcocotools.{name}'] = module


def allow_training_checkpoints() -> None:
    """Lets `load_from` and `resume` read MMEngine's training checkpoints with torch's safe, weights-only unpickler.

    That unpickler is the default since torch 2.6, and MMEngine 0.10.7 does not support it (mmengine #1655). Allowed are
    the types found in such checkpoints: the logged histories, the best score (a numpy scalar), and the arrays of the
    data set's meta information (an empty array, such as the colours of a skeleton without links, refers to bytes).
    """
    import numpy as np
    import torch
    from mmengine.logging import HistoryBuffer

    if _release(torch.__version__) < (2, 6):  # older ones load without it, and do not take names (pytorch #142153)
        return
    # Taken from numpy itself, as its private module was renamed in numpy 2; a checkpoint may hold either name.
    rebuilders = [np.empty(0).__reduce__()[0], np.float64(0).__reduce__()[0]]
    names = [(f, f'numpy.{core}.multiarray.{f.__name__}') for f in rebuilders for core in ('core', '_core')]
    dtypes = [type(np.dtype(name)) for name in ('float64', 'int64', 'float32', 'uint8')]
    torch.serialization.add_safe_globals(
        [HistoryBuffer, (history_buffer_method, 'builtins.getattr'), np.ndarray, np.dtype, bytes, *names, *dtypes]
    )


def history_buffer_method(owner: Any, name: str) -> Any:
    """Replaces `getattr` while a checkpoint is read: the pickle of a HistoryBuffer contains its methods.

    Args:
        owner: The object whose attribute the checkpoint asks for.
        name: The attribute's name.

    Returns:
        A method of mmengine's HistoryBuffer.

    Raises:
        pickle.UnpicklingError: For any other attribute.
    """
    from mmengine.logging import HistoryBuffer

    if owner is HistoryBuffer and name in HISTORY_BUFFER_METHODS:
        return getattr(owner, name)
    raise pickle.UnpicklingError(f'refused: the file asks for attribute {name!r} of {owner!r}')


def correct_activation_checkpointing() -> None:
    """Makes the gradients with the Runner's `activation_checkpointing=['backbone']` equal those without it.

    MMEngine 0.10.7 calls torch's checkpoint in its reentrant form, which gives no gradient to a module whose input
    needs none, such as the backbone: it would not be trained, with only a warning.
    """
    from mmengine.runner import activation_checkpointing

    activation_checkpointing.wrap_forward = checkpointed


def checkpointed(forward: Callable) -> Callable:
    """Wraps a module's `forward` so that its activations are computed again for the backward pass.

    Args:
        forward: A module's method.

    Returns:
        A function with the same arguments and results; running statistics count each batch once.
    """
    from torch.utils.checkpoint import checkpoint

    @wraps(forward)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        contexts = nullcontext(), _BuffersKept(forward.__self__)  # of the first and the second computation
        return checkpoint(forward, *args, use_reentrant=False, context_fn=lambda: contexts, **kwargs)

    return wrapper


class _BuffersKept:
    """A context that restores a module's buffers, its running statistics; it may be entered again."""

    def __init__(self, module: Any) -> None:
        self.module = module

    def __enter__(self) -> None:
        self.kept = [(buffer, buffer.clone()) for buffer in self.module.buffers()]

    def __exit__(self, *error: Any) -> None:
        for buffer, value in self.kept:
            buffer.data.copy_(value)  # past autograd, which has saved the buffer and would refuse a change


class _MissingOp(type):
    """The type of a replacement: a class that can be imported and subclassed, but raises when it is called."""

    def __call__(cls, *args: Any, **kwargs: Any) -> None:
        raise ImportError(_absence(cls.__name__))


def _absent_op(name: str) -> None:
    if name.startswith('_'):  # read by Python itself, as in inspect.getmodule
        raise AttributeError(f"module 'mmcv.ops' has no attribute {name!r}")
    raise ModuleNotFoundError(_absence(name), name='mmcv._ext')  # as mmcv-lite raises, and MMPose's guards expect


def _absence(op: str) -> str:
    return (
        f'{op} is a compiled op of mmcv, which is installed here without them: '
        'replace mmcv-lite by a full mmcv built for this torch to use it.'
    )


def _import_error(module: str) -> Exception | None:
    try:
        importlib.import_module(module)
    except Exception as error:  # a binary or a version check of another package may raise anything
        return error
    return None


def _is_absence(error: Exception) -> bool:
    """Whether a whole package is missing, and not a part of an installed one."""
    return isinstance(error, ModuleNotFoundError) and bool(error.name) and '.' not in error.name


def _package_at_fault(module: str, error: Exception) -> str:
    return error.name if _is_absence(error) else module.split('.')[0]


def _describe(module: str, error: Exception) -> str:
    if not _is_absence(error):
        return f'{module} does not import ({_reason(error)})'
    user = '' if module.split('.')[0] == error.name else f', which {module} imports,'
    return f'{error.name}{user} is not installed ({_cure(error.name)})'


def _reason(error: Exception) -> str:
    return f'{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ""}'.rstrip('.')


def _cure(package: str) -> str:
    return f'pip install {PIP_ARGUMENTS.get(package, package)}'


def _refusal(problems: list[str]) -> ImportError:
    """An ImportError of one sentence, which a program that does not catch it prints without a traceback."""
    refusal = ImportError(
        f'rnnpose_plugin needs a working MMPose 1.3, but {", ".join(problems)}; '
        '`make install` in its repository makes a working environment.'
    )
    previous = sys.excepthook

    def hook(kind: type, error: BaseException, trace: Any) -> None:
        if error is not refusal or os.environ.get('RNNPOSE_TRACEBACK') == '1':
            previous(kind, error, trace)
        else:
            print(f'error: {error}', file=sys.stderr)

    sys.excepthook = hook
    return refusal


def _release(version: str) -> tuple[int, ...]:
    """Gives the first two numbers of a version: '2.14.1+cpu' -> (2, 14)."""
    return tuple(int(number) for number in re.findall(r'\d+', version)[:2])
