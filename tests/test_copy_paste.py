"""People pasted over people, through the toolbox's own loader and transforms."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
from mmengine.config import Config
from mmpose.registry import DATASETS, TRANSFORMS
from pycocotools import mask as rle
from rectangle_people import (
    BACKGROUND,
    COCO_MINI,
    DONOR_COLOUR,
    FLIP,
    HEIGHT,
    PICTURE,
    ROOT,
    WIDTH,
    as_text,
    crowd,
    joints_of,
    load,
    needs_coco_mini,
    person,
    polygon,
    rectangle,
    uncompressed,
    write_coco,
)
from torch.utils.data import DataLoader

from rnnpose_plugin.datasets.segmentation import to_mask


@pytest.fixture
def picture(tmp_path):
    """Folder of one picture with a target, a crowd region behind and somebody without joints."""
    write_coco(tmp_path / 'target', PICTURE, {1: BACKGROUND})
    return tmp_path / 'target'


@pytest.fixture
def donors(tmp_path):
    write_coco(tmp_path / 'donors', [person(50, 7, 20, 10, 20, 44)], {7: DONOR_COLOUR})
    return tmp_path / 'donors'


def step(donors, **options):
    defaults = dict(annotations=str(donors / 'people.json'), img_prefix=str(donors / 'images'), prob=1)
    return dict(type='CopyPasteOcclusion', **{**defaults, **options})


def to_pixels(segmentation):
    """Of an entry of ``invalid_segs``: polygons, an RLE, or a list of one RLE."""
    is_list = isinstance(segmentation, list) and isinstance(segmentation[0], dict)
    return to_mask(segmentation[0] if is_list else segmentation, HEIGHT, WIDTH)


def occluded(picture, donors, seed=0, **options):
    np.random.seed(seed)
    return load(picture, step(donors, **options))


@pytest.mark.parametrize('drop', [False, True])
@pytest.mark.parametrize('seed', range(4))
def test_entries_are_those_that_the_toolbox_would_load(picture, donors, drop, seed):
    """The changed annotations are written to a file, and the toolbox's own loader reads it."""
    done = occluded(picture, donors, seed, drop_covered=drop)
    assert done['raw_ann_info'][-1]['area'] > 0
    people = [dict(annotation, image_id=1) for annotation in done['raw_ann_info']]
    content = json.loads((picture / 'people.json').read_text())
    (picture / 'again.json').write_text(json.dumps(dict(content, annotations=people)))
    again = load(picture, name='again.json')
    assert set(done) == set(again)
    for key in ('bbox', 'bbox_score', 'keypoints', 'keypoints_visible', 'area', 'category_id'):
        assert done[key].dtype == again[key].dtype, key
        np.testing.assert_array_equal(done[key], again[key], err_msg=key)
    for key in ('num_keypoints', 'iscrowd', 'id', 'raw_ann_info'):
        assert done[key] == again[key], key
    ours, theirs = ([to_pixels(seg) for seg in entries['invalid_segs']] for entries in (done, again))
    np.testing.assert_array_equal(ours, theirs)
    assert len(done['segmentation']) == len(people)


@pytest.mark.parametrize('seed', range(4))
def test_the_picture_the_pair_and_the_crowd_region(picture, donors, seed):
    done = occluded(picture, donors, seed, iou=(0.4, 0.6))
    target, region, _, pasted = done['raw_ann_info']
    front = to_mask(pasted['segmentation'], HEIGHT, WIDTH)
    expected = np.full((HEIGHT, WIDTH, 3), BACKGROUND)
    for row in range(HEIGHT):
        for column in range(WIDTH):
            if front[row, column]:
                expected[row, column] = DONOR_COLOUR
    np.testing.assert_array_equal(done['img'], expected)
    x, y, w, h = pasted['bbox']
    # The donor is a rectangle, so its pixels fill its box but for what rounding leaves at four sides.
    assert abs(front.sum() - w * h) <= w + h + 2 and pasted['area'] == front.sum()
    assert 0.4 - 1e-6 <= rle.iou([pasted['bbox']], [target['bbox']], [0])[0, 0] <= 0.6 + 1e-6
    assert (to_mask(target['segmentation'], HEIGHT, WIDTH) == rectangle(30, 10, 24, 40) & ~front).all()
    assert (to_mask(region['segmentation'], HEIGHT, WIDTH) == rectangle(24, 6, 40, 30) & ~front).all()
    hidden = [bool(front[round(y), round(x)]) for x, y, _ in joints_of(target)]
    assert any(hidden) and joints_of(target)[:, 2].tolist() == [1 if h else 2 for h in hidden]
    assert done['keypoints_visible'][0].tolist() == [1] * 17  # covered ones stay labelled


