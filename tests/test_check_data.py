"""Faults of annotation files that are refused, each in an otherwise correct file."""

from __future__ import annotations

import json
import os
from copy import deepcopy
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.fileio import LocalBackend, register_backend
from mmengine.registry import DefaultScope

from rnnpose_plugin.runtime.check_annotations import read_annotation_file
from rnnpose_plugin.runtime.check_data import check_annotation_file, leaf_datasets
from rnnpose_plugin.runtime.checks import check_config

K = 17
NAN = float('nan')


def coco(num_people=3, num_keypoints=K):
    """Two images; person i (annotation 100 + i) has its keypoint j at (10 i + j, 5) with visibility j % 3."""
    people = [
        dict(
            id=100 + i,
            image_id=1 + i % 2,
            category_id=1,
            iscrowd=0,
            bbox=[10 * i, 0, 20, 30.5],
            area=400,
            keypoints=[value for j in range(num_keypoints) for value in (10 * i + j, 5, j % 3)],
        )
        for i in range(num_people)
    ]
    images = [dict(id=i, file_name=f'{i}.jpg', width=64, height=48) for i in (1, 2)]
    return dict(images=images, annotations=people, categories=[dict(id=1, name='person')])


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / 'people.json')


def write(path, data):
    with open(path, 'w') as file:
        json.dump(data, file)
    return path


def test_whole_files_pass(path, tmp_path):
    for name in '1', '2':
        (tmp_path / f'{name}.jpg').touch()
    check_annotation_file(write(path, coco()), K, str(tmp_path), training=True)


def test_file_without_people_passes_unless_it_is_trained_on(path):
    write(path, coco(num_people=0))
    check_annotation_file(path, K)
    with pytest.raises(ValueError, match='no person to train on: .* among 0 annotations'):
        check_annotation_file(path, K, training=True)


def test_people_without_keypoints_beside_others_pass(path):
    data = coco()
    del data['annotations'][1]['keypoints'], data['annotations'][1]['bbox']
    check_annotation_file(write(path, data), K, training=True)


def test_missing_file(path):
    with pytest.raises(FileNotFoundError, match=f'{path} does not exist; check data_root'):
        check_annotation_file(path, K)


def test_cut_off_file(path):
    write(path, coco())
    os.truncate(path, 500)
    with pytest.raises(ValueError, match=f'{path} is not valid JSON .*download it again'):
        check_annotation_file(path, K)


def test_binary_file(path):
    with open(path, 'wb') as file:
        file.write(b'\xff\xd8\xff\xe0')
    with pytest.raises(ValueError, match=f'{path} is not valid JSON'):
        check_annotation_file(path, K)


@pytest.mark.parametrize('data', [[coco()], 5, dict(people=[])])
def test_other_json(path, data):
    with pytest.raises(ValueError, match='has no images, annotations, categories'):
        check_annotation_file(write(path, data), K)


@pytest.mark.parametrize('part', ['images', 'annotations', 'categories'])
def test_part_is_missing(path, part):
    data = coco()
    del data[part]
    with pytest.raises(ValueError, match=f'{path} has no {part};'):
        check_annotation_file(write(path, data), K)


def test_no_images(path):
    with pytest.raises(ValueError, match='lists no images'):
        check_annotation_file(write(path, dict(coco(), images=[])), K)


def test_field_is_missing(path):
    data = coco()
    del data['images'][1]['height'], data['images'][1]['width']
    with pytest.raises(ValueError, match='images without width, height: 2'):
        check_annotation_file(write(path, data), K)


def test_json_without_keypoints(path):
    data = coco()
    for ann in data['annotations']:
        del ann['keypoints']
    with pytest.raises(ValueError, match='JSON without keypoints: none of its 3 .*person_keypoints_train2017'):
        check_annotation_file(write(path, data), K)


def check_with(path, **fields):
    """Check a file whose second person (annotation 101) has these fields."""
    data = coco()
    data['annotations'][1].update(fields)
    check_annotation_file(write(path, data), K)


def keypoints_with(index, value):
    keypoints = deepcopy(coco()['annotations'][1]['keypoints'])
    keypoints[index] = value
    return keypoints


@pytest.mark.parametrize('value', [NAN, float('inf'), None, '3', [1, 2], {}])
@pytest.mark.parametrize('index', [0, 2])  # a coordinate, a visibility
def test_keypoint_is_no_finite_number(path, value, index):
    with pytest.raises(ValueError, match='annotation 101 has .* in its keypoints; only finite numbers'):
        check_with(path, keypoints=keypoints_with(index, value))


