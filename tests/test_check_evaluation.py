"""Evaluations that are refused before the run, those that pass, and evaluators given as a dict over a list."""

from __future__ import annotations

import json

import pytest
from mmengine.config import Config
from mmpose.evaluation.metrics import CocoMetric
from rectangle_people import BACKGROUND, person, write_coco

from rnnpose_plugin.runtime.check_evaluation import check_evaluation

BOTTOM_UP = "use type='BottomupCocoMetric'"


@pytest.fixture
def folder(tmp_path):
    """Three images: two people, one, none."""
    people = [person(1, 1, 10, 10, 24, 40), person(2, 1, 50, 10, 24, 40), person(3, 2, 10, 10, 24, 40)]
    write_coco(tmp_path, people, {1: BACKGROUND, 2: BACKGROUND, 3: BACKGROUND})
    return tmp_path


def change(folder, to='people.json', **parts):
    """A copy of the file; a part is replaced, or each of its entries updated by a dict."""
    data = json.loads((folder / 'people.json').read_text())
    for part, value in parts.items():
        data[part] = [dict(entry, **value) for entry in data[part]] if isinstance(value, dict) else value
    (folder / to).write_text(json.dumps(data))
    return str(folder / to)


def data_set(folder, name='people.json', **settings):
    cfg = dict(type='CocoDataset', data_mode='bottomup', ann_file=str(folder / name), pipeline=[], test_mode=True)
    return dict(cfg, data_prefix=dict(img=f'{folder}/images/'), **settings)


def joined(*data_sets):
    metainfo = dict(from_file='configs/_base_/datasets/coco.py')
    return dict(type='CombinedDataset', metainfo=metainfo, datasets=list(data_sets), pipeline=[])


def check(data, evaluator, training=False):
    name = 'val' if training else 'test'
    check_evaluation(Config({f'{name}_dataloader': dict(dataset=data), f'{name}_evaluator': evaluator}), training)


@pytest.fixture
def passes(folder):
    def run(data=None, type='BottomupCocoMetric', **settings):
        check(data or data_set(folder), [dict(type=type, **settings)])

    return run


@pytest.fixture
def refused(passes):
    def run(*sentences, **given):
        with pytest.raises(ValueError) as error:
            passes(**given)
        for sentence in sentences:
            assert sentence in str(error.value), error.value

    return run


@pytest.mark.parametrize('kind', ['BottomupCocoMetric', 'CocoMetric', 'PersonCountMetric'])
@pytest.mark.parametrize('form', ['list', 'dict', 'evaluator', 'built'])
def test_metrics_that_pass(folder, kind, form):
    metric = dict(type=kind) if form != 'built' else CocoMetric(ann_file=str(folder / 'people.json'))
    for training in (False, True):
        evaluator = dict(dict=metric, evaluator=dict(type='Evaluator', metrics=[metric])).get(form, [metric])
        check(data_set(folder), evaluator, training)


def test_a_metric_of_one_person(folder, passes, refused):
    given = dict(type='PCKAccuracy')
    refused('test_evaluator (PCKAccuracy) compares one pose with one person', BOTTOM_UP, **given)
    refused('compares one pose', type='KeypointPartitionMetric', metric=given, partitions=dict(a=[0]))
    passes(type='KeypointPartitionMetric', metric=dict(type='CocoMetric'), partitions=dict(a=[0]))
    passes(dict(data_set(folder), data_mode='topdown'), **given)


def test_results_without_the_name_of_a_file(folder, passes, refused):
    refused('has format_only=True, but no outfile_prefix', format_only=True)
    path = change(folder, 'no_people.json', annotations=[])
    passes(ann_file=path, format_only=True, outfile_prefix='somewhere')


def test_a_file_of_other_images(folder, passes, refused):
    images = json.loads((folder / 'people.json').read_text())['images']
    same, fewer = change(folder, 'same.json'), change(folder, 'fewer.json', images=images[:2])
    passes(ann_file=same)
    refused(f'{fewer} lacks image 3 of {folder}/people.json', 'leave ann_file out', ann_file=fewer)
    passes(data_set(folder, indices=2), ann_file=fewer)
    images[0]['file_name'] = 'other.png'
    other = change(folder, 'other.json', images=images)
    refused('image 1 is other.png in', f'{folder}/images/1.png is tested', ann_file=other)
    people = json.loads((folder / 'people.json').read_text())['annotations']
    wrong = change(folder, 'wrong.json', annotations=[dict(people[0], keypoints=[1, 1, 2])])
    refused(f'{wrong}: annotation 1 has 3 keypoint numbers', ann_file=wrong)