def test_dropped_joints_are_not_labelled_and_people_without_any_are_masked_out(tmp_path, picture, donors):
    done = occluded(picture, donors, drop_covered=True, iou=(0.5, 0.6))
    front = to_mask(done['raw_ann_info'][-1]['segmentation'], HEIGHT, WIDTH)
    hidden = np.array([front[round(y), round(x)] for x, y, _ in joints_of(PICTURE[0])])
    assert hidden.any() and done['keypoints_visible'][0].tolist() == (~hidden).astype(float).tolist()
    # Somebody with one joint, in the middle of the target where every donor of this IoU covers it.
    lonely = person(4, 1, 30, 10, 24, 40, num_keypoints=1)
    lonely['keypoints'] = [42, 30, 2] + [0] * 48
    write_coco(picture, [*PICTURE, lonely], {1: BACKGROUND})
    done = occluded(picture, donors, drop_covered=True, iou=(0.6, 0.65))
    assert done['id'] == [1, 2, 3, 4, 5] and done['num_keypoints'][3] == 0
    mask = to_mask(done['raw_ann_info'][3]['segmentation'], HEIGHT, WIDTH)
    assert any((to_pixels(seg) == mask).all() for seg in done['invalid_segs'])


@pytest.mark.parametrize('kind', [polygon, uncompressed, as_text])
@pytest.mark.parametrize('seed', range(2))
def test_whoever_is_half_covered_keeps_a_mask_in_the_toolboxs_own_transform(tmp_path, donors, seed, kind):
    """Against plain pixels; the unlabelled person stands behind the target, so they are always covered in part."""
    place = (34, 14, 24, 30)
    segmentation = polygon(*place) if kind is polygon else kind(rectangle(*place))
    unlabelled = person(3, 1, *place, v=0, num_keypoints=0, segmentation=segmentation)
    write_coco(tmp_path / 'behind', [*PICTURE[:2], unlabelled], {1: BACKGROUND})
    done = occluded(tmp_path / 'behind', donors, seed)
    front = to_mask(done['raw_ann_info'][-1]['segmentation'], HEIGHT, WIDTH)
    behind = rectangle(24, 6, 40, 30) | rectangle(*place)
    assert (behind & front).any()
    theirs = dict(type='BottomupGetHeatmapMask')
    ours = dict(type='InstanceHeatmapMask', heatmap_size=(WIDTH, HEIGHT))
    for transform in (theirs, ours):
        mask = TRANSFORMS.build(transform)(dict(done, input_size=(WIDTH, HEIGHT)))['heatmap_mask']
        np.testing.assert_array_equal(mask.reshape(HEIGHT, WIDTH), ~behind | front)


