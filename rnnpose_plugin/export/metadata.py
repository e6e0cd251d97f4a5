"""What an exported file says of itself, as JSON values under plain names."""

from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path

from mmengine.model import BaseModel

from ..models.head_views import read_test_settings

CONTRACT = 1  # rises when a reader of the files has to change
LICENCE = 'Apache-2.0'  # of this package, as in setup.py


def describe(
    model: BaseModel, form: str, max_people: int, size_multiple: int, image_type: str, checkpoint: str, licence: str
) -> dict[str, str]:
    """The file's metadata.

    Args:
        model (BaseModel): with a ``RecurrentPoseHead`` and, as ``init_model`` gives it, a ``dataset_meta``.
        form (str): of the export.
        max_people (int): most people per image.
        size_multiple (int): what an image's sides have to be multiples of, in pixels; 0 where the file has one size.
        image_type (str): ``'uint8'`` or ``'float32'``.
        checkpoint (str): path of the weights.
        licence (str): of the weights; '' for that of this package.

    Returns:
        dict[str, str]: JSON by name; docs/export.md explains the names.
    """
    meta, codec, norm = model.dataset_meta, model.head.decoder, model.data_preprocessor
    settings = read_test_settings(model.test_cfg)
    names = meta['keypoint_id2name']
    facts = dict(
        contract=CONTRACT,
        form=form,
        keypoint_names=[names[index] for index in range(len(names))],
        skeleton=[[int(joint) for joint in link] for link in meta['skeleton_links']],
        sigmas=[float(sigma) for sigma in meta['sigmas']],
        flip_indices=[int(index) for index in meta['flip_indices']],
        input_size=list(codec.input_size),
        stride=codec.stride,
        size_multiple=size_multiple,
        image_type=image_type,
        channel_order='rgb',
        precision='float32',
        mean=norm.mean.flatten().tolist(),
        std=norm.std.flatten().tolist(),
        omega=model.head.stop_threshold,
        tau=codec.keypoint_threshold,
        score_threshold=settings['score_threshold'],
        snap_to_peaks=settings['snap_to_peaks'],
        max_people=max_people,
        licence=licence or LICENCE,
        version=_own_version(),
        commit=_commit(),
        checkpoint=Path(checkpoint).name,
        checkpoint_sha256=hashlib.sha256(Path(checkpoint).read_bytes()).hexdigest(),
    )
    return {name: json.dumps(value) for name, value in facts.items()}


def _own_version() -> str:
    from .. import __version__

    return __version__


def _commit() -> str:
    """The commit of this checkout; '' for an installed package."""
    folder = Path(__file__).parent
    try:
        tracked = subprocess.run(
            ['git', 'ls-files', '--error-unmatch', Path(__file__).name], cwd=folder, capture_output=True
        )
        if tracked.returncode:  # another repository, which an environment lies in
            return ''
        head = subprocess.run(['git', 'rev-parse', 'HEAD'], cwd=folder, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ''
    return head.stdout.strip()
