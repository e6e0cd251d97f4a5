"""From a command line to a Runner: what ``tools/train.py`` and ``tools/test.py`` share."""

from __future__ import annotations

import argparse
import inspect
import os
import re
from typing import Any

from mmengine.config import Config
from mmengine.device import get_device
from mmengine.dist import is_main_process
from mmengine.fileio import dump
from mmengine.runner import Runner

from ..engine import InterruptHook, ResumeHook
from ..shipped import find_shipped
from .checkpoint_file import check_checkpoint_file, check_output_file, checkpoint_to_resume, last_good_checkpoint
from .checks import check_run
from .cpu_processes import cpu_model_wrapper, init_cpu_process_group
from .options import OptionAction

# Top-level settings that mmengine's Runner reads from the config itself, beside its own arguments.
RUNNER_EXTRAS = {
    'activation_checkpointing',
    'compile',
    'efficient_conv_bn_eval',
    'find_unused_parameters',
    'model_wrapper_cfg',
    'sync_bn',
}
EVALUATORS = ('val_evaluator', 'test_evaluator')


def add_shared_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that training and test have in common, with MMPose's names and meanings.

    Args:
        parser (ArgumentParser): The tool's parser.
    """
    parser.add_argument('--work-dir', help="where to write; default: the config's work_dir, or work_dirs/<config name>")
    parser.add_argument(
        '--cfg-options', nargs='+', action=OptionAction, default={}, metavar='KEY=VALUE',
        help='change settings of the config, such as train_dataloader.batch_size=4 or key="[a,b]"',
    )  # fmt: skip
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none', help='job launcher')
    # Two spellings, as torch.distributed.launch changed from one to the other.
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help='set by torch.distributed.launch')


def read_config(path: str) -> Config:
    """Read a config file.

    Args:
        path (str): The file, or the name of a shipped one: ``rnnpose_plugin::rnnpose_hg_coco.py``.

    Returns:
        Config: The config; an evaluator of one metric is a list of it.

    Raises:
        FileNotFoundError: if it, or a file it is built on, does not exist; the message names it.
    """
    path = find_shipped(path)
    if not os.path.isfile(path):
        raise FileNotFoundError(f'config {path!r} does not exist; check the path')
    try:
        cfg = Config.fromfile(path)
    except FileNotFoundError as error:
        base = os.path.normpath(error.filename or str(error))
        raise FileNotFoundError(f'config {path} is built on {base}, which does not exist') from None
    for name in EVALUATORS:
        if cfg.get(name) and isinstance(cfg[name], dict) and 'metrics' not in cfg[name]:
            cfg[name] = [cfg[name]]
    return cfg


def load_config(args: argparse.Namespace) -> Config:
    """Read the config, apply ``--cfg-options`` to it, and set launcher and work directory.

    Args:
        args (Namespace): The parsed command line.

    Returns:
        Config: The config.
    """
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    cfg = read_config(args.config)
    check_options(cfg, args.cfg_options)
    cfg.merge_from_dict(args.cfg_options)
    cfg.launcher = args.cfg_options.get('launcher', args.launcher)
    name = os.path.splitext(os.path.basename(cfg.filename))[0]
    cfg.work_dir = args.work_dir or cfg.get('work_dir') or os.path.join('work_dirs', name)
    if os.path.exists(cfg.work_dir) and not os.path.isdir(cfg.work_dir):
        raise ValueError(f'work_dir {cfg.work_dir} is a file; name a folder')
    return cfg


def check_options(cfg: Config, options: dict[str, Any]) -> None:
    """Refuse a misspelt ``--cfg-options`` key, which MMEngine would add to the config without effect.

    The last name of a key is an argument of the class that the config builds; that class refuses unknown ones.

    Args:
        cfg (Config): The config as it was read.
        options (dict): Dotted keys and their values.
    """
    read_by_runner = set(inspect.signature(Runner).parameters) | RUNNER_EXTRAS
    for key in options:
        first = key.split('.')[0]
        if '' in key.split('.'):
            raise ValueError(f'--cfg-options {key}={options[key]}: a name is missing before or after a dot; write it')
        if first not in read_by_runner and first in cfg:
            places = ', '.join(
                path for path in _paths_to(cfg, key.split('.')[-1]) if path.split('.')[0] in read_by_runner
            )
            raise ValueError(
                f'--cfg-options {key}: {first} is only a variable of the config file; '
                f'set the places that use its value ({places or "look into the config"})'
            )
        if first not in read_by_runner:
            raise ValueError(f'--cfg-options {key}: {cfg.filename} has no setting {first!r}; check the spelling')
        if first in EVALUATORS and isinstance(cfg.get(first), list) and not re.match(r'\w+(\.\d|$)', key):
            key = key.replace(first, f'{first}.0', 1)  # merged by mmengine_changes.merge_evaluators
        _check_parents(cfg, key)


def prepare_training(cfg: Config, args: argparse.Namespace) -> None:
    """Write the flags of ``tools/train.py`` into the config.

    Args:
        cfg (Config): The config, changed in place.
        args (Namespace): The parsed command line.
    """
    if args.no_validate:
        cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    if args.amp:
        _use_amp(cfg)
    if args.auto_scale_lr:
        if not cfg.get('auto_scale_lr') or 'base_batch_size' not in cfg.auto_scale_lr:
            raise ValueError(
                '--auto-scale-lr needs auto_scale_lr = dict(base_batch_size=...) in the config, the batch '
                'size that optim_wrapper.optimizer.lr is meant for; add it'
            )
        cfg.auto_scale_lr.enable = True
    if cfg.get('resume') not in (None, True, False):
        raise ValueError(f'resume={cfg.resume}; it has to be True or False, and --resume FILE names a checkpoint')
    if args.resume not in (None, 'auto'):
        cfg.resume, cfg.load_from = True, args.resume
    elif args.resume or (cfg.get('resume') and not cfg.get('load_from')):
        # A run that was stopped before its first checkpoint starts again from the config's load_from.
        last = checkpoint_to_resume(cfg.work_dir)
        cfg.resume, cfg.load_from = bool(last), last or cfg.get('load_from')
    _check_start(cfg)


def prepare_test(cfg: Config, args: argparse.Namespace) -> None:
    """Write the arguments of ``tools/test.py`` into the config.

    Args:
        cfg (Config): The config, changed in place.
        args (Namespace): The parsed command line.
    """
    checkpoint = find_shipped(args.checkpoint)
    if os.path.isdir(checkpoint):
        checkpoint = last_good_checkpoint(checkpoint)
        if checkpoint is None:
            raise FileNotFoundError(f'there is no checkpoint in the folder {args.checkpoint}; check the path')
    check_checkpoint_file(checkpoint)
    cfg.load_from, cfg.resume = checkpoint, False
    read = [cfg.filename, checkpoint, *_annotation_files(cfg)]
    for option, path, suffix in (('--out', args.out, '.json'), ('--dump', args.dump, '.pkl')):
        if path:
            check_output_file(option, path, suffix, read)
    if args.dump:
        metrics = cfg.test_evaluator if isinstance(cfg.test_evaluator, list) else [cfg.test_evaluator]
        cfg.test_evaluator = [*metrics, dict(type='DumpPredictions', out_file_path=args.dump)]
    if args.show_dir:
        _draw_results(cfg, args.show_dir)


def run_test(cfg: Config, out: str | None) -> None:
    """Test a model and save its metrics, also where the predictions could not be saved.

    Args:
        cfg (Config): The config, with all flags in it.
        out (str, optional): A JSON file for the metrics.
    """
    runner = build_runner(cfg, training=False)
    metrics = runner.test()
    if out and is_main_process():
        dump(metrics, out)
    for metric in runner.test_evaluator.metrics:
        if getattr(metric, 'error', None) is not None:
            raise metric.error


def build_runner(cfg: Config, training: bool) -> Runner:
    """Check a config's settings and data and build its Runner.

    Args:
        cfg (Config): The config, with all flags in it.
        training (bool): True to train, False to test.

    Returns:
        Runner: Ready for ``train()`` or ``test()``.
    """
    check_run(cfg, training)
    if init_cpu_process_group(cfg.launcher):
        cfg.model_wrapper_cfg = cpu_model_wrapper(cfg.get('find_unused_parameters', False))
    if os.path.realpath(cfg.filename) == os.path.realpath(os.path.join(cfg.work_dir, os.path.basename(cfg.filename))):
        super(Config, cfg).__setattr__('_filename', None)  # the Runner would write the merged config over this file
    runner = Runner.from_cfg(cfg)
    runner.register_hook(InterruptHook())
    runner.register_hook(ResumeHook())
    return runner


def _check_parents(cfg: Config, key: str) -> None:
    *parents, leaf = key.split('.')
    node = {parents[0]: cfg.get(parents[0], {})} if parents else {}
    for depth, name in enumerate(parents):
        below = dict(_items(node))
        if name not in below:
            here = '.'.join(parents[:depth])
            raise ValueError(
                f'--cfg-options {key}: {here} in {cfg.filename} has no setting {name!r}, only '
                f'{", ".join(below)}; check the spelling, or give the whole dict as '
                f'{".".join(parents[: depth + 1])}'
            )
        node = below[name]
    if not isinstance(node, dict) and leaf not in dict(_items(node)):
        raise ValueError(f'--cfg-options {key}: {".".join(parents)} in {cfg.filename} is {node!r}, without a {leaf!r}')


def _items(node: Any) -> list[tuple[str, Any]]:
    if isinstance(node, (list, tuple)):
        return [(str(index), value) for index, value in enumerate(node)]
    return list(node.items()) if isinstance(node, (dict, Config)) else []


def _paths_to(node: Any, name: str, prefix: str = '') -> list[str]:
    """Dotted paths of all settings of a name."""
    paths = []
    for key, value in _items(node):
        paths += [f'{prefix}{key}'] if key == name else []
        paths += _paths_to(value, name, f'{prefix}{key}.')
    return paths


def _use_amp(cfg: Config) -> None:
    if get_device() not in ('cuda', 'npu', 'mlu', 'musa'):
        raise ValueError(f'--amp needs an accelerator, and this machine has none (device {get_device()}); leave it out')
    kind = cfg.optim_wrapper.get('type', 'OptimWrapper')
    if kind not in ('OptimWrapper', 'AmpOptimWrapper'):
        raise ValueError(f'--amp replaces OptimWrapper only, but optim_wrapper.type is {kind}; leave it out')
    cfg.optim_wrapper.type = 'AmpOptimWrapper'
    cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')


def _check_start(cfg: Config) -> None:
    """Check the files that a training starts from; the Runner would open them only after the data are loaded."""
    if cfg.get('load_from'):
        cfg.load_from = find_shipped(cfg.load_from) if isinstance(cfg.load_from, str) else cfg.load_from
        check_checkpoint_file(cfg.load_from)
    if not isinstance(cfg.model, dict):
        raise ValueError(f'model={cfg.model}; it has to be a dict')
    for init_cfg in _pretrained_backbone(cfg):
        path = init_cfg['checkpoint'] = find_shipped(init_cfg['checkpoint'])
        if '://' not in path and not os.path.isfile(path):
            raise FileNotFoundError(
                f'the weights {path} of model.backbone.init_cfg do not exist; train them first, or start without: '
                '--cfg-options model.backbone.init_cfg=None model.freeze_backbone=False'
            )
        check_checkpoint_file(path)


def _pretrained_backbone(cfg: Config) -> list[dict]:
    init_cfg = cfg.model.get('backbone', {}).get('init_cfg') or []
    parts = init_cfg if isinstance(init_cfg, (list, tuple)) else [init_cfg]
    return [part for part in parts if isinstance(part, dict) and part.get('checkpoint')]


def _annotation_files(node: Any, root: str = '') -> list[str]:
    """Paths of all annotation files that a config names."""
    parts = dict(_items(node))
    root = str(parts.get('data_root') or root)
    own = [os.path.join(root, parts['ann_file'])] if isinstance(parts.get('ann_file'), str) else []
    return own + [path for part in parts.values() for path in _annotation_files(part, root)]


def _draw_results(cfg: Config, out_dir: str) -> None:
    hook = cfg.default_hooks.get('visualization')
    if hook is None:
        raise ValueError(
            "--show-dir needs default_hooks.visualization = dict(type='PoseVisualizationHook') in the config; add it"
        )
    if str(hook.get('type')).split('.')[-1] == 'PoseVisualizationHook':
        hook.type = 'ResultImagesHook'
    hook.update(enable=True, out_dir=out_dir, interval=1)
