"""tools/predict.py on images, a folder, a pattern and a video; what it refuses."""

from __future__ import annotations

import json
import runpy
import shutil
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.structures import InstanceData
from mmpose.apis import inference_bottomup
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from projects.crowdbench.synthetic_crowd import CROWDBENCH, write_split
from rnnpose_plugin.runtime.predict import Predictions, load_model, scores_of
from rnnpose_plugin.runtime.prediction_inputs import Camera, Images, Video, is_image

ROOT = Path(__file__).parent.parent
CONFIG = str(ROOT / 'configs' / 'rnnpose_context_crowdbench.py')
WEIGHTS = str(ROOT / 'model_zoo' / 'rnnpose_context_crowdbench.pth')
MODEL = ['--config', CONFIG, '--checkpoint', WEIGHTS, '--device', 'cpu']


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    """Two images with people, plain/000001.png and plain/000002.png, a black one, and their annotations."""
    folder = tmp_path_factory.mktemp('data')
    write_split(folder, 'plain', 2, 0, CROWDBENCH)
    cv2.imwrite(str(folder / 'plain/000003.png'), np.zeros((96, 128, 3), np.uint8))
    (folder / 'plain/notes.txt').write_text('not an image')
    (folder / 'plain/deeper.png').mkdir()
    shutil.copy(folder / 'plain/000001.png', folder / 'plain/deeper.png/last.png')
    return folder


