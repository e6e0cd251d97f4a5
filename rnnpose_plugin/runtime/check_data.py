"""Check the annotation files of a run before it starts: minutes into an epoch is too late, and NaN is silent."""

from __future__ import annotations

import json
import math
import os
from collections import defaultdict
from typing import Iterable, Iterator

import numpy as np
from mmengine.config import Config
from mmpose.datasets.datasets import CocoWholeBodyDataset
from mmpose.datasets.datasets.base import BaseCocoStyleDataset
from mmpose.registry import DATASETS

from .check_views import paths_to_model

COCO_HINT = 'use a file in the format of COCO keypoints, such as person_keypoints_train2017.json'

# What MMPose's data sets read of every entry, beside keypoints and bbox.
FIELDS = {'images': {'id', 'file_name', 'width', 'height'}, 'annotations': {'id', 'image_id', 'category_id'}}


def check_annotation_file(path: str, num_keypoints: int, image_dir: str | None = None, training: bool = False) -> None:
    """Read a COCO-style annotation file and refuse what would later fail, or silently spoil a training.

    Args:
        path (str): The JSON file.
        num_keypoints (int): Number K of keypoints of the model; each ``keypoints`` needs 3 * K numbers.
        image_dir (str, optional): Folder of the images. With it every image of the file has to exist.
        training (bool): Whether the file is trained on and so needs at least one usable person. Defaults to False.

    Raises:
        ValueError: if it is not JSON in COCO's format, or an annotation is wrong.
        FileNotFoundError: if it, or one of its images, does not exist.
    """
    data = _read_json(path)
    images, annotations = _parts(data, path)
    _check_image_ids(images, annotations, path)
    people = [ann for ann in annotations if 'keypoints' in ann]
    if annotations and not people:
        raise ValueError(
            f'{path} is a JSON without keypoints: none of its {len(annotations)} annotations has '
            f'"keypoints"; {COCO_HINT}'
        )
    keypoints = _keypoint_array(people, num_keypoints, path)
    boxes = _box_array(people, path)
    if training and not _usable(people, keypoints, boxes).any():
        raise ValueError(
            f'{path} has no person to train on: none with a visible keypoint, a box with an area and '
            f'iscrowd 0 among {len(annotations)} annotations; {COCO_HINT}'
        )
    if image_dir is not None:
        _check_images_exist(images, image_dir, path)


def check_data(cfg: Config, training: bool) -> None:
    """Check every data set that a run with this config reads.

    Args:
        cfg (Config): The config.
        training (bool): True for training and validation data, False for test data.

    Raises:
        ValueError: for the first annotation that is wrong.
        FileNotFoundError: for an annotation file or an image that does not exist.
    """
    model_k = cfg.model.get('head', {}).get('num_keypoints')
    for name in ('train', 'val') if training else ('test',):
        loader = cfg.get(f'{name}_dataloader')
        metrics = _metrics(cfg.get(f'{name}_evaluator'))
        # COCO's test-dev files have no annotations; a metric with format_only asks for none.
        if loader is None or any(metric.get('format_only') for metric in metrics):
            continue
        for dataset_cfg in leaf_datasets(loader['dataset']):
            _check_dataset(dataset_cfg, model_k, training=name == 'train')
        for metric in metrics:
            if metric.get('ann_file') and not os.path.isfile(metric['ann_file']):
                raise FileNotFoundError(f'{name}_evaluator.ann_file {metric["ann_file"]} does not exist; correct it')


def leaf_datasets(dataset_cfg: dict) -> Iterator[dict]:
    """The data sets that read an annotation file, inside all wrappers (concatenated, repeated, combined).

    Args:
        dataset_cfg (dict): Config of a data set or of a wrapper.

    Yields:
        dict: Config of one data set.
    """
    for leaf, _, _ in paths_to_model(dataset_cfg):
        if 'ann_file' in leaf:
            yield leaf


def _check_dataset(dataset_cfg: dict, model_k: int | None, training: bool) -> None:
    # Built by MMPose itself, so that data_root, data_prefix and metainfo are joined as in the run; in its scope, as an
    # earlier Runner of this process may have left another.
    dataset = DATASETS.build(dict(dataset_cfg, lazy_init=True, pipeline=[], _scope_='mmpose'))
    if type(dataset)._load_annotations is not BaseCocoStyleDataset._load_annotations:
        return  # MPII and a few others have a format of their own
    data_k = dataset.metainfo['num_keypoints']
    converted_k = _converted_num_keypoints(dataset_cfg.get('pipeline', []), data_k)
    if model_k is not None and converted_k != model_k:
        raise ValueError(
            f'model.head.num_keypoints={model_k}, but the data set {dataset.metainfo["dataset_name"]} '
            f'({dataset.ann_file}) has {converted_k} keypoints; make them equal, or convert with '
            'KeypointConverter'
        )
    if isinstance(dataset, CocoWholeBodyDataset):  # "keypoints" are the body's; the others have own keys
        data_k = 17
    check_annotation_file(dataset.ann_file, data_k, dataset.data_prefix.get('img'), training)


