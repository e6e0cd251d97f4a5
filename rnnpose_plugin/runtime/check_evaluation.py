"""Refuse an evaluation that would fail after the last image, or report a number that means something else."""

from __future__ import annotations

import os
from collections.abc import Iterable
from numbers import Real

from mmengine.config import Config
from mmengine.logging import print_log
from mmpose.datasets.datasets.base import BaseCocoStyleDataset
from mmpose.evaluation import metrics as mmpose_metrics
from mmpose.registry import DATASETS, METRICS

from ..datasets.keypoint_file import read_json
from ..evaluation.truth import CATEGORY, area_of, clean_truth, has_area, is_person
from .check_data import check_annotation_file, leaf_datasets

# Metrics that compare one pose with one person, which a bottom-up sample is not.
ONE_PERSON = tuple(
    getattr(mmpose_metrics, name)
    for name in ('PCKAccuracy', 'AUC', 'EPE', 'NME', 'InterHandMetric', 'MPJPE', 'SimpleMPJPE')
)
CURE = "use type='BottomupCocoMetric'"
OWN_FILE = "leave ann_file out, then the data set's own is used, or name the file of the images that are tested"


def check_evaluation(cfg: Config, training: bool) -> None:
    """Check the metrics of a run, and the annotation files that they read.

    Args:
        cfg (Config): The config.
        training (bool): True for the validation during training, False for a test.

    Raises:
        ValueError: for the first metric that does not fit the data.
    """
    name = 'val' if training else 'test'
    loader, evaluator = cfg.get(f'{name}_dataloader'), cfg.get(f'{name}_evaluator')
    if not loader or not evaluator:
        return
    leaves = list(leaf_datasets(loader['dataset']))
    together = not (isinstance(evaluator, dict) and 'datasets' in evaluator)  # MultiDatasetEvaluator separates them
    metrics = metrics_of(evaluator)
    # COCO's test-dev files have no annotations; a metric with format_only asks for none.
    formatting = any(metric.get('format_only') for metric in metrics)
    for metric in metrics:
        kind = METRICS.get(metric['type']) if isinstance(metric['type'], str) else metric['type']
        where = f'{name}_evaluator ({getattr(kind, "__name__", metric["type"])})'
        if any(leaf.get('data_mode') == 'bottomup' for leaf in leaves):
            _check_kind(metric, kind, where)
        if isinstance(kind, type) and issubclass(kind, mmpose_metrics.CocoMetric):
            _check_output(metric, where)
            if together and not formatting:
                _check_files(metric, kind, leaves, where)


def metrics_of(evaluator: dict | Iterable[dict]) -> list[dict]:
    """The metrics of an evaluator.

    Args:
        evaluator (dict | Iterable[dict]): A metric, a list of metrics, or a dict with ``metrics``.

    Returns:
        list[dict]: Their configs, without those that are built already.
    """
    metrics = evaluator.get('metrics', [evaluator]) if isinstance(evaluator, dict) else evaluator
    metrics = [metrics] if isinstance(metrics, dict) else metrics
    return [metric for metric in metrics if isinstance(metric, dict) and 'type' in metric]


def _check_kind(metric: dict, kind: type, where: str) -> None:
    inner = metric.get('metric') or {}  # of a KeypointPartitionMetric
    kind = METRICS.get(inner['type']) if isinstance(inner.get('type'), str) else inner.get('type', kind)
    if isinstance(kind, type) and issubclass(kind, ONE_PERSON):
        raise ValueError(
            f'{where} compares one pose with one person, but the data set is bottom-up (data_mode), with several '
            f'people in a sample; {CURE}'
        )


def _check_output(metric: dict, where: str) -> None:
    if metric.get('format_only') and not metric.get('outfile_prefix'):
        raise ValueError(f'{where} has format_only=True, but no outfile_prefix; give it the start of a file name')
    if metric.get('iou_type', 'keypoints') not in ('keypoints', 'keypoints_crowd'):
        raise ValueError(
            f"{where} has iou_type={metric['iou_type']!r}; use 'keypoints', or 'keypoints_crowd' of CrowdPose"
        )


