"""Choosing tau, below which a joint is discarded, on the val set from predictions of one test."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmpose.registry import DATASETS

from rnnpose_plugin.evaluation.coco_metric import FAR
from rnnpose_plugin.evaluation.crowding import coco_figures
from rnnpose_plugin.evaluation.truth import clean_truth

STEP, HIGHEST = 0.025, 0.6  # of the thresholds that are tried


def try_thresholds(cfg: Config, results: str) -> Iterator[tuple[float, float, float]]:
    """AP of the val set for the codec's present tau and for higher ones.

    A discarded joint counts as absent: it is moved far away, and the instance score is the mean over the other joints.
    COCO's AP keeps its place instead, so that no tau could ever lose a joint.

    Args:
        cfg (Config): of a model whose codec is an ``InstanceHeatmap``; with the val set.
        results (str): its detections in COCO's results format, a JSON file, at the present tau.

    Yields:
        tuple[float, float, float]: tau, AP and the share of the joints that are discarded, in [0, 1].

    Raises:
        ValueError: for another codec, test settings that change joint scores, other results, or a config without val
            set or people in it.
    """
    codec, settings = cfg.model.head.get('decoder') or {}, cfg.model.get('test_cfg') or {}
    if codec.get('type') != 'InstanceHeatmap':
        raise ValueError(f'{cfg.filename} has the codec {codec.get("type")}; tau is a setting of InstanceHeatmap.')
    if not cfg.get('val_dataloader'):
        raise ValueError(
            f'{cfg.filename} has no val_dataloader, as a training with --no-validate saves it; name the config that '
            'this training was given.'
        )
    for name in ('ae_refinement', 'snap_to_peaks'):
        if settings.get(name):
            raise ValueError(f'test_cfg has {name}=True, whose joint scores are not peaks; test with {name}=False.')
    init_default_scope('mmpose')
    dataset = DATASETS.build(dict(cfg.val_dataloader.dataset, lazy_init=True, pipeline=[]))
    sigmas = dataset.metainfo['sigmas']
    truth = clean_truth(json.loads(Path(dataset.ann_file).read_text(encoding='utf-8')))
    detections = _read(results, 3 * len(sigmas))
    rescored = codec.get('instance_score', 'stop_times_peak') != 'stop'
    present, total = codec.get('keypoint_threshold', 0.015), sum(len(d['keypoints']) // 3 for d in detections)
    for tau in [present, *(t for t in np.arange(STEP, HIGHEST + STEP / 2, STEP).round(3).tolist() if t > present)]:
        kept = [pose for detection in detections if (pose := discard(detection, tau, rescored))]
        ap = coco_figures(truth, kept, sigmas)['AP']
        if ap is None:
            raise ValueError(f'{dataset.ann_file} has no people with labelled joints, so there is no AP to compare.')
        joints = sum(score > 0 for pose in kept for score in pose['keypoints'][2::3])
        yield tau, ap, 1 - joints / total if total else 0.0


def best_threshold(rows: Sequence[tuple[float, float, float]]) -> float:
    """The highest tau whose AP is not below that of the first row.

    Args:
        rows (Sequence[tuple[float, float, float]]): from :func:`try_thresholds`.

    Returns:
        float: tau.
    """
    return max(tau for tau, ap, _ in rows if ap >= rows[0][1])


def discard(detection: dict, tau: float, rescored: bool = True) -> dict | None:
    """A detection without its joints below tau.

    Args:
        detection (dict): in COCO's results format; the third number of a joint is its peak.
        tau (float): in [0, 1).
        rescored (bool): its score has the mean peak of its joints as a factor. Defaults to True.

    Returns:
        dict | None: discarded joints lie far away with score 0; None without any other joint.
    """
    joints = np.array(detection['keypoints'], dtype=np.float64).reshape(-1, 3)
    peaks = joints[:, 2]
    kept = (peaks > 0) & (peaks >= tau)
    if not kept.any():
        return None
    factor = peaks[kept].mean() / peaks[peaks > 0].mean() if rescored else 1.0
    joints[~kept] = FAR, FAR, 0
    return dict(detection, keypoints=joints.ravel().tolist(), score=float(detection['score'] * factor))


def _read(path: str, numbers: int) -> list[dict]:
    try:
        detections = json.loads(Path(path).read_text(encoding='utf-8'))
    except ValueError as error:
        raise ValueError(f'{path} is not JSON ({error}); give the .keypoints.json of a test') from None
    fields = {'image_id', 'keypoints', 'score'}
    if not isinstance(detections, list) or not all(isinstance(d, dict) and fields <= set(d) for d in detections):
        raise ValueError(f"{path} is not in COCO's results format; give the .keypoints.json of a test")
    wrong = next((d for d in detections if len(d['keypoints']) != numbers), None)
    if wrong:
        raise ValueError(f'{path}: a pose has {len(wrong["keypoints"])} numbers, the val set {numbers}; test on it')
    return [dict(detection, category_id=1) for detection in detections]
