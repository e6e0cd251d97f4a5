"""Check the data sets of a run before it starts: minutes into an epoch is too late, and NaN is silent."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from functools import partial

import numpy as np
from mmengine.config import Config
from mmpose.datasets.datasets.base import BaseCocoStyleDataset
from mmpose.registry import DATASETS

from .check_annotations import (
    COCO_HINT,
    check_fields,
    check_people,
    read_annotation_file,
    refuse,
)
from .check_images import check_images
from .check_views import paths_to_model


def check_annotation_file(
    path: str,
    num_keypoints: int,
    image_dir: str | None = None,
    training: bool = False,
    dataset: BaseCocoStyleDataset | None = None,
) -> None:
    """Read a COCO-style annotation file and refuse what would later fail, or silently spoil a training.

    Args:
        path (str): The JSON file.
        num_keypoints (int): Number K of keypoints of the model; each ``keypoints`` needs 3 * K numbers.
        image_dir (str, optional): Folder of the images. With it every image of the file has to exist.
        training (bool): Whether the file is trained on and so needs at least one usable person. Defaults to False.
        dataset (BaseCocoStyleDataset, optional): The data set that reads it, where its class finds the joints in other
            fields than ``keypoints``.

    Raises:
        ValueError: if it is not JSON in COCO's format, or an annotation is wrong.
        FileNotFoundError: if it, or one of its images, does not exist.
    """
    parse = _parser(dataset)
    data = read_annotation_file(path, whole=parse is not None)
    check_fields(data, path)
    images, annotations = data['images'], data['annotations']
    joints = None if parse is None else partial(_parsed_joints, parse, {image['id']: image for image in images}, path)
    people = list(check_people(annotations, num_keypoints, path, joints))
    if annotations and not people:
        raise ValueError(
            f'{path} is a JSON without keypoints: none of its {len(annotations)} annotations has '
            f'"keypoints"; {COCO_HINT}'
        )
    if training and not any(is_labelled and _is_usable(ann) for ann, is_labelled in people):
        raise ValueError(
            f'{path} has no person to train on: none with a visible keypoint, a box with an area and '
            f'iscrowd 0 among {len(annotations)} annotations; {COCO_HINT}'
        )
    check_images(images, image_dir, path)


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
            path = metric.get('ann_file') or ''
            if path and '://' not in path and not os.path.isfile(path):
                raise FileNotFoundError(f'{name}_evaluator.ann_file {path} does not exist; correct it')


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
    if dataset_cfg.get('indices') == 0:
        raise ValueError(f'indices=0 leaves no image of {dataset.ann_file}; give the number of images, or leave it out')
    data_k = dataset.metainfo['num_keypoints']
    converted_k = _converted_num_keypoints(dataset_cfg.get('pipeline', []), data_k)
    if model_k is not None and converted_k != model_k:
        raise ValueError(
            f'model.head.num_keypoints={model_k}, but the data set {dataset.metainfo["dataset_name"]} '
            f'({dataset.ann_file}) has {converted_k} keypoints; make them equal, or convert with '
            'KeypointConverter'
        )
    check_annotation_file(dataset.ann_file, data_k, dataset.data_prefix.get('img'), training, dataset)


def _converted_num_keypoints(pipeline: Iterable[dict], num_keypoints: int) -> int:
    for step in pipeline:
        if step.get('type') == 'KeypointConverter':
            num_keypoints = step['num_keypoints']
    return num_keypoints


def _metrics(evaluator) -> list[dict]:
    metrics = evaluator if isinstance(evaluator, (list, tuple)) else [evaluator]
    return [metric for metric in metrics if isinstance(metric, dict)]


def _is_usable(ann: dict) -> bool:
    return not ann.get('iscrowd') and ann['bbox'][2] > 0 and ann['bbox'][3] > 0


class _Uncopied(dict):
    """An annotation that ``copy.deepcopy`` returns as it is; MMPose copies each, which takes most of the time."""

    def __deepcopy__(self, memo: dict) -> _Uncopied:
        return self


def _parser(dataset: BaseCocoStyleDataset | None) -> Callable[[dict], dict | None] | None:
    """How a class reads an annotation, such as 133 joints from five fields; None for the field ``keypoints``."""
    usual = dataset is None or type(dataset).parse_data_info is BaseCocoStyleDataset.parse_data_info
    return None if usual else dataset.parse_data_info


def _parsed_joints(parse: Callable, images: dict[int, dict], path: str, ann: dict) -> np.ndarray | None:
    """The joints of an annotation as its data set reads them: 3 * K numbers; None if it is passed over."""
    image = dict(images[ann['image_id']], img_path='')
    try:
        info = parse(dict(raw_ann_info=_Uncopied(ann, iscrowd=ann.get('iscrowd', 0)), raw_img_info=image))
    except Exception as error:  # whatever a class of MMPose or of the user raises
        reason = f'it has no {error}' if isinstance(error, KeyError) else str(error)
        owner = getattr(parse, '__self__', None)
        refuse(path, ann, f'cannot be read by {type(owner).__name__}: {reason}; correct or remove it')
    if not info:
        return None
    return np.concatenate([info['keypoints'], info['keypoints_visible'][..., None]], axis=-1).ravel()