@pytest.mark.parametrize('value', [3, -1, 0.5])
def test_strange_visibility(path, value):
    with pytest.raises(ValueError, match=f'annotation 101 has visibility {value} at keypoint 4; only 0, 1 and 2'):
        check_with(path, keypoints=keypoints_with(14, value))


@pytest.mark.parametrize(('keypoints', 'length'), [([], 0), ([1, 2, 0] * 14, 42), ([1, 2] * 17, 34), (None, 0)])
def test_keypoints_of_wrong_length(path, keypoints, length):
    match = rf'annotation 101 has {length} keypoint numbers, that is {length / 3:g} keypoints, but the model has 17'
    with pytest.raises(ValueError, match=match):
        check_with(path, keypoints=keypoints)


@pytest.mark.parametrize('bbox', [None, [], [1, 2, 3], 7])
def test_box_without_four_numbers(path, bbox):
    with pytest.raises(ValueError, match='annotation 101 has the bbox .*; give the four numbers'):
        check_with(path, bbox=bbox)


@pytest.mark.parametrize('value', [NAN, None, 'wide'])
def test_box_is_no_finite_number(path, value):
    with pytest.raises(ValueError, match='annotation 101 has .* in its bbox; only finite numbers'):
        check_with(path, bbox=[1, 2, value, 4])


def test_unknown_image(path):
    with pytest.raises(ValueError, match='annotation 101 belongs to image 77'):
        check_with(path, image_id=77)


@pytest.mark.parametrize('fault', [dict(iscrowd=1), dict(bbox=[0, 0, 0, 9]), dict(keypoints=[3, 4, 0] * K)])
def test_no_person_to_train_on(path, fault):
    data = coco(num_people=1)
    data['annotations'][0].update(fault)
    check_annotation_file(write(path, data), K)
    with pytest.raises(ValueError, match='no person to train on'):
        check_annotation_file(path, K, training=True)


@pytest.mark.parametrize('folder', ['', 'sub/'])
def test_missing_image(path, tmp_path, folder):
    data = coco()
    for image in data['images']:
        image['file_name'] = folder + image['file_name']
    os.makedirs(tmp_path / folder, exist_ok=True)
    (tmp_path / folder / '1.jpg').touch()
    with pytest.raises(FileNotFoundError, match=f'image {tmp_path}/{folder}2.jpg does not exist .1 of 2 images'):
        check_annotation_file(write(path, data), K, str(tmp_path))


@pytest.mark.parametrize('value', ['frame_0001', '7', None, 1.0, True, [1], 2**70])
@pytest.mark.parametrize(('part', 'name'), [('images', 'id'), ('annotations', 'id'), ('annotations', 'image_id'),
                                            ('annotations', 'category_id'), ('categories', 'id')])  # fmt: skip
def test_ids_are_whole_numbers(path, part, name, value):
    data = coco()
    data[part][0][name] = value
    with pytest.raises(ValueError, match=f'has the {name} .*; give a whole number'):
        check_annotation_file(write(path, data), K)


@pytest.mark.parametrize('part', ['images', 'annotations'])
def test_ids_are_unique(path, part):
    data = coco()
    data[part][1]['id'] = data[part][0]['id']
    with pytest.raises(ValueError, match=f'2 {part} have the id {data[part][0]["id"]}, of which only the last'):
        check_annotation_file(write(path, data), K)


@pytest.mark.parametrize('value', [None, '64', NAN, 0, -64, True, 1e308])
@pytest.mark.parametrize('name', ['width', 'height'])
def test_sizes_are_positive_numbers(path, name, value):
    data = coco()
    data['images'][1][name] = value
    with pytest.raises(ValueError, match=f"image 2 has the {name} .*; give the image's {name} in pixels"):
        check_annotation_file(write(path, data), K)


@pytest.mark.parametrize(
    ('fields', 'match'),
    [
        (dict(category_id=2), 'has category 2, which is not listed; remove it or add'),
        (dict(bbox=[1, 2, -3, 4]), r'has the bbox \[1, 2, -3, 4\] of negative size'),
        (dict(bbox=[1, 2, 1e200, 4]), r'has 1e\+200 in its bbox, beyond any image'),
        (dict(keypoints=[1e308] + [5] * 50), r'in its keypoints'),
        (dict(keypoints=[[5, 5, 2]] * 17), r'has \[5, 5, 2\] in its keypoints; only finite numbers'),
        (dict(keypoints=[2e6, 5, 2] + [5, 5, 2] * 16), r'has 2e\+06 in its keypoints, beyond any image'),
        (dict(iscrowd='0'), "has iscrowd '0'; give 0 or 1"),
        (dict(iscrowd=2), 'has iscrowd 2; give 0 or 1'),
        (dict(num_keypoints='17'), "has num_keypoints '17'; give the number"),
        (dict(num_keypoints=0), 'has num_keypoints 0 but visible joints, so it would be ignored'),
        (dict(area='400'), "has the area '400'; give a number of pixels"),
    ],
)
def test_fields_that_would_fail_or_be_misread(path, fields, match):
    with pytest.raises(ValueError, match=f'annotation 101 .*{match}'):
        check_with(path, **fields)