def _converted_num_keypoints(pipeline: Iterable[dict], num_keypoints: int) -> int:
    for step in pipeline:
        if step.get('type') == 'KeypointConverter':
            num_keypoints = step['num_keypoints']
    return num_keypoints


def _metrics(evaluator) -> list[dict]:
    metrics = evaluator if isinstance(evaluator, (list, tuple)) else [evaluator]
    return [metric for metric in metrics if isinstance(metric, dict)]


def _read_json(path: str) -> dict:
    try:
        with open(path, encoding='utf-8') as file:
            return json.load(file)
    except FileNotFoundError:
        raise FileNotFoundError(f'annotation file {path} does not exist; check data_root and ann_file') from None
    except ValueError as error:  # not JSON, or not text
        raise ValueError(
            f'annotation file {path} is not valid JSON ({error}), perhaps cut off; download it again'
        ) from None


def _parts(data: dict, path: str) -> tuple[list[dict], list[dict]]:
    absent = [key for key in ('images', 'annotations', 'categories') if not isinstance(data, dict) or key not in data]
    if absent:
        raise ValueError(f'annotation file {path} has no {", ".join(absent)}; {COCO_HINT}')
    if not data['images']:
        raise ValueError(f'annotation file {path} lists no images; {COCO_HINT}')
    for part, fields in FIELDS.items():
        for entry in data[part]:
            if not fields <= entry.keys():
                lacking = ', '.join(sorted(fields - entry.keys()))
                raise ValueError(f'annotation file {path} has {part} without {lacking}: {entry.get("id")}; {COCO_HINT}')
    return data['images'], data['annotations']


def _refuse(path: str, ann: dict, fault: str) -> None:
    raise ValueError(f'{path}: annotation {ann["id"]} {fault}')


def _check_image_ids(images: list[dict], annotations: list[dict], path: str) -> None:
    known = {image['id'] for image in images}
    for ann in annotations:
        if ann['image_id'] not in known:
            _refuse(path, ann, f'belongs to image {ann["image_id"]}, which is not listed; remove it or add the image')


def _keypoint_array(people: list[dict], num_keypoints: int, path: str) -> np.ndarray:
    for ann in people:
        length = _length(ann['keypoints'])
        if length != 3 * num_keypoints:
            fault = (
                f'has {length} keypoint numbers, that is {length / 3:g} keypoints, but the model has {num_keypoints}'
            )
            _refuse(path, ann, f'{fault}; use data and a model (model.head.num_keypoints) of the same number')
    array = _finite_array(people, 'keypoints', path).reshape(len(people), num_keypoints, 3)
    for person, joint in np.argwhere(~np.isin(array[..., 2], (0, 1, 2))):
        fault = f'has visibility {array[person, joint, 2]:g} at keypoint {joint}; only 0, 1 and 2 are allowed'
        _refuse(path, people[person], f'{fault}, correct it')
    return array


def _box_array(people: list[dict], path: str) -> np.ndarray:
    for ann in people:
        if _length(ann.get('bbox')) != 4:
            _refuse(path, ann, f'has the bbox {ann.get("bbox")}; give the four numbers x, y, width, height')
    return _finite_array(people, 'bbox', path).reshape(len(people), 4)


def _length(value) -> int:
    return len(value) if isinstance(value, list) else 0


def _finite_array(people: list[dict], key: str, path: str) -> np.ndarray:
    """All values of a key as one array; the annotations are read one by one only if that fails."""
    rows = [ann[key] for ann in people]
    try:
        array = np.asarray(rows)
    except ValueError:  # a list inside the list
        array = np.asarray(rows, dtype=object)
    if array.dtype.kind in 'iuf' and np.isfinite(array).all():
        return array
    for ann in people:
        for value in ann[key]:
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
                _refuse(path, ann, f'has {value!r} in its {key}; only finite numbers are allowed, correct or remove it')
    return np.asarray(rows, dtype=float)


def _usable(people: list[dict], keypoints: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    single = np.array([not ann.get('iscrowd', 0) for ann in people], dtype=bool)
    return single & (keypoints[..., 2] > 0).any(axis=1) & (boxes[:, 2:] > 0).all(axis=1)


def _check_images_exist(images: list[dict], image_dir: str, path: str) -> None:
    by_folder = defaultdict(list)
    for image in images:
        folder, name = os.path.split(os.path.join(image_dir, image['file_name']))
        by_folder[folder].append(name)
    for folder, names in by_folder.items():
        # One listing instead of 100,000 look-ups on a network disk.
        present = set(os.listdir(folder)) if os.path.isdir(folder) else set()
        missing = [name for name in names if name not in present]
        if missing:
            raise FileNotFoundError(
                f'image {os.path.join(folder, missing[0])} does not exist ({len(missing)} of '
                f'{len(names)} images of {path} are missing); check data_root and data_prefix'
            )
