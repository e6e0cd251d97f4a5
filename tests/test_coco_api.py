"""The stand-in for xtcocotools gives xtcocotools' numbers, and is used where that one does not import.

The numbers are recorded, as xtcocotools does not load on the pinned stack: `python tests/test_coco_api.py` writes them,
with numpy 1 and xtcocotools. Where xtcocotools imports, the records are compared with it.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

from rnnpose_plugin import coco_api

RECORDED = Path(__file__).with_name('xtcocotools_figures.json')
SIZES = dict(keypoints=17, foot_kpts=6, face_kpts=68, lefthand_kpts=21, righthand_kpts=21)
SCORES = ('wholebody_score', 'foot_score', 'face_score', 'lefthand_score', 'righthand_score')


def annotations(generator, images):
    """People of each image; ids from 0, crowd regions, unlabelled joints, areas unlike the boxes."""
    people = []
    for image in images:
        for _ in range(generator.integers(0, 5)):
            x, y, w, h = *generator.uniform(0, 300, 2), *generator.uniform(20, 200, 2)
            parts = {}
            for name, number in SIZES.items():
                flags = generator.choice([0, 1, 2], (number, 1), p=[0.5, 0.2, 0.3]) * (generator.random() > 0.2)
                joints = generator.uniform(0, 1, (number, 2)) * [w, h] + [x, y]
                parts[name] = np.hstack([joints * (flags > 0), flags]).ravel().tolist()
            visible = int((np.array(parts['keypoints'])[2::3] == 2).sum())  # CrowdPose counts these only
            people.append(
                dict(id=len(people), image_id=image['id'], category_id=1, bbox=[x, y, w, h], num_keypoints=visible,
                     area=w * h * generator.uniform(0.2, 0.9), iscrowd=int(generator.random() < 0.1), **parts)
            )  # fmt: skip
    return people


def detections(generator, people, images):
    """Near people with noise of many sizes, twice at times, some elsewhere, one without a joint."""
    found = []
    for person in [*people, *people[::3]]:
        parts = {}
        for name in SIZES:
            joints = np.reshape(person[name], (-1, 3)) + generator.normal(0, generator.uniform(0, 12), (1, 1))
            joints[:, 2] = generator.uniform(0.01, 1, len(joints)) * (generator.random() > 0.05)
            parts[name] = joints.ravel().tolist()
        image = person['image_id'] if generator.random() < 0.9 else images[0]['id']
        scores = {name: float(generator.random()) for name in ('score', *SCORES)}
        found.append(dict(image_id=image, category_id=1, **parts, **scores))
    return found


def write_files(folder):
    """An annotation file and detections; without any; without the scores of the parts."""
    generator = np.random.default_rng(0)
    images = [dict(id=k, width=500, height=500, crowdIndex=float(k % 10) / 10) for k in range(30)]
    truth = dict(images=images, annotations=annotations(generator, images), categories=[dict(id=1, name='person')])
    found = detections(generator, truth['annotations'], images)
    bare = [{key: value for key, value in pose.items() if key not in SCORES} for pose in found]
    for name, content in dict(truth=truth, found=found, none=[], bare=bare).items():
        (folder / f'{name}.json').write_text(json.dumps(content))
    return folder


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    return write_files(tmp_path_factory.mktemp('coco'))


def evaluated(module, coco, files, found, kind, sigmas, use_area):
    truth = coco.COCO(str(files / 'truth.json'))
    evaluation = module.COCOeval(truth, truth.loadRes(str(files / f'{found}.json')), kind, sigmas, use_area)
    evaluation.params.useSegm = None
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return np.array(evaluation.stats)


KINDS = {
    'keypoints': 17, 'keypoints_crowd': 17, 'keypoints_wholebody': 133, 'keypoints_body': 17, 'keypoints_foot': 6,
    'keypoints_face': 68, 'keypoints_lefthand': 21, 'keypoints_righthand': 21,
}  # fmt: skip


CASES = [f'{kind}{suffix}' for kind in KINDS for suffix in ('', ' by boxes')]


def figures(module, coco, files, case):
    """The statistics of each file of detections, and of COCO's own sigmas."""
    kind, _, by_boxes = case.partition(' ')
    sigmas = np.random.default_rng(1).uniform(0.03, 0.15, KINDS[kind])
    runs = {found: (found, kind, sigmas) for found in ('found', 'bare', 'none')}
    if kind == 'keypoints':
        runs['default'] = 'found', kind, None
    return {name: evaluated(module, coco, files, *run, not by_boxes).tolist() for name, run in runs.items()}