def test_num_keypoints_of_crowdpose_counts_visible_joints(path):
    check_with(path, num_keypoints=0, keypoints=[5, 5, 1] * K)


def test_num_keypoints_of_a_crowd_region_is_not_compared(path):
    check_with(path, num_keypoints=0, iscrowd=1)


@pytest.mark.parametrize('name', ['', ' ', 'a\0b.jpg', 5, None])
def test_names_of_images_are_texts(path, name):
    data = coco()
    data['images'][1]['file_name'] = name
    with pytest.raises(ValueError, match='image 2 has the file_name .*; give the name of a file'):
        check_annotation_file(write(path, data), K)


@pytest.mark.parametrize('missing', ['area', 'iscrowd', 'num_keypoints', 'segmentation'])
def test_optional_fields(path, missing):
    data = coco()
    for ann in data['annotations']:
        ann.pop(missing, None)
    check_annotation_file(write(path, data), K, training=True)


@pytest.mark.parametrize('part', ['images', 'annotations', 'categories'])
@pytest.mark.parametrize('value', [None, {}, 5, [None], [[]]])
def test_parts_are_lists_of_dicts(path, part, value):
    with pytest.raises(ValueError, match=f'{path} has .*{part}'):
        check_annotation_file(write(path, dict(coco(), **{part: value})), K)


def test_deep_nesting(path):
    with open(path, 'w') as file:
        file.write('[' * 100_000 + ']' * 100_000)
    with pytest.raises(ValueError, match='has lists nested too deeply'):
        check_annotation_file(path, K)


def test_annotations_in_a_pipe(path):
    os.mkfifo(path)
    with pytest.raises(ValueError, match='is a folder, a device or a pipe; name a JSON file'):
        check_annotation_file(path, K)


def test_annotations_and_images_in_a_storage(data_set, tmp_path):
    """MMEngine reads them wherever its backends reach; the images' names are compared only."""

    class Storage(LocalBackend):
        def get_text(self, filepath, encoding='utf-8'):
            return Path(tmp_path, filepath.rpartition('/')[2]).read_text(encoding)

    register_backend('storage', Storage, force=True, prefixes='store')
    remote = dict(
        data_set, ann_file=f'store://{Path(data_set["ann_file"]).name}', data_prefix=dict(img='store://images/')
    )
    check_config(config(remote), training=True)
    Path(data_set['ann_file']).write_text('{}')
    with pytest.raises(ValueError, match='store://.* has no images'):
        check_config(config(remote), training=True)


def test_the_joints_of_a_large_file_are_held_as_numbers_without_segmentations(path):
    """A list of 51 numbers takes 1.7 kB, an array 0.5 kB; the check of 200,000 people has to fit into 400 MB."""
    data = coco()
    data['annotations'][0]['segmentation'] = [[1, 2, 3, 4, 5, 6]]
    data['images'][0]['coco_url'] = 'http://'
    read = read_annotation_file(write(path, data))
    assert read['annotations'][0]['keypoints'].itemsize == 8 and 'segmentation' not in read['annotations'][0]
    assert read['images'][0].keys() == {'id', 'file_name', 'width', 'height'}
    assert read_annotation_file(path, whole=True) == data


# check_config


def test_joints_in_other_fields_are_read_as_by_the_class(path, tmp_path, data_set):
    """COCO-WholeBody: 17 + 6 + 68 + 21 + 21 joints. Human-Art: 21 in a field of their own."""
    data = coco()
    parts = dict(foot_kpts=6, face_kpts=68, lefthand_kpts=21, righthand_kpts=21, keypoints_21=21)
    for ann in data['annotations']:
        # num_keypoints counts the body's joints only, of which there may be none beside a visible hand.
        ann.update({name: [5, 5, 2] * count for name, count in parts.items()}, segmentation=[], num_keypoints=0)
    write(path, data)
    for kind, number, field in (('CocoWholeBodyDataset', 133, 'face_kpts'), ('HumanArt21Dataset', 21, 'keypoints_21')):
        cfg = config(dict(data_set, type=kind), num_keypoints=number)
        check_config(cfg, training=True)
        del data['annotations'][1][field]
        write(path, data)
        with pytest.raises(ValueError, match=f"annotation 101 cannot be read by {kind}: it has no '{field}'"):
            check_config(cfg, training=True)
        data['annotations'][1][field] = data['annotations'][0][field]
        data['annotations'][2][field] = [5, 5, 2]
        write(path, data)
        with pytest.raises(ValueError, match=f'annotation 102 has .* but the model has {number}'):
            check_config(cfg, training=True)
        data['annotations'][2][field] = data['annotations'][0][field]
        write(path, data)


