"""People pasted over people, through MMPose's own loader and transforms."""

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
    PEOPLE,
    ROOT,
    SIZE,
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
def image_folder(tmp_path):
    """Folder of one image with a target, a crowd region behind it and a person without joints."""
    write_coco(tmp_path / 'target', PEOPLE, {1: BACKGROUND})
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
    return to_mask(segmentation[0] if is_list else segmentation, SIZE)


def occluded(image_folder, donors, seed=0, **options):
    (sample,) = occluded_often(image_folder, donors, [seed], **options)
    return sample


def occluded_often(image_folder, donors, seeds, **options):
    """The same image once per seed; loaded once, as building a data set takes longer than pasting."""
    results, transform = load(image_folder), TRANSFORMS.build(step(donors, **options))
    for seed in seeds:
        np.random.seed(seed)
        yield transform(dict(results))


@pytest.mark.parametrize('drop', [False, True])
@pytest.mark.parametrize('seed', range(4))
def test_entries_are_those_that_mmpose_would_load(image_folder, donors, drop, seed):
    """The changed annotations are written to a file, which MMPose's own loader reads."""
    done = occluded(image_folder, donors, seed, drop_covered=drop)
    assert done['raw_ann_info'][-1]['area'] > 0
    people = [dict(annotation, image_id=1) for annotation in done['raw_ann_info']]
    content = json.loads((image_folder / 'people.json').read_text())
    (image_folder / 'again.json').write_text(json.dumps(dict(content, annotations=people)))
    again = load(image_folder, name='again.json')
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
def test_image_pair_and_crowd_region(image_folder, donors, seed):
    done = occluded(image_folder, donors, seed, iou=(0.4, 0.6))
    target, region, _, pasted = done['raw_ann_info']
    front = to_mask(pasted['segmentation'], SIZE)
    expected = np.full((HEIGHT, WIDTH, 3), BACKGROUND)
    for row in range(HEIGHT):
        for column in range(WIDTH):
            if front[row, column]:
                expected[row, column] = DONOR_COLOUR
    np.testing.assert_array_equal(done['img'], expected)
    x, y, w, h = pasted['bbox']
    # The donor is a rectangle, so its pixels fill its box up to rounding at four sides.
    assert abs(front.sum() - w * h) <= w + h + 2 and pasted['area'] == front.sum()
    assert 0.4 - 1e-6 <= rle.iou([pasted['bbox']], [target['bbox']], [0])[0, 0] <= 0.6 + 1e-6
    assert (to_mask(target['segmentation'], SIZE) == rectangle(30, 10, 24, 40) & ~front).all()
    assert (to_mask(region['segmentation'], SIZE) == rectangle(24, 6, 40, 30) & ~front).all()
    hidden = [bool(front[round(y), round(x)]) for x, y, _ in joints_of(target)]
    assert any(hidden) and joints_of(target)[:, 2].tolist() == [1 if h else 2 for h in hidden]
    assert done['keypoints_visible'][0].tolist() == [1] * 17  # covered joints stay labelled


def test_dropped_joints_are_not_labelled_and_people_without_any_are_masked_out(tmp_path, image_folder, donors):
    done = occluded(image_folder, donors, drop_covered=True, iou=(0.5, 0.6))
    front = to_mask(done['raw_ann_info'][-1]['segmentation'], SIZE)
    hidden = np.array([front[round(y), round(x)] for x, y, _ in joints_of(PEOPLE[0])])
    assert hidden.any() and done['keypoints_visible'][0].tolist() == (~hidden).astype(float).tolist()
    # A person with one joint, in the centre of the target where every donor of this IoU covers it.
    single = person(4, 1, 30, 10, 24, 40, num_keypoints=1)
    single['keypoints'] = [42, 30, 2] + [0] * 48
    write_coco(image_folder, [*PEOPLE, single], {1: BACKGROUND})
    done = occluded(image_folder, donors, drop_covered=True, iou=(0.6, 0.65))
    assert done['id'] == [1, 2, 3, 4, 5] and done['num_keypoints'][3] == 0
    mask = to_mask(done['raw_ann_info'][3]['segmentation'], SIZE)
    assert any((to_pixels(seg) == mask).all() for seg in done['invalid_segs'])