def test_several_files(folder, passes, refused):
    change(folder, 'again.json')
    both = joined(data_set(folder), data_set(folder, 'again.json'))
    refused('reads one annotation file, but the data set joins 2', data=both)
    passes(joined(data_set(folder), data_set(folder)), ann_file=str(folder / 'people.json'))
    passes(both, ann_file=str(folder / 'people.json'))  # the same images under the same ids
    again = dict(data_set(folder, 'again.json'), data_prefix=dict(img=f'{folder}/elsewhere/'))
    refused('/images/1.png and ', '/elsewhere/1.png have the id 1; renumber them', data=joined(data_set(folder), again),
            ann_file=str(folder / 'people.json'))  # fmt: skip
    metrics = [dict(type='BottomupCocoMetric', ann_file=str(folder / name)) for name in ('people.json', 'again.json')]
    check(both, dict(type='MultiDatasetEvaluator', metrics=metrics, datasets=[data_set(folder), again]))


def test_an_index_of_crowding(folder, passes, refused):
    refused('image 1', 'has no crowdIndex', "iou_type='keypoints'", iou_type='keypoints_crowd')
    change(folder, images=dict(crowdIndex=0.5))
    passes(iou_type='keypoints_crowd')
    change(folder, images=dict(crowdIndex='easy'))
    refused('has no crowdIndex', iou_type='keypoints_crowd')


@pytest.mark.parametrize('area', [None, 0, -1, float('nan')])
def test_people_without_an_area(folder, passes, refused, log_lines, area):
    change(folder, annotations=dict(area=area))
    passes()
    assert any('3 of 3 people have no positive area; OKS takes 0.53 of their box' in line for line in log_lines())
    refused('the area', f'of annotation 1; {BOTTOM_UP}', type='CocoMetric')
    before = len(log_lines())
    passes(use_area=False)
    passes(type='CocoMetric', use_area=False)
    assert len(log_lines()) == before
    change(folder, annotations=dict(area=area, bbox=[5, 5, 0, 0], keypoints=[5, 5, 2] * 17))
    for use_area in (True, False):
        refused('annotation 1 has neither an area nor a box with an extent', use_area=use_area)


def test_what_mmposes_own_metric_cannot_take(folder, passes, refused):
    for given in (dict(indices=2), dict(sample_interval=2)):
        refused('indices or sample_interval leave out', BOTTOM_UP, data=data_set(folder, **given), type='CocoMetric')
        passes(data_set(folder, **given))
    for part, entry, sentence in (
        ('annotations', dict(id=-1), 'the id -1 of annotation -1'),
        ('categories', dict(id=3), 'needs the category 1'),
        ('annotations', dict(category_id=3), 'the category_id 3 of annotation'),
    ):
        people = json.loads((folder / 'people.json').read_text())[part]
        change(folder, 'odd.json', **{part: [dict(people[0], **entry), *people[1:]]})
        refused(sentence, BOTTOM_UP, data=data_set(folder, 'odd.json'), type='CocoMetric')


MERGED = {
    # what a config gives over [dict(type='BottomupCocoMetric', nms_mode='none'), dict(type='PersonCountMetric')]
    'nms': (
        dict(nms_mode='oks_nms'),
        [dict(type='BottomupCocoMetric', nms_mode='oks_nms'), dict(type='PersonCountMetric')],
    ),
    'same type': (
        dict(type='BottomupCocoMetric', use_area=False),
        [dict(type='BottomupCocoMetric', nms_mode='none', use_area=False), dict(type='PersonCountMetric')],
    ),
    'other type': (dict(type='CocoMetric'), [dict(type='CocoMetric')]),
    'deleted': (dict(_delete_=True, type='BottomupCocoMetric'), [dict(type='BottomupCocoMetric')]),
    'evaluator': (
        dict(type='Evaluator', metrics=[dict(type='CocoMetric')]),
        dict(type='Evaluator', metrics=[dict(type='CocoMetric')]),
    ),
    'list': ([dict(type='CocoMetric')], [dict(type='CocoMetric')]),
}  # fmt: skip


@pytest.mark.parametrize('given', MERGED)
def test_an_evaluator_given_as_a_dict(tmp_path, given):
    """MMPose's configs give a dict; MMEngine refuses to merge that into a list."""
    text = "test_evaluator = [dict(type='BottomupCocoMetric', nms_mode='none'), dict(type='PersonCountMetric')]\n"
    (tmp_path / 'base.py').write_text(text)
    evaluator, expected = MERGED[given]
    (tmp_path / 'mine.py').write_text(f"_base_ = 'base.py'\ntest_evaluator = {evaluator!r}\n")
    assert Config.fromfile(tmp_path / 'mine.py').test_evaluator == expected


def test_an_option_of_a_numbered_metric(tmp_path):
    cfg = Config(dict(test_evaluator=[dict(type='A'), dict(type='B')]))
    cfg.merge_from_dict({'test_evaluator.1.x': 5})
    assert cfg.test_evaluator == [dict(type='A'), dict(type='B', x=5)]
