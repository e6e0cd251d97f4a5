"""One of the two models of a comparison: its config with the data of the comparison, its checkpoint, its network."""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import redirect_stdout
from copy import deepcopy
from dataclasses import dataclass, field

import torch
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.device import get_device
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import init_default_scope
from mmengine.runner.checkpoint import CheckpointLoader
from mmpose.registry import DATASETS, METRICS, MODELS
from torch.nn import Module

from rnnpose_plugin.engine.checkpoint_fit_hook import refuse_misfit, refuse_other_normalisation
from rnnpose_plugin.runtime.check_evaluation import metrics_of
from rnnpose_plugin.runtime.checkpoint_file import check_checkpoint_file
from rnnpose_plugin.runtime.checks import check_config
from rnnpose_plugin.runtime.launch import check_options, read_config

# Settings that define the images and people of a data set.
PLACE = ('type', 'data_root', 'ann_file', 'data_prefix', 'metainfo')
# How a metric ranks poses, suppresses duplicates and scales OKS, with the defaults of MMPose.
SCORING = dict(nms_mode='oks_nms', nms_thr=0.9, score_mode='bbox_keypoint', keypoint_score_thr=0.2, use_area=True)


@dataclass
class Contender:
    """A model of a comparison.

    Args:
        name (str): for tables and plots.
        config (str): path of its config.
        checkpoint (str): path of its checkpoint.
        cfg (Config): the config with options and data merged.
        scoring (dict): how the config's metric ranks poses, suppresses duplicates and scales OKS, keys of ``SCORING``.
    """

    name: str
    config: str
    checkpoint: str
    cfg: Config
    scoring: dict = field(default_factory=lambda: dict(SCORING))

    @property
    def dataset_cfg(self) -> dict:
        """dict: config of its test data."""
        return self.cfg.test_dataloader.dataset

    def build_dataset(self, **settings) -> BaseDataset:
        """The test data.

        Args:
            **settings: further arguments of the data set.

        Returns:
            BaseDataset: the data set.
        """
        init_default_scope(self.cfg.get('default_scope', 'mmpose'))
        with redirect_stdout(None):  # pycocotools prints
            return DATASETS.build(dict(self.dataset_cfg, **settings))

    def build_model(self) -> tuple[Module, dict]:
        """The network with the weights of the checkpoint, for testing.

        Returns:
            tuple[Module, dict]: the model on the CPU, in evaluation mode, and the checkpoint's ``meta``.

        Raises:
            ValueError: if the checkpoint does not fit the config.
        """
        init_default_scope(self.cfg.get('default_scope', 'mmpose'))
        model = revert_sync_batchnorm(MODELS.build(deepcopy(self.cfg.model)))
        checkpoint = CheckpointLoader.load_checkpoint(self.checkpoint, map_location='cpu')
        refuse_misfit(model, checkpoint, self.checkpoint)
        refuse_other_normalisation(model, checkpoint, self.checkpoint)
        return model.eval(), checkpoint.get('meta') or {}

    def identity(self, count: int) -> dict:
        """What the predictions depend on, for the header of their file.

        Args:
            count (int): images of the data set.

        Returns:
            dict: name of the part -> description and hash.
        """
        dataset = self.build_dataset(lazy_init=True, pipeline=[])
        pipeline = self.dataset_cfg.get('pipeline')
        settings = json.dumps([self.cfg.model, pipeline], sort_keys=True, default=str)
        images = os.path.realpath(dataset.data_prefix.get('img', ''))
        return {
            'config': [self.config, hashlib.sha256(settings.encode()).hexdigest()],
            'checkpoint': [self.checkpoint, hash_of_file(self.checkpoint)],
            'data set': [f'{dataset.ann_file}, {count} images', hash_of_file(dataset.ann_file) + images],
            'machine': [machine(), machine()],
        }


def load_contender(
    name: str, config: str, checkpoint: str, options: dict | None = None, data: str | None = None
) -> Contender:
    """Read a model's config and set the data of the comparison.

    Args:
        name (str): for tables and plots.
        config (str): path of its config.
        checkpoint (str): path of its checkpoint.
        options (dict, optional): changes to the config, dotted keys and values. Defaults to None.
        data (str, optional): path of the config whose test set is used. Defaults to None, ``config``.

    Returns:
        Contender: its files exist; the model is not built yet.

    Raises:
        ValueError: for a model that is not bottom-up, or a config without a single data set to test on.
    """
    cfg = read_config(config)
    check_options(cfg, options or {})
    cfg.merge_from_dict(options or {})
    if '://' in checkpoint:
        raise ValueError(f'checkpoint {checkpoint} is a URL; download the file and give its path')
    check_checkpoint_file(checkpoint)
    _check_test_set(cfg, config)
    if data is not None:
        place = read_config(data)
        _check_test_set(place, data)
        _copy_place(cfg.test_dataloader.dataset, place.test_dataloader.dataset)
    if cfg.test_dataloader.dataset.get('data_mode', 'topdown') != 'bottomup':
        raise ValueError(
            f"{config} is not a bottom-up config (its test data has no data_mode='bottomup'); compare bottom-up models"
        )
    return Contender(name, config, checkpoint, cfg, _scoring(cfg))


def check_test_data(contender: Contender) -> None:
    """Refuse test data that are missing or do not fit the model, before the long run starts.

    Args:
        contender (Contender): the model.
    """
    init_default_scope(contender.cfg.get('default_scope', 'mmpose'))
    # In place of the config's metrics: the comparison evaluates with the annotation file of the data set.
    metric = dict(type='BottomupCocoMetric', use_area=contender.scoring['use_area'])
    check_config(Config(dict(contender.cfg.to_dict(), test_evaluator=[metric])), training=False)


def hash_of_file(path: str) -> str:
    """Hash of the content of a file.

    Args:
        path (str): the file.

    Returns:
        str: its SHA-256.
    """
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        for block in iter(lambda: file.read(2**20), b''):
            digest.update(block)
    return digest.hexdigest()


def machine() -> str:
    """The device on which latencies are measured.

    Returns:
        str: such as ``'cpu, 2 threads'``.
    """
    if get_device() == 'cuda':
        return f'cuda ({torch.cuda.get_device_name()})'
    threads = torch.get_num_threads()
    return f'{get_device()}, {threads} thread{"s" if threads > 1 else ""}'


def _check_test_set(cfg: Config, path: str) -> None:
    loader = cfg.get('test_dataloader')
    if not loader or 'ann_file' not in loader.dataset:
        raise ValueError(
            f'{path} has no test_dataloader.dataset with an ann_file; give a config that has one with --data'
        )


def _copy_place(dataset_cfg: dict, place: dict) -> None:
    for key in PLACE:
        dataset_cfg.pop(key, None)
        if key in place:
            dataset_cfg[key] = deepcopy(place[key])


def _scoring(cfg: Config) -> dict:
    """Settings of the first CocoMetric (or subclass) of the config."""
    for metric in metrics_of(cfg.get('test_evaluator') or []):
        kind = metric.get('type')
        kind = METRICS.get(kind) if isinstance(kind, str) else kind
        if isinstance(kind, type) and issubclass(kind, METRICS.get('CocoMetric')):
            return {key: metric.get(key, default) for key, default in SCORING.items()}
    return dict(SCORING)