@pytest.mark.parametrize('kind', [polygon, uncompressed, as_text])
@pytest.mark.parametrize('seed', range(2))
def test_partly_covered_people_keep_a_mask_in_mmposes_own_transform(tmp_path, donors, seed, kind):
    """Against a plain mask; the unlabelled person is behind the target and so always covered in part."""
    place = (34, 14, 24, 30)
    segmentation = polygon(*place) if kind is polygon else kind(rectangle(*place))
    unlabelled = person(3, 1, *place, v=0, num_keypoints=0, segmentation=segmentation)
    write_coco(tmp_path / 'behind', [*PEOPLE[:2], unlabelled], {1: BACKGROUND})
    done = occluded(tmp_path / 'behind', donors, seed)
    front = to_mask(done['raw_ann_info'][-1]['segmentation'], SIZE)
    behind = rectangle(24, 6, 40, 30) | rectangle(*place)
    assert (behind & front).any()
    theirs = dict(type='BottomupGetHeatmapMask')
    ours = dict(type='InstanceHeatmapMask', heatmap_size=(WIDTH, HEIGHT))
    for transform in (theirs, ours):
        mask = TRANSFORMS.build(transform)(dict(done, input_size=(WIDTH, HEIGHT)))['heatmap_mask']
        np.testing.assert_array_equal(mask.reshape(HEIGHT, WIDTH), ~behind | front)