def assert_equal(ours, expected):
    assert list(ours) == list(expected)
    for name in ours:
        np.testing.assert_allclose(ours[name], expected[name], rtol=0, atol=1e-9)  # refuses other lengths
        assert name == 'none' or len(np.unique(ours[name])) > 4


@pytest.mark.parametrize('case', CASES)
@pytest.mark.filterwarnings('ignore:.*not found, use')
def test_numbers_are_those_of_xtcocotools(files, case):
    ours = figures(coco_api, coco_api, files, case)
    assert all(len(stats) == (9 if 'crowd' in case else 10) for stats in ours.values())
    assert_equal(ours, json.loads(RECORDED.read_text())[case])


@pytest.mark.parametrize('case', CASES)
@pytest.mark.filterwarnings('ignore:.*not found, use')
def test_xtcocotools_gives_what_is_recorded(files, case):
    from xtcocotools import coco, cocoeval

    if cocoeval is coco_api:
        pytest.skip('xtcocotools does not import here')
    assert_equal(figures(cocoeval, coco, files, case), json.loads(RECORDED.read_text())[case])


def test_boxes_are_pycocotools_own(files):
    truth = coco_api.COCO(str(files / 'truth.json'))
    boxes = [dict(image_id=a['image_id'], category_id=1, bbox=a['bbox'], score=1) for a in truth.anns.values()]
    evaluation = coco_api.COCOeval(truth, truth.loadRes(boxes), 'bbox')
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert evaluation.stats[1] > 0.9


def test_what_is_not_supported_is_refused_in_one_sentence(files):
    with pytest.raises(ValueError, match=r"\['test_index'\] of COCO need xtcocotools.*; install it beside numpy 1$"):
        coco_api.COCO(str(files / 'truth.json'), test_index=[0])
    truth = coco_api.COCO(str(files / 'truth.json'))
    with pytest.raises(ValueError, match="iou_type is 'keypoints_3d'; use one of keypoints, keypoints_crowd"):
        coco_api.COCOeval(truth, truth, 'keypoints_3d')
    del truth.imgs[0]['crowdIndex']
    crowd = coco_api.COCOeval(truth, truth.loadRes(str(files / 'found.json')), 'keypoints_crowd')
    crowd.evaluate()
    crowd.accumulate()
    with pytest.raises(ValueError, match='keypoints_crowd needs the crowdIndex of each image'):
        crowd.summarize()


BROKEN = """
import json, rnnpose_plugin, xtcocotools.mask as mask
from mmpose.datasets.transforms import bottomup_transforms
from mmpose.evaluation.metrics import coco_metric, coco_wholebody_metric
from xtcocotools.coco import COCO
print(json.dumps([COCO.__module__, coco_metric.COCOeval.__module__, coco_wholebody_metric.COCOeval.__module__,
                  mask.__name__, bottomup_transforms.cocomask.__name__]))
"""


@pytest.mark.parametrize(
    'line',
    [
        pytest.param("raise ModuleNotFoundError('No module named xtcocotools', name='xtcocotools')", id='absent'),
        pytest.param(
            "raise ValueError('numpy.dtype size changed, may indicate binary incompatibility')",
            id='built for numpy 1',
            marks=pytest.mark.skipif(np.__version__.startswith('1.'), reason='refused in test_compat.py'),
        ),
    ],
)
def test_it_is_used_where_xtcocotools_does_not_import(tmp_path, line):
    (tmp_path / 'xtcocotools').mkdir()
    (tmp_path / 'xtcocotools' / '__init__.py').write_text('')
    (tmp_path / 'xtcocotools' / '_mask.py').write_text(line)
    for name in ('mask', 'coco', 'cocoeval'):
        (tmp_path / 'xtcocotools' / f'{name}.py').write_text('import xtcocotools._mask\n')
    code = f'import sys; sys.path.insert(0, {str(tmp_path)!r})\n{BROKEN}'
    done = subprocess.run([sys.executable, '-W', 'ignore', '-c', code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == ['rnnpose_plugin.coco_api'] * 3 + ['pycocotools.mask'] * 2


if __name__ == '__main__':
    from xtcocotools import coco, cocoeval

    assert cocoeval is not coco_api, 'xtcocotools does not import here'
    with tempfile.TemporaryDirectory() as folder:
        made = write_files(Path(folder))
        RECORDED.write_text(json.dumps({case: figures(cocoeval, coco, made, case) for case in CASES}, indent=1) + '\n')