def dataset(path, tmp_path, **kwargs):
    prefix = dict(img=str(tmp_path))
    return dict(type='CocoDataset', data_mode='bottomup', ann_file=path, data_prefix=prefix, pipeline=[], **kwargs)


def config(train, num_keypoints=K, **kwargs):
    model = dict(head=dict(num_keypoints=num_keypoints))
    return Config(dict(model=model, train_dataloader=dict(dataset=train), train_cfg=dict(), **kwargs))


@pytest.fixture
def data_set(path, tmp_path):
    for name in '1', '2':
        (tmp_path / f'{name}.jpg').touch()
    return dataset(write(path, coco()), tmp_path)


def test_good_config_passes(data_set):
    check_config(config(data_set), training=True)


def test_scope_of_an_earlier_runner_does_not_matter(data_set):
    with DefaultScope.overwrite_default_scope('mmengine'):
        check_config(config(data_set), training=True)


def test_only_training_data_need_a_person(data_set):
    write(data_set['ann_file'], coco(num_people=0))
    check_config(config(data_set, test_dataloader=dict(dataset=data_set), test_evaluator=[]), training=False)
    with pytest.raises(ValueError, match='no person to train on'):
        check_config(config(data_set), training=True)


def test_data_and_model_differ_in_keypoints(data_set):
    with pytest.raises(ValueError, match=r'num_keypoints=14, but the data set coco .* has 17 keypoints'):
        check_config(config(data_set, num_keypoints=14), training=True)


def test_file_and_metainfo_differ_in_keypoints(data_set):
    write(data_set['ann_file'], coco(num_keypoints=14))
    with pytest.raises(ValueError, match='42 keypoint numbers, that is 14 keypoints, but the model has 17'):
        check_config(config(data_set), training=True)


def test_converted_keypoints_count(data_set):
    converter = dict(type='KeypointConverter', num_keypoints=14, mapping=[(0, 0)])
    check_config(config(dict(data_set, pipeline=[converter]), num_keypoints=14), training=True)


def test_model_without_head_is_not_compared(data_set):
    cfg = config(data_set)
    cfg.model = dict(type='Other')
    check_config(cfg, training=True)


@pytest.mark.parametrize(
    'wrap',
    [
        lambda inner: dict(type='RepeatDataset', times=2, dataset=inner),
        lambda inner: dict(type='ConcatDataset', datasets=[inner]),
        lambda inner: dict(type='CombinedDataset', metainfo={}, datasets=[dict(type='RepeatDataset', dataset=inner)]),
    ],
)
def test_wrapped_data_sets_are_checked(data_set, wrap):
    assert list(leaf_datasets(wrap(data_set))) == [data_set]
    os.remove(data_set['ann_file'])
    with pytest.raises(FileNotFoundError, match='people.json does not exist'):
        check_config(config(wrap(data_set)), training=True)


def test_only_data_that_will_be_read_is_checked(data_set):
    absent = dict(dataset=dict(data_set, ann_file='absent.json'))
    evaluator = dict(type='CocoMetric')
    cfg = config(data_set, test_dataloader=absent, test_cfg=dict(), test_evaluator=evaluator)
    check_config(cfg, training=True)
    with pytest.raises(FileNotFoundError, match='absent.json'):
        check_config(cfg, training=False)
    cfg.val_dataloader, cfg.val_evaluator = absent, [evaluator]
    with pytest.raises(FileNotFoundError, match='absent.json'):
        check_config(cfg, training=True)


def test_test_files_without_annotations_pass_when_results_are_only_written(data_set):
    write(data_set['ann_file'], dict(images=coco()['images']))
    evaluator = dict(type='CocoMetric', format_only=True, outfile_prefix='results')
    cfg = config(data_set, test_dataloader=dict(dataset=data_set), test_evaluator=evaluator)
    check_config(cfg, training=False)


def test_file_of_the_evaluator_is_missing(data_set):
    evaluator = [dict(type='CocoMetric', ann_file='gone.json')]
    cfg = config(data_set, test_dataloader=dict(dataset=data_set), test_evaluator=evaluator)
    with pytest.raises(FileNotFoundError, match=r'test_evaluator\.ann_file gone\.json does not exist'):
        check_config(cfg, training=False)