def targets_and_mask(image_folder, *steps):
    """The whole training pipeline; the affine step is the identity here."""
    codec = dict(type='InstanceHeatmap', input_size=(WIDTH, HEIGHT), heatmap_size=(WIDTH // 2, HEIGHT // 2))
    affine = dict(input_size=(WIDTH, HEIGHT), shift_prob=0, scale_prob=0, rotate_prob=0, scale_type='long')
    sample = load(
        image_folder,
        *steps,
        dict(type='BottomupRandomAffine', **affine),
        dict(type='GenerateTarget', encoder=codec),
        dict(type='InstanceHeatmapMask', heatmap_size=(WIDTH // 2, HEIGHT // 2)),
        dict(type='PackPoseInputs'),
    )
    return sample['inputs'], sample['data_samples']


def test_the_pipeline_supervises_the_pasted_person_in_front_of_a_crowd(image_folder, donors):
    _, plain = targets_and_mask(image_folder)
    np.random.seed(3)
    inputs, sample = targets_and_mask(image_folder, step(donors))
    front = (inputs.numpy() == np.array(DONOR_COLOUR).reshape(3, 1, 1)).all(0)
    cells = front.reshape(HEIGHT // 2, 2, WIDTH // 2, 2).mean((1, 3))
    before, after = plain.gt_fields.heatmap_mask[0].numpy(), sample.gt_fields.heatmap_mask[0].numpy()
    assert not before[cells == 1].all() and after[cells == 1].all()  # a crowd region before, a person now
    np.testing.assert_array_equal(after[cells == 0], before[cells == 0])
    labels = sample.gt_instance_labels
    assert len(plain.gt_instance_labels.keypoint_labels) == 1 and len(labels.keypoint_labels) == 2
    x, y = ((labels.keypoint_labels[1] + 0.5) * 2 - 0.5)[labels.keypoint_weights[1] > 0].round().int().T
    assert front[y, x].all()


def columns_of_pasted(results, donors, draws):
    """Columns of the joints of one donor, pasted several times, and in its own image."""
    transform = TRANSFORMS.build(step(donors))
    np.random.seed(0)
    own = joints_of(person(50, 7, 20, 10, 20, 44))[:, 0]
    for _ in range(draws):
        x, _, v = joints_of(transform(dict(results))['raw_ann_info'][-1]).T
        if v.all():  # wholly inside the image_folder
            yield x, own


def test_mirrored_donors_swap_left_and_right(image_folder, donors):
    """Mirrored, the left eye becomes the right one, on the other side of the body."""
    ways = {True: 0, False: 0}
    for x, own in columns_of_pasted(load(image_folder), donors, 20):
        # Shifted and scaled, columns stay on a straight line; the two cases exclude each other.
        straight, swapped = np.corrcoef(x, own)[0, 1] > 0.999, np.corrcoef(x, -own[FLIP])[0, 1] > 0.999
        assert straight != swapped
        ways[bool(swapped)] += 1
    assert min(ways.values()) >= 3


def test_without_flip_indices_donors_are_not_mirrored(image_folder, donors):
    results = load(image_folder)
    del results['flip_indices']
    found = [np.corrcoef(x, own)[0, 1] for x, own in columns_of_pasted(results, donors, 12)]
    assert len(found) >= 6 and min(found) > 0.999


def test_the_same_seed_gives_the_same_image(image_folder, donors):
    first, second, other = occluded_often(image_folder, donors, (5, 5, 6))
    assert (first['img'] == second['img']).all() and first['raw_ann_info'] == second['raw_ann_info']
    assert first['raw_ann_info'] != other['raw_ann_info']


def test_prob_is_the_share_of_images_that_change(image_folder, donors):
    results, transform = load(image_folder), TRANSFORMS.build(step(donors, prob=0.5))
    np.random.seed(0)
    changed = sum(transform(dict(results))['img'] is not results['img'] for _ in range(100))
    assert 35 <= changed <= 65  # three standard deviations of 100 draws


def test_images_without_a_target_pass_unchanged(tmp_path, donors):
    people = [crowd(1, 1, 24, 6, 40, 30), person(2, 1, 66, 20, 16, 30, v=0, num_keypoints=0)]
    few = person(3, 1, 5, 5, 30, 50)
    few['keypoints'][12:] = [0] * 39  # 4 joints
    write_coco(tmp_path / 'no_target', [*people, few, person(4, 1, 200, 5, 30, 50)], {1: BACKGROUND})
    before, after = load(tmp_path / 'no_target'), occluded(tmp_path / 'no_target', donors)
    assert (before['img'] == after['img']).all() and before['raw_ann_info'] == after['raw_ann_info']
    assert TRANSFORMS.build(step(donors))(dict(raw_ann_info=None)) == dict(raw_ann_info=None)  # no person at all


def test_when_no_draw_fits_the_image_is_not_changed(image_folder, donors):
    before, after = load(image_folder), occluded(image_folder, donors, iou=(0.98, 0.99))
    assert (before['img'] == after['img']).all() and before['raw_ann_info'] == after['raw_ann_info']


@pytest.mark.parametrize(('size', 'pasted_size'), [((12, 20), (24, 40)), ((20, 30), None), ((6, 10), (12, 20))])
def test_donors_are_scaled_to_the_targets_area_at_most_twice(tmp_path, image_folder, size, pasted_size):
    """The target is 24 x 40; twice the last donor's sides are less than that."""
    write_coco(tmp_path / 'small', [person(50, 7, 20, 10, *size)], {7: DONOR_COLOUR})
    transform, results = TRANSFORMS.build(step(tmp_path / 'small', iou=(0.1, 0.15))), load(image_folder)
    np.random.seed(0)
    pasted = [transform(dict(results))['raw_ann_info'][-1] for _ in range(20)]
    sizes = [annotation['bbox'][2:] for annotation in pasted if annotation['id'] == 4]
    whole = [(w, h) for w, h in sizes if abs(w / h - size[0] / size[1]) < 1e-6]  # not cut off by the border
    assert len(whole) >= 3
    expected = pasted_size or tuple(np.array(size) * (24 * 40 / (size[0] * size[1])) ** 0.5)
    np.testing.assert_allclose(whole, [expected] * len(whole), rtol=1e-6)


def test_enough_of_the_donor_is_inside_the_image(tmp_path, donors):
    """A target in the corner of the image: many placements would show a foot only."""
    corner = tmp_path / 'corner'
    write_coco(corner, [person(1, 1, 0, 0, 12, 22)], {1: BACKGROUND})
    transform, results = TRANSFORMS.build(step(donors, iou=(0.1, 0.3))), load(corner)
    np.random.seed(0)
    people = [transform(dict(results))['raw_ann_info'][-1] for _ in range(60)]
    seen = [(joints_of(annotation)[:, 2] == 2).sum() for annotation in people if annotation['id'] == 2]
    assert len(seen) >= 20 and 5 <= min(seen) < 17


def test_a_donor_is_not_pasted_over_itself(image_folder):
    after = occluded(image_folder, image_folder)
    assert len(after['raw_ann_info']) == len(PEOPLE)


def test_two_people_of_one_image_make_a_pair(tmp_path):
    write_coco(tmp_path, [person(1, 1, 30, 10, 24, 40), person(2, 1, 60, 10, 20, 40)], {1: BACKGROUND})
    assert len(occluded(tmp_path, tmp_path)['raw_ann_info']) == 3


def test_the_same_id_in_another_image_is_another_person(tmp_path, image_folder):
    write_coco(tmp_path / 'other', [person(PEOPLE[0]['id'], 7, 20, 10, 20, 44)], {7: DONOR_COLOUR})
    assert len(occluded(image_folder, tmp_path / 'other')['raw_ann_info']) == len(PEOPLE) + 1


def test_the_iou_is_drawn_from_the_whole_range(image_folder, donors):
    ious = []
    for done in occluded_often(image_folder, donors, range(40), iou=(0.2, 0.6)):
        people = done['raw_ann_info']
        ious.append(rle.iou([people[-1]['bbox']], [people[0]['bbox']], [0])[0, 0])
    quarters = np.histogram(ious, bins=4, range=(0.2 - 1e-6, 0.6 + 1e-6))[0]
    assert quarters.sum() == 40 and quarters.min() >= 2, quarters


@pytest.mark.parametrize('seed', range(8))
def test_the_iou_is_that_of_the_clipped_boxes(tmp_path, donors, seed):
    write_coco(tmp_path / 'beyond', [person(1, 1, -20, 10, 48, 40)], {1: BACKGROUND})
    target, pasted = occluded(tmp_path / 'beyond', donors, seed, iou=(0.5, 0.6))['raw_ann_info']
    assert target['bbox'] == [0, 10, 28, 40]
    assert 0.5 - 1e-6 <= rle.iou([pasted['bbox']], [target['bbox']], [0])[0, 0] <= 0.6 + 1e-6


def test_donors_have_the_category_of_the_target(tmp_path, image_folder):
    cat = dict(category_id=2)
    people = [person(50, 7, 20, 10, 20, 44), {**person(51, 8, 20, 10, 20, 44), **cat}]
    write_coco(tmp_path / 'both', people, {7: DONOR_COLOUR, 8: (1, 2, 3)})
    content = json.loads((tmp_path / 'both' / 'people.json').read_text())
    content['categories'].append(dict(content['categories'][0], id=2, name='dog'))
    (tmp_path / 'both' / 'people.json').write_text(json.dumps(content))
    for done in occluded_often(image_folder, tmp_path / 'both', range(12)):
        front = to_mask(done['raw_ann_info'][-1]['segmentation'], SIZE)
        assert (done['img'][front] == DONOR_COLOUR).all()
    content['annotations'] = content['annotations'][1:]
    (tmp_path / 'both' / 'dogs.json').write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r'donors have category \[2\] and a person of the image has 1; give'):
        occluded(image_folder, tmp_path / 'both', annotations=str(tmp_path / 'both' / 'dogs.json'))


def test_before_the_loading_it_is_refused(donors):
    with pytest.raises(ValueError, match='before the image is loaded; put it right after LoadPoseImage'):
        TRANSFORMS.build(step(donors)).transform(dict(raw_ann_info=[person(1, 1, 30, 10, 24, 40)]))


def test_donors_are_read_before_workers_start(image_folder, donors):
    """Each worker of each epoch finds them, although the file was removed."""
    cfg = dict(
        ann_file=str(image_folder / 'people.json'),
        data_prefix=dict(img=f'{image_folder}/images/'),
        data_mode='bottomup',
    )
    pipeline = [dict(type='LoadPoseImage'), step(donors)]
    dataset = DATASETS.build(dict(type='CocoDataset', **cfg, pipeline=pipeline))
    (donors / 'people.json').unlink()
    loader = DataLoader(dataset, num_workers=1, collate_fn=_first, multiprocessing_context='fork')
    assert [len(done['raw_ann_info']) for _ in range(2) for done in loader] == [len(PEOPLE) + 1] * 2


def _first(batch):
    return batch[0]


def test_a_person_with_nan_is_not_a_target(tmp_path, donors):
    nan = float('nan')
    people = [person(1, 1, 30, 10, 24, 40, bbox=[nan, 10, 24, 40], keypoints=[nan, 20, 2] * 17)]
    write_coco(tmp_path / 'nan', people, {1: BACKGROUND})
    before, after = load(tmp_path / 'nan'), occluded(tmp_path / 'nan', donors)
    assert (before['img'] == after['img']).all() and len(after['raw_ann_info']) == 1


def test_donors_must_fit(tmp_path, image_folder, donors):
    short = person(50, 7, 20, 10, 20, 44)
    short['keypoints'] = short['keypoints'][:42]
    write_coco(tmp_path / 'short', [short], {7: DONOR_COLOUR})
    with pytest.raises(ValueError, match='14 joints.*17; give donors labelled in the same way'):
        occluded(image_folder, tmp_path / 'short')
    cv2.imwrite(str(donors / 'images' / '7.png'), np.zeros((WIDTH, HEIGHT, 3), np.uint8))  # turned by 90 degrees
    with pytest.raises(ValueError, match='96 x 64 pixels.*64 x 96; correct'):
        occluded(image_folder, donors)


@pytest.mark.parametrize(
    ('before', 'sentence'),
    [
        (dict(type='RandomFlip', direction='horizontal', prob=1.0), 'left flip'),
        (dict(type='BottomupRandomAffine', input_size=(64, 64)), 'left warp_mat'),
        (dict(type='FilterAnnotations', by_kpt=True), 'removed people'),
        (dict(type='BottomupResize', input_size=(64, 64)), 'left input_size'),
        (dict(type='KeypointConverter', num_keypoints=17, mapping=list(enumerate(FLIP))), 'changed the joints'),
        (dict(type='KeypointConverter', num_keypoints=2, mapping=[(0, 0), (5, 1)]), 'changed the joints'),
    ],
)
def test_after_a_transform_that_moves_the_image_it_is_refused(image_folder, donors, before, sentence):
    with pytest.raises(ValueError, match=f'{sentence}.*right after LoadPoseImage'):
        load(image_folder, before, step(donors))


def test_an_image_of_another_size_or_without_colours_is_refused(image_folder, donors):
    results, transform = load(image_folder), TRANSFORMS.build(step(donors))
    image = results['img']
    with pytest.raises(ValueError, match=r'changed the image from \(64, 96\) to \(32, 96\).*right after LoadPose'):
        transform(dict(results, img=image[:32]))
    for grey in (image[..., 0], image[..., :1]):
        with pytest.raises(ValueError, match=r"in colour, but the image is \(64, 96.*; load it .*color_type='color'"):
            transform(dict(results, img=grey))


def test_a_file_without_donors_is_refused_at_construction(tmp_path):
    write_coco(tmp_path / 'bad', [person(1, 7, 20, 10, 20, 44, segmentation=None)], {7: DONOR_COLOUR})
    with pytest.raises(ValueError, match='has no person with a mask.*1 without a mask'):
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
def test_real_images_through_the_training_pipeline_of_the_paper():
    cfg = Config.fromfile(ROOT / 'configs' / 'rnnpose_hg_coco.py').train_dataloader.dataset
    paste_step = dict(
        type='CopyPasteOcclusion',
        annotations=str(COCO_MINI / cfg.ann_file),
        img_prefix=str(COCO_MINI / 'train2017'),
        prob=1,
    )
    pipeline = [cfg.pipeline[0], paste_step, *cfg.pipeline[1:]]
    affine = next(part for part in pipeline if part['type'] == 'BottomupRandomAffine')
    affine.update(
        shift_prob=0, scale_prob=0, rotate_prob=0, scale_type='long'
    )  # the whole image, so that everyone is inside
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