def _check_files(metric: dict, kind: type, leaves: list[dict], where: str) -> None:
    datasets = [DATASETS.build(dict(leaf, lazy_init=True, pipeline=[], _scope_='mmpose')) for leaf in leaves]
    if not datasets or any(
        type(d)._load_annotations is not BaseCocoStyleDataset._load_annotations for d in datasets
    ):  # MPII and a few others have a format of their own
        return
    files = {os.path.realpath(dataset.ann_file): dataset for dataset in datasets}
    path = metric.get('ann_file') or datasets[0].ann_file
    if len(files) > 1 or os.path.realpath(path) not in files:
        _check_images(metric, leaves, list(files.values()), where)
    content = read_json(path)
    _check_crowd_index(metric, content, path, where)
    _check_areas(metric, content, path)
    part = any(leaf.get('indices') is not None or leaf.get('sample_interval', 1) != 1 for leaf in leaves)
    if kind is mmpose_metrics.CocoMetric and leaves[0].get('data_mode') == 'bottomup':
        _check_plain_metric(metric, content, part, f'{where} with {path}')


def _check_images(metric: dict, leaves: list[dict], datasets: list[BaseCocoStyleDataset], where: str) -> None:
    """Whether the metric's own file has all images of the run, under the same ids."""
    path, tested = metric.get('ann_file'), {}
    if not path:
        raise ValueError(
            f'{where} reads one annotation file, but the data set joins {len(datasets)}; put the images into one file, '
            'or use a MultiDatasetEvaluator'
        )
    if not metric.get('gt_converter'):
        check_annotation_file(path, datasets[0].metainfo['num_keypoints'])
    names = {image['id']: image.get('file_name') for image in read_json(path)['images']}
    for leaf in leaves:
        dataset = DATASETS.build(dict(leaf, pipeline=[], _scope_='mmpose'))
        for info in map(dataset.get_data_info, range(len(dataset))):
            number, file = info['img_id'], info['img_path']
            if number not in names:
                raise ValueError(f'{where}: {path} lacks image {number} of {dataset.ann_file}; {OWN_FILE}')
            named = names[number] or file
            if os.path.basename(named) != os.path.basename(file):
                raise ValueError(f'{where}: image {number} is {named} in {path}, but {file} is tested; {OWN_FILE}')
            if tested.setdefault(number, file) != file:
                raise ValueError(f'{where}: both {tested[number]} and {file} have the id {number}; renumber them')


def _check_crowd_index(metric: dict, content: dict, path: str, where: str) -> None:
    if metric.get('iou_type') != 'keypoints_crowd':
        return
    for image in content['images']:
        if not isinstance(image.get('crowdIndex'), Real):
            raise ValueError(
                f"{where} has iou_type='keypoints_crowd', but image {image['id']} of {path} has no crowdIndex; use "
                "iou_type='keypoints'"
            )


def _check_areas(metric: dict, content: dict, path: str) -> None:
    use_area = metric.get('use_area', True)
    people = [annotation for annotation in content['annotations'] if is_person(annotation)]
    for person in people:
        if not area_of(person, use_area) > 0:
            raise ValueError(
                f'{path}: annotation {person["id"]} has neither an area nor a box with an extent (area '
                f'{person.get("area")}, bbox {person["bbox"]}), so OKS cannot be scaled; correct it or remove it'
            )
    without = sum(not has_area(person) for person in people) if use_area else 0
    if without:
        print_log(
            f'{path}: {without} of {len(people)} people have no positive area; OKS takes 0.53 of their box, as with '
            'use_area=False.', 'current', level=30
        )  # fmt: skip


def _check_plain_metric(metric: dict, content: dict, part: bool, where: str) -> None:
    """MMPose's CocoMetric evaluates the whole file, and only what COCO itself writes."""
    if part:
        raise ValueError(f'{where} would count the people of images that indices or sample_interval leave out; {CURE}')
    if CATEGORY['id'] not in {category['id'] for category in content['categories']}:
        raise ValueError(f'{where} needs the category 1, not {content["categories"]!s:.100}; {CURE}')
    keys = ('category_id', 'keypoints', *(('area',) if metric.get('use_area', True) else ()))
    for person, expected in zip(content['annotations'], clean_truth(content)['annotations']):
        wrong = ['id'] if person['id'] < 0 else [key for key in keys if person.get(key) != expected[key]]
        if wrong:
            fault = f'the {wrong[0]} {person.get(wrong[0])!s:.30} of annotation {person["id"]}'
            raise ValueError(f'{where} cannot take {fault}; {CURE}')
