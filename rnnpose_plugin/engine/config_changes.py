"""Plain Python: which settings of a run differ from those in a checkpoint's config, a text that is never executed."""

from __future__ import annotations

import ast
from typing import Any

# Settings that change what is trained; paths of data and of logs do not.
WATCHED = (
    'optim_wrapper', 'param_scheduler', 'auto_scale_lr', 'train_cfg', 'train_dataloader.batch_size', 'randomness',
    'model', 'default_hooks', 'custom_hooks',
)  # fmt: skip
IGNORED = ('model.backbone.init_cfg', 'randomness.seed')  # read before the checkpoint; reported by ResumeHook


def config_changes(text: str | None, cfg: Any) -> list[str]:
    """Settings that matter to a training and are not as they were.

    Args:
        text (str, optional): ``meta['cfg']`` of the checkpoint.
        cfg (Config): Of this run.

    Returns:
        list[str]: Such as 'optim_wrapper.optimizer.lr 0.001 -> 0.002'; empty if the text cannot be read.
    """
    old, new = read_settings(text), read_settings(cfg.pretty_text)
    if not old or not new:
        return []
    return [change for path in WATCHED for change in _compare(_at(old, path), _at(new, path), path)]


def read_settings(text: object) -> dict[str, Any]:
    """The assignments of a config as MMEngine writes it, read without executing them.

    Args:
        text (object): The text; anything else has no settings.

    Returns:
        dict[str, Any]: Values by name; what is not a literal or ``dict(...)`` as text.
    """
    try:
        body = ast.parse(text).body
        pairs = [(node.targets[0], node.value) for node in body if isinstance(node, ast.Assign)]
        return {target.id: _value(value) for target, value in pairs if isinstance(target, ast.Name)}
    except (SyntaxError, TypeError, ValueError, RecursionError, MemoryError):
        return {}


def _value(node: ast.expr) -> Any:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == 'dict':
        return {keyword.arg: _value(keyword.value) for keyword in node.keywords}
    if isinstance(node, ast.Dict):
        return {ast.unparse(key) if key else '**': _value(value) for key, value in zip(node.keys, node.values)}
    if isinstance(node, (ast.List, ast.Tuple)):
        return [_value(part) for part in node.elts]
    return ast.literal_eval(node) if isinstance(node, ast.Constant) else ast.unparse(node)


def _at(settings: Any, path: str) -> Any:
    for name in path.split('.'):
        settings = settings.get(name) if isinstance(settings, dict) else None
    return settings


def _compare(old: Any, new: Any, path: str) -> list[str]:
    if old == new or path in IGNORED:
        return []
    if isinstance(old, list) and isinstance(new, list) and any(isinstance(part, dict) for part in old + new):
        old, new = dict(enumerate(old)), dict(enumerate(new))
    if isinstance(old, dict) and isinstance(new, dict):
        names = [*old, *(name for name in new if name not in old)]
        return [change for name in names for change in _compare(old.get(name), new.get(name), f'{path}.{name}')]
    return [f'{path} {_short(old)} -> {_short(new)}']


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f'{text[:57]}...'