def targets_and_mask(picture, *steps):
    """The whole training pipeline; the affine step is the identity here."""
    codec = dict(type='InstanceHeatmap', input_size=(WIDTH, HEIGHT), heatmap_size=(WIDTH // 2, HEIGHT // 2))
    affine = dict(input_size=(WIDTH, HEIGHT), shift_prob=0, scale_prob=0, rotate_prob=0, scale_type='long')
    sample = load(
        picture,
        *steps,
        dict(type='BottomupRandomAffine', **affine),
        dict(type='GenerateTarget', encoder=codec),
        dict(type='InstanceHeatmapMask', heatmap_size=(WIDTH // 2, HEIGHT // 2)),
        dict(type='PackPoseInputs'),
    )
    return sample['inputs'], sample['data_samples']


def test_the_training_pipeline_trains_on_the_pasted_person_in_front_of_a_crowd(picture, donors):
    _, plain = targets_and_mask(picture)
    np.random.seed(3)
    inputs, sample = targets_and_mask(picture, step(donors))
    front = (inputs.numpy() == np.array(DONOR_COLOUR).reshape(3, 1, 1)).all(0)
    cells = front.reshape(HEIGHT // 2, 2, WIDTH // 2, 2).mean((1, 3))
    before, after = plain.gt_fields.heatmap_mask[0].numpy(), sample.gt_fields.heatmap_mask[0].numpy()
    assert not before[cells == 1].all() and after[cells == 1].all()  # it was a crowd region, it is somebody now
    np.testing.assert_array_equal(after[cells == 0], before[cells == 0])
    labels = sample.gt_instance_labels
    assert len(plain.gt_instance_labels.keypoint_labels) == 1 and len(labels.keypoint_labels) == 2
    x, y = ((labels.keypoint_labels[1] + 0.5) * 2 - 0.5)[labels.keypoint_weights[1] > 0].round().int().T
    assert front[y, x].all()


def columns_of_pasted(results, donors, draws):
    """Columns of the joints of one donor, pasted several times, and its own."""
    transform = TRANSFORMS.build(step(donors))
    np.random.seed(0)
    own = joints_of(person(50, 7, 20, 10, 20, 44))[:, 0]
    for _ in range(draws):
        x, _, v = joints_of(transform(dict(results))['raw_ann_info'][-1]).T
        if v.all():  # wholly inside the picture
            yield x, own


def test_mirrored_donors_swap_left_and_right(picture, donors):
    """What was the left eye is the right one in a mirror, on the other side of the body."""
    ways = {True: 0, False: 0}
    for x, own in columns_of_pasted(load(picture), donors, 20):
        # Moved and scaled, columns stay on a straight line; the two cases exclude each other.
        straight, swapped = np.corrcoef(x, own)[0, 1] > 0.999, np.corrcoef(x, -own[FLIP])[0, 1] > 0.999
        assert straight != swapped
        ways[bool(swapped)] += 1
    assert min(ways.values()) >= 3


def test_without_flip_indices_nobody_is_mirrored(picture, donors):
    results = load(picture)
    del results['flip_indices']
    found = [np.corrcoef(x, own)[0, 1] for x, own in columns_of_pasted(results, donors, 12)]
    assert len(found) >= 6 and min(found) > 0.999


def test_the_same_seed_gives_the_same_picture(picture, donors):
    first, second, other = (occluded(picture, donors, seed) for seed in (5, 5, 6))
    assert (first['img'] == second['img']).all() and first['raw_ann_info'] == second['raw_ann_info']
    assert first['raw_ann_info'] != other['raw_ann_info']


def test_prob_is_the_share_of_pictures_that_change(picture, donors):
    results, transform = load(picture), TRANSFORMS.build(step(donors, prob=0.5))
    np.random.seed(0)
    changed = sum(transform(dict(results))['img'] is not results['img'] for _ in range(100))
    assert 35 <= changed <= 65  # three standard deviations of 100 coins


def test_pictures_without_a_target_pass_unchanged(tmp_path, donors):
    people = [crowd(1, 1, 24, 6, 40, 30), person(2, 1, 66, 20, 16, 30, v=0, num_keypoints=0)]
    few = person(3, 1, 5, 5, 30, 50)
    few['keypoints'][12:] = [0] * 39  # 4 joints
    write_coco(tmp_path / 'nobody', [*people, few, person(4, 1, 200, 5, 30, 50)], {1: BACKGROUND})
    before, after = load(tmp_path / 'nobody'), occluded(tmp_path / 'nobody', donors)
    assert (before['img'] == after['img']).all() and before['raw_ann_info'] == after['raw_ann_info']
    assert TRANSFORMS.build(step(donors))(dict(raw_ann_info=None)) == dict(raw_ann_info=None)  # nobody at all


def test_when_no_draw_fits_the_picture_is_left_as_it_was(picture, donors):
    before, after = load(picture), occluded(picture, donors, iou=(0.98, 0.99))
    assert (before['img'] == after['img']).all() and before['raw_ann_info'] == after['raw_ann_info']


@pytest.mark.parametrize(('size', 'pasted_size'), [((12, 20), (24, 40)), ((20, 30), None), ((6, 10), (12, 20))])
def test_donors_are_scaled_to_the_targets_area_at_most_twice(tmp_path, picture, size, pasted_size):
    """The target is 24 x 40; twice the last donor's sides are less than that."""
    write_coco(tmp_path / 'small', [person(50, 7, 20, 10, *size)], {7: DONOR_COLOUR})
    transform, results = TRANSFORMS.build(step(tmp_path / 'small', iou=(0.1, 0.15))), load(picture)
    np.random.seed(0)
    pasted = [transform(dict(results))['raw_ann_info'][-1] for _ in range(20)]
    sizes = [someone['bbox'][2:] for someone in pasted if someone['id'] == 4]
    whole = [(w, h) for w, h in sizes if abs(w / h - size[0] / size[1]) < 1e-6]  # not cut off by the border
    assert len(whole) >= 3
    expected = pasted_size or tuple(np.array(size) * (24 * 40 / (size[0] * size[1])) ** 0.5)
    np.testing.assert_allclose(whole, [expected] * len(whole), rtol=1e-6)


def test_enough_of_the_donor_is_inside_the_picture(tmp_path, donors):
    """A target at the picture's corner: many placements would show a foot only."""
    corner = tmp_path / 'corner'
    write_coco(corner, [person(1, 1, 0, 0, 12, 22)], {1: BACKGROUND})
    transform, results = TRANSFORMS.build(step(donors, iou=(0.1, 0.3))), load(corner)
    np.random.seed(0)
    people = [transform(dict(results))['raw_ann_info'][-1] for _ in range(60)]
    seen = [(joints_of(someone)[:, 2] == 2).sum() for someone in people if someone['id'] == 2]
    assert len(seen) >= 20 and 5 <= min(seen) < 17


def test_nobody_is_pasted_over_themselves(picture):
    after = occluded(picture, picture)
    assert len(after['raw_ann_info']) == len(PICTURE)


def test_two_people_of_one_picture_make_a_pair(tmp_path):
    write_coco(tmp_path, [person(1, 1, 30, 10, 24, 40), person(2, 1, 60, 10, 20, 40)], {1: BACKGROUND})
    assert len(occluded(tmp_path, tmp_path)['raw_ann_info']) == 3


def test_who_has_the_same_id_in_another_picture_is_somebody_else(tmp_path, picture):
    write_coco(tmp_path / 'other', [person(PICTURE[0]['id'], 7, 20, 10, 20, 44)], {7: DONOR_COLOUR})
    assert len(occluded(picture, tmp_path / 'other')['raw_ann_info']) == len(PICTURE) + 1


def test_the_iou_is_drawn_from_the_whole_range(picture, donors):
    ious = []
    for seed in range(40):
        people = occluded(picture, donors, seed, iou=(0.2, 0.6))['raw_ann_info']
        ious.append(rle.iou([people[-1]['bbox']], [people[0]['bbox']], [0])[0, 0])
    quarters = np.histogram(ious, bins=4, range=(0.2 - 1e-6, 0.6 + 1e-6))[0]
    assert quarters.sum() == 40 and quarters.min() >= 2, quarters


@pytest.mark.parametrize('seed', range(8))
def test_the_iou_is_that_of_the_boxes_inside_the_picture(tmp_path, donors, seed):
    write_coco(tmp_path / 'beyond', [person(1, 1, -20, 10, 48, 40)], {1: BACKGROUND})
    target, pasted = occluded(tmp_path / 'beyond', donors, seed, iou=(0.5, 0.6))['raw_ann_info']
    assert target['bbox'] == [0, 10, 28, 40]
    assert 0.5 - 1e-6 <= rle.iou([pasted['bbox']], [target['bbox']], [0])[0, 0] <= 0.6 + 1e-6


def test_nobody_is_pasted_over_another_category(tmp_path, picture):
    cat = dict(category_id=2)
    people = [person(50, 7, 20, 10, 20, 44), {**person(51, 8, 20, 10, 20, 44), **cat}]
    write_coco(tmp_path / 'both', people, {7: DONOR_COLOUR, 8: (1, 2, 3)})
    content = json.loads((tmp_path / 'both' / 'people.json').read_text())
    content['categories'].append(dict(content['categories'][0], id=2, name='dog'))
    (tmp_path / 'both' / 'people.json').write_text(json.dumps(content))
    for seed in range(12):
        done = occluded(picture, tmp_path / 'both', seed)
        front = to_mask(done['raw_ann_info'][-1]['segmentation'], HEIGHT, WIDTH)
        assert (done['img'][front] == DONOR_COLOUR).all()
    content['annotations'] = content['annotations'][1:]
    (tmp_path / 'both' / 'dogs.json').write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r'donors are of category \[2\] and somebody in the picture of 1; give'):
        occluded(picture, tmp_path / 'both', annotations=str(tmp_path / 'both' / 'dogs.json'))


def test_before_the_loading_it_is_refused(donors):
    with pytest.raises(ValueError, match='before the picture is loaded; put it right after LoadPoseImage'):
        TRANSFORMS.build(step(donors)).transform(dict(raw_ann_info=[person(1, 1, 30, 10, 24, 40)]))


def test_donors_are_read_before_workers_start(picture, donors):
    """So each worker of each epoch finds them, though the file has gone."""
    cfg = dict(ann_file=str(picture / 'people.json'), data_prefix=dict(img=f'{picture}/images/'), data_mode='bottomup')
    pipeline = [dict(type='LoadPoseImage'), step(donors)]
    dataset = DATASETS.build(dict(type='CocoDataset', **cfg, pipeline=pipeline))
    (donors / 'people.json').unlink()
    loader = DataLoader(dataset, num_workers=1, collate_fn=_first, multiprocessing_context='fork')
    assert [len(done['raw_ann_info']) for _ in range(2) for done in loader] == [len(PICTURE) + 1] * 2


def _first(batch):
    return batch[0]


def test_nan_is_no_place_to_paste_somebody(tmp_path, donors):
    nan = float('nan')
    people = [person(1, 1, 30, 10, 24, 40, bbox=[nan, 10, 24, 40], keypoints=[nan, 20, 2] * 17)]
    write_coco(tmp_path / 'nan', people, {1: BACKGROUND})
    before, after = load(tmp_path / 'nan'), occluded(tmp_path / 'nan', donors)
    assert (before['img'] == after['img']).all() and len(after['raw_ann_info']) == 1


def test_donors_must_fit(tmp_path, picture, donors):
    short = person(50, 7, 20, 10, 20, 44)
    short['keypoints'] = short['keypoints'][:42]
    write_coco(tmp_path / 'short', [short], {7: DONOR_COLOUR})
    with pytest.raises(ValueError, match='14 joints.*17; give donors labelled in the same way'):
        occluded(picture, tmp_path / 'short')
    cv2.imwrite(str(donors / 'images' / '7.png'), np.zeros((WIDTH, HEIGHT, 3), np.uint8))  # turned by 90 degrees
    with pytest.raises(ValueError, match='96 x 64 pixels.*64 x 96; correct'):
        occluded(picture, donors)


@pytest.mark.parametrize(
    ('before', 'sentence'),
    [
        (dict(type='RandomFlip', direction='horizontal', prob=1.0), 'left flip'),
        (dict(type='BottomupRandomAffine', input_size=(64, 64)), 'left warp_mat'),
        (dict(type='FilterAnnotations', by_kpt=True), 'took people out'),
        (dict(type='BottomupResize', input_size=(64, 64)), 'left input_size'),
        (dict(type='KeypointConverter', num_keypoints=17, mapping=list(enumerate(FLIP))), 'changed the joints'),
        (dict(type='KeypointConverter', num_keypoints=2, mapping=[(0, 0), (5, 1)]), 'changed the joints'),
    ],
)
def test_behind_a_step_that_moves_the_picture_it_is_refused(picture, donors, before, sentence):
    with pytest.raises(ValueError, match=f'{sentence}.*right after LoadPoseImage'):
        load(picture, before, step(donors))


def test_a_picture_of_another_size_or_without_colours_is_refused(picture, donors):
    results, transform = load(picture), TRANSFORMS.build(step(donors))
    image = results['img']
    with pytest.raises(ValueError, match=r'changed the picture from \(64, 96\) to \(32, 96\).*right after LoadPose'):
        transform(dict(results, img=image[:32]))
    for grey in (image[..., 0], image[..., :1]):
        with pytest.raises(ValueError, match=r"in colour, but the picture is \(64, 96.*; load it .*color_type='color'"):
            transform(dict(results, img=grey))


def test_a_file_without_donors_is_refused_at_construction(tmp_path):
    write_coco(tmp_path / 'bad', [person(1, 7, 20, 10, 20, 44, segmentation=None)], {7: DONOR_COLOUR})
    with pytest.raises(ValueError, match='nobody to cut out.*1 without a mask'):
        TRANSFORMS.build(step(tmp_path / 'bad'))


@pytest.mark.parametrize(
    'setting',
    [
        dict(prob=1.5), dict(iou=(0.7, 0.3)), dict(iou=(0, 0.3)), dict(iou=(0.5, 1)), dict(iou=(0.5,)),
        dict(min_keypoints=0), dict(max_tries=0), dict(prob=True), dict(prob='0.5'), dict(iou=0.5),
        dict(iou=('a', 'b')), dict(min_keypoints=5.5), dict(max_tries=2.5), dict(max_tries=True),
        dict(drop_covered='no'),
    ],
)  # fmt: skip
def test_bad_settings_are_refused_at_construction(setting):
    (name,) = setting
    with pytest.raises(ValueError, match=f'^{name} is .*; (choose|give) '):
        TRANSFORMS.build(dict(type='CopyPasteOcclusion', annotations='', img_prefix='', **setting))


@needs_coco_mini
def test_real_pictures_through_the_papers_training_pipeline():
    cfg = Config.fromfile(ROOT / 'configs' / 'rnnpose_hg_coco.py').train_dataloader.dataset
    paste_step = dict(
        type='CopyPasteOcclusion',
        annotations=str(COCO_MINI / cfg.ann_file),
        img_prefix=str(COCO_MINI / 'train2017'),
        prob=1,
    )
    pipeline = [cfg.pipeline[0], paste_step, *cfg.pipeline[1:]]
    affine = next(part for part in pipeline if part['type'] == 'BottomupRandomAffine')
    affine.update(shift_prob=0, scale_prob=0, rotate_prob=0, scale_type='long')  # the whole picture: nobody is cut off
    plain = DATASETS.build(dict(cfg, data_root=f'{COCO_MINI}/', pipeline=[]))
    dataset = DATASETS.build(dict(cfg, data_root=f'{COCO_MINI}/', pipeline=pipeline))
    np.random.seed(0)
    more = 0
    for i in range(0, len(dataset), 3):
        info, sample = plain.get_data_info(i), dataset[i]['data_samples']
        people = ((info['keypoints_visible'] > 0).any(1) & ~np.array(info['iscrowd'], bool)).sum()
        found = len(sample.gt_instance_labels.keypoint_labels)
        assert found in (people, people + 1) and sample.gt_fields.heatmap_mask.shape == (1, 128, 128)
        more += found - people
    assert more >= 5