@pytest.fixture
def predict(data, tmp_path, monkeypatch, capsys):
    """The command in this process; gives what it printed and its error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv('RNNPOSE_TRACEBACK', raising=False)

    def run(*arguments, model=MODEL, status=None):
        monkeypatch.setattr(sys, 'argv', ['predict.py', *map(str, arguments), *model])
        if status is None:
            runpy.run_path(str(ROOT / 'tools/predict.py'), run_name='__main__')
        else:
            with pytest.raises(SystemExit) as stop:
                runpy.run_path(str(ROOT / 'tools/predict.py'), run_name='__main__')
            assert stop.value.code == status
        return capsys.readouterr()

    return run


def read(folder):
    return [json.loads((Path(folder) / f'{name}.json').read_text()) for name in ('results', 'by_image', 'images')]


def test_a_folder_is_predicted_and_drawn(predict, data):
    printed = predict(data / 'plain', '--out', 'out', '--score-threshold', '0.4', '--draw')
    results, by_image, images = read('out')
    names = ['000001.png', '000002.png', '000003.png']
    assert list(by_image) == names == [image['file_name'] for image in images['images']]
    assert by_image['000003.png'] == [] and by_image['000001.png'] and by_image['000002.png']
    assert [image['id'] for image in images['images']] == [1, 2, 3]  # the number in the name, as in COCO
    assert all(p['image_id'] == image['id'] for image in images['images'] for p in by_image[image['file_name']])
    assert images['images'][2] == dict(id=3, file_name='000003.png', height=96, width=128)
    assert results == [person for name in names for person in by_image[name]]
    assert set(results[0]) == {'image_id', 'category_id', 'keypoints', 'score'}
    assert f'{len(results)} people in 3 images' in printed.out and 'images: 3/3' in printed.err
    model = load_model(CONFIG, WEIGHTS, 'cpu')
    (sample,) = inference_bottomup(model, str(data / 'plain/000002.png'))
    kept = sample.pred_instances[sample.pred_instances.bbox_scores >= 0.4]
    found = by_image['000002.png']
    assert np.allclose([person['score'] for person in found], kept.bbox_scores)
    joints = np.array([person['keypoints'] for person in found]).reshape(len(found), 17, 3)
    assert np.allclose(joints[..., :2], kept.keypoints) and np.allclose(joints[..., 2], kept.keypoint_scores)
    before, after = (cv2.imread(str(folder / '000001.png')) for folder in (data / 'plain', Path('out/drawn')))
    assert before.shape == after.shape and 0.5 < (before == after).all(axis=2).mean() < 1
    palette = model.dataset_meta['skeleton_link_colors']
    assert any((after == colour[::-1]).all(axis=2).any() for colour in palette)
    black = cv2.imread('out/drawn/000003.png')
    assert black.shape == (96, 128, 3) and not black.any()


def test_the_results_are_evaluated_by_pycocotools(predict, data):
    predict(data / 'plain', '--out', 'out')
    own = COCO('out/images.json')
    assert len(own.loadRes('out/results.json').getAnnIds()) == len(read('out')[0])
    assert min(person['score'] for person in read('out')[0]) < 0.6  # whatever the score
    assert own.cats[1]['keypoints'][0] == 'nose' and np.min(own.cats[1]['skeleton']) == 1  # not 0
    truth = COCO(str(data / 'annotations/plain.json'))
    known = [person for person in read('out')[0] if person['image_id'] in truth.imgs]
    evaluation = COCOeval(truth, truth.loadRes(known), 'keypoints')
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert evaluation.stats[0] > 0.5


def test_a_pattern_and_a_single_image(predict, data):
    predict(data / 'plain/**/*.png', '--out', 'deep/all')
    by_image, images = read('deep/all')[1:]
    assert set(by_image) == {'000001.png', '000002.png', '000003.png', 'deeper.png/last.png'}
    assert [image['id'] for image in images['images']] == [1, 2, 3, 4]
    shutil.copytree(data / 'plain/deeper.png', 'one/drawn_before')
    shipped = ['--config', f'rnnpose_plugin::{Path(CONFIG).name}', '--checkpoint', f'model_zoo/{Path(WEIGHTS).name}']
    predict('one/drawn_before/last.png', '--out', 'one', model=[*shipped, '--device', 'cpu'])
    assert list(read('one')[1]) == ['last.png']
    assert np.isclose(read('one')[1]['last.png'][0]['score'], by_image['000001.png'][0]['score'])


@pytest.mark.parametrize(
    ('paths', 'ids'),
    [(['000007.png', '12.png'], [7, 12]), (['a/1.png', 'b/01.png'], [1, 2]), (['7.png', 'b.png'], [1, 2])],
)
def test_images_named_by_different_numbers_keep_them_as_ids(paths, ids):
    assert Images(paths).ids == ids and is_image('A.JPG')


def write_video(data, path):
    """A frame with people, and a black one."""
    writer = cv2.VideoWriter(path, cv2.VideoWriter_fourcc(*'MJPG'), 12, (128, 96))
    people = cv2.imread(str(data / 'plain/000001.png'))[:96]
    for image in (people, 0 * people):
        writer.write(image)
    writer.release()


def test_frames_of_a_camera_are_read_until_it_gives_none(data, tmp_path, monkeypatch):
    """A file stands for the device."""
    monkeypatch.chdir(tmp_path)
    write_video(data, 'device.avi')
    level = getattr(cv2, 'getLogLevel', None) or cv2.utils.logging.getLogLevel
    before = level()
    camera = Camera('device.avi')
    (frame,) = camera  # the other one showed that it works
    assert frame[:2] == (1, 'cameradevice.avi#1') and frame[2].shape == (96, 128, 3) and not frame[2].any()
    assert (len(camera), camera.fps, level()) == (0, 12, before)


def test_a_stream_of_unknown_length_is_a_video(tmp_path):
    frames = [np.full((32, 32, 3), value, np.uint8) for value in (50, 100, 150)]
    (tmp_path / 'a.mjpeg').write_bytes(b''.join(cv2.imencode('.jpg', frame)[1].tobytes() for frame in frames))
    video = Video(str(tmp_path / 'a.mjpeg'))
    assert len(video) == 0 and [int(frame.mean()) for _, _, frame in video] == [50, 100, 150]


def test_a_video_is_predicted_frame_by_frame(predict, data):
    write_video(data, 'people.avi')
    predict('people.avi', '--out', 'out', '--score-threshold', '0.4', '--draw')
    by_image, images = read('out')[1:]
    assert list(by_image) == ['people.avi#1', 'people.avi#2']
    assert by_image['people.avi#1'] and by_image['people.avi#2'] == []
    assert images['images'][1] == dict(id=2, file_name='people.avi#2', height=96, width=128)
    drawn = cv2.VideoCapture('out/drawn/people.mp4')
    assert (drawn.get(cv2.CAP_PROP_FRAME_COUNT), round(drawn.get(cv2.CAP_PROP_FPS))) == (2, 12)
    assert drawn.read()[1].shape == (96, 128, 3)


def test_names_of_keypoints_are_those_that_the_checkpoint_was_trained_with(tmp_path):
    content = torch.load(WEIGHTS)
    meta = content['meta'].pop('dataset_meta')
    names = {**meta['keypoint_id2name'], 0: 'snout'}
    kinds = dict(other=dict(dataset_meta=dict(meta, keypoint_id2name=names)), none={})
    for name, stored in kinds.items():
        torch.save(dict(content, meta=stored), tmp_path / f'{name}.pth')
    torch.save(dict(state_dict=content['state_dict']), tmp_path / 'no_meta.pth')
    found = [load_model(CONFIG, str(tmp_path / f'{name}.pth'), 'cpu').dataset_meta for name in (*kinds, 'no_meta')]
    assert [Predictions(meta).category['keypoints'][0] for meta in found] == ['snout', 'nose', 'nose']


def test_people_without_a_score_of_their_own_have_the_mean_of_their_keypoints():
    joints = np.array([[0.2, 0.4], [0.9, 0.5]])
    assert np.allclose(scores_of(InstanceData(keypoint_scores=joints)), [0.3, 0.7])
    assert scores_of(InstanceData(keypoint_scores=joints, bbox_scores=np.ones(2))).tolist() == [1, 1]


def test_a_damaged_image_does_not_lose_the_others(predict, data, tmp_path):
    shutil.copytree(data / 'plain', tmp_path / 'mixed')
    (tmp_path / 'mixed/000002.png').write_bytes((data / 'plain/000002.png').read_bytes()[:300])
    error = predict('mixed', '--out', 'out', status=1).err
    line = error.strip().splitlines()[-1]
    assert 'images: 3/3' in error
    assert line.startswith('error: image mixed/000002.png could not be read') and '1 of 3 images' in line
    assert list(read('out')[1]) == ['000001.png', '000003.png']


def write_other_files(folder):
    (folder / 'empty').mkdir()
    (folder / 'text.mp4').write_text('not a video')
    (folder / 'out.json').touch()
    (folder / 'drawings/drawn').mkdir(parents=True)
    cv2.imwrite(str(folder / 'drawings/drawn/1.png'), np.zeros((8, 8, 3), np.uint8))
    torch.save(dict(state_dict=dict(weight=torch.zeros(2))), folder / 'other.pth')
    (folder / 'kept').mkdir()
    shutil.copy(WEIGHTS, folder / 'kept/images.json')
    (folder / 'no_model.py').write_text('a = 1')
    (folder / 'topdown.py').write_text(
        "_base_ = ['mmpose::body_2d_keypoint/simcc/coco/simcc_res50_8xb64-210e_coco-256x192.py']"
    )
    meta = "dict(from_file='configs/_base_/datasets/crowdpose.py')"
    lines = [f'_base_ = [{CONFIG!r}]', f'train_dataloader = dict(dataset=dict(metainfo={meta}))']
    (folder / 'other_joints.py').write_text('\n'.join(lines))
    content = torch.load(WEIGHTS)
    content['meta'] = {}
    torch.save(content, folder / 'bare.pth')


@pytest.mark.parametrize(
    ('arguments', 'model', 'sentence'),
    [
        (['nowhere.jpg'], {}, "'nowhere.jpg' is no file, folder or pattern of files; check the path"),
        (['empty'], {}, 'the folder empty has no image (.bmp, .jpeg'),
        (['*.jpg'], {}, "the pattern '*.jpg' matches no image"),
        (['text.mp4'], {}, 'text.mp4 is neither an image nor a video that OpenCV can decode'),
        (['97'], {}, 'camera 97 gives no frame; connect it'),
        (['drawings/drawn', '--track'], {}, 'but drawings/drawn is not a video; leave --track out'),
        (['drawings/drawn', '--out', 'drawings'], {}, 'where drawn images are written; give another --out'),
        (['drawings/drawn', '--out', 'out.json'], {}, '--out out.json is a file; give a folder'),
        (['drawings/drawn', '--score-threshold', 'nan'], {}, '--score-threshold nan is not a number'),
        (['drawings/drawn'], {'--config': 'no.py'}, "config 'no.py' does not exist; check the path"),
        (['drawings/drawn'], {'--config': 'no_model.py'}, 'config no_model.py has no model'),
        (['drawings/drawn'], {'--checkpoint': 'no.pth'}, "checkpoint 'no.pth' does not exist; check the path"),
        (['drawings/drawn'], {'--config': 'topdown.py', '--checkpoint': 'no.pth'}, "'no.pth' does not exist"),
        (
            ['drawings/drawn', '--out', 'kept'],
            {'--checkpoint': 'kept/images.json'},
            'kept/images.json would be overwritten, but it is read',
        ),
        (['drawings/drawn'], {'--checkpoint': 'out.json'}, 'out.json is not a checkpoint'),
        (['drawings/drawn'], {'--checkpoint': 'other.pth'}, 'other.pth'),
        (['drawings/drawn'], {'--config': 'topdown.py'}, 'needs the boxes of a detector; use a bottom-up model'),
        (
            ['drawings/drawn'],
            {'--config': 'other_joints.py', '--checkpoint': 'bare.pth'},
            'model.head.num_keypoints=17, but the data set crowdpose has 14 keypoints',
        ),
    ],
)
def test_bad_input_gives_one_sentence(predict, tmp_path, arguments, model, sentence):
    write_other_files(tmp_path)
    out = [] if '--out' in arguments else ['--out', 'out']
    options = {'--config': CONFIG, '--checkpoint': WEIGHTS, '--device': 'cpu', **model}
    command = [*arguments, *out]
    error = predict(*command, model=[word for pair in options.items() for word in pair], status=1).err
    line = error.strip().splitlines()[-1]
    assert line.startswith('error: ') and sentence in line and 'Error: ' not in line
    assert not (tmp_path / 'out').exists()
