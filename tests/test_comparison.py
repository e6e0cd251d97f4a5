"""Two models on the same images: running, resuming, refusals, the report and the command."""

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmpose.registry import METRICS
from small_contenders import (
    AE,
    BACKBONE,
    DATA,
    DECODER,
    RNN,
    ROOT,
    change_annotations,
    contender,
    report_of,
    write_contenders,
)

from projects.compare.contender import check_test_data, load_contender
from projects.compare.facts import Fact, other_facts, refuse_unequal, required_facts
from projects.compare.plots import JudgedImage, _fitted, draw_disagreements, plot_counts
from projects.compare.predictions import PredictionDump, Stopwatch, detections_of, only_writer, open_dump, predict
from projects.compare.report import Results, as_text, write_report

TOOL = ROOT / 'tools' / 'compare.py'
DATASET = 'test_dataloader__dataset__'


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """A crowd whose image 2 has no people, and two checkpoints with the same backbone."""
    return write_contenders(tmp_path_factory.mktemp('comparison'))


def results_of(model, path, limit=None):
    predict(model, open_dump(model, str(path), limit))
    return Results(model, open_dump(model, str(path), limit))


@pytest.fixture(scope='module')
def dumps(folder):
    """Both models' predictions on the whole test set."""
    for kind in ('ae', 'rnn'):
        predict(contender(folder, kind), open_dump(contender(folder, kind), str(folder / f'{kind}.jsonl')))
    return folder


def without_times(line):
    return {key: value for key, value in line.items() if key not in ('network', 'decoding', 'total', 'peak_mib')}


# Running.


@pytest.mark.parametrize('kind', ['ae', 'rnn'])
def test_a_resumed_run_equals_an_unbroken_one(dumps, kind, tmp_path):
    whole = (dumps / f'{kind}.jsonl').read_text().splitlines()
    path = tmp_path / 'part.jsonl'
    path.write_text('\n'.join(whole[:4]) + '\n' + whole[4][:50])  # killed while it wrote the fourth image
    model = contender(dumps, kind)
    dump = open_dump(model, str(path))
    assert len(dump.lines) == 3
    predict(model, dump)
    ours = path.read_text().splitlines()
    assert ours[:4] == whole[:4] and len(ours) == 7
    assert [without_times(json.loads(line)) for line in ours] == [without_times(json.loads(line)) for line in whole]


def test_a_finished_run_is_not_repeated_and_a_limit_takes_the_first(dumps, capsys):
    model, path = contender(dumps, 'rnn'), dumps / 'rnn.jsonl'
    before = path.read_text()
    predict(model, open_dump(model, str(path)))
    predict(model, open_dump(model, str(path), 2))
    assert path.read_text() == before
    assert '0 of 6 images to do' in capsys.readouterr().out
    assert len(open_dump(model, str(path), 2).lines) == 2


@pytest.mark.parametrize(('kind', 'size'), [('ae', 1), ('rnn', 3)])
def test_predictions_are_those_of_a_batch(dumps, kind, size):
    """One image at a time, as in the dump, or several at once; an untrained AE's groups depend on the last digit."""
    model = contender(dumps, kind)
    dataset, (network, _) = model.build_dataset(), model.build_model()
    lines = open_dump(model, str(dumps / f'{kind}.jsonl')).lines
    poses = 0
    for start in range(0, 6, size):
        samples = [dataset[i] for i in range(start, start + size)]
        batch = dict(inputs=[s['inputs'] for s in samples], data_samples=[s['data_samples'] for s in samples])
        with torch.no_grad():
            found = network.test_step(batch)
        for line, sample in zip(lines[start:], found):
            assert line['img_id'] == sample.img_id
            for name in ('keypoints', 'keypoint_scores', 'bbox_scores'):
                expected = np.asarray(sample.pred_instances[name])
                np.testing.assert_allclose(np.reshape(line[name], expected.shape), expected, atol=1e-3)
            poses += len(line['keypoints'])
    assert poses > 6


def test_figures_and_counts_are_those_of_the_metrics(dumps, tmp_path):
    """BottomupCocoMetric, PersonCountMetric and MixingMetric, on poses near the truth."""
    model, generator = contender(dumps, 'rnn', test_evaluator__0__score_mode='bbox_keypoint'), np.random.default_rng(0)
    dump = open_dump(model, str(tmp_path / 'noisy.jsonl'))
    truth = json.loads((dumps / 'crowd' / 'annotations' / 'plain.json').read_text())['annotations']
    coco = METRICS.build(dict(type='BottomupCocoMetric', nms_mode='none', score_mode='bbox_keypoint'))
    people = METRICS.build(dict(type='PersonCountMetric'))
    mixing = METRICS.build(dict(type='MixingMetric'))
    coco.dataset_meta = mixing.dataset_meta = model.build_dataset().metainfo
    for image in dump.image_ids:
        persons = [a for a in truth if a['image_id'] == image]
        joints = np.array([a['keypoints'] for a in persons]).reshape(-1, 17, 3)
        joints[..., :2] += generator.normal(0, 1, joints[..., :2].shape)
        joints = np.concatenate([joints, joints[:1]])  # a duplicate
        poses = dict(
            keypoints=joints[..., :2],
            keypoint_scores=generator.random(joints.shape[:2]),
            bbox_scores=generator.random(len(joints)),
        )
        lists = {name: part.tolist() for name, part in poses.items()}
        dump.append(dict(img_id=image, network=0.1, decoding=0.1, total=0.2, peak_mib=1.0, **lists))
        sample = dict(id=[image], img_id=image, pred_instances=poses, gt_instances={}, raw_ann_info=persons)
        for metric in (coco, people, mixing):
            metric.process({}, [sample])
    expected, ours = {**coco.evaluate(6), **people.evaluate(6)}, Results(model, dump).as_data()
    of_mixing = {f'mixing/{name}': value for name, value in ours['mixing'].items()}
    found = mixing.evaluate(6)
    found['mixing/covered_AP'] = of_mixing['mixing/covered_AP'] = 0  # ranked by bbox_scores, not as this contender's
    assert of_mixing == pytest.approx(found) and 0.1 < found['mixing/visible_well'] < 1
    for name, theirs in {'AP': 'AP', 'AP50': 'AP .5', 'AP75': 'AP .75', 'AR': 'AR'}.items():
        assert ours['figures'][name] == pytest.approx(expected[f'coco/{theirs}'], abs=1e-6)
    assert 0.1 < ours['figures']['AP'] < 0.95
    assert ours['counts']['found'] == expected['people/found'] and ours['counts']['true'] == expected['people/true']
    assert ours['counts']['error'] == expected['people/count_error']
    assert ours['counts']['right'] == 1 / 6  # the image without people
    assert ours['latency'] == dict(network=0.1, decoding=0.1, total=0.2)
    confident = [len(poses) for poses in Results(model, dump).confident_poses()]
    right = np.mean([found == true for found, true in zip(confident, Results(model, dump).true)])
    assert right == ours['counts']['right_at_best_threshold'] >= ours['counts']['right'] and sum(confident) > 0


def test_duplicate_poses_are_removed_as_the_config_says(dumps):
    model = contender(dumps, 'rnn', test_evaluator__0__nms_mode='oks_nms', test_evaluator__0__nms_thr=0.5)
    assert model.scoring == dict(
        nms_mode='oks_nms', nms_thr=0.5, score_mode='bbox', keypoint_score_thr=0.2, use_area=True
    )
    line = open_dump(contender(dumps, 'rnn'), str(dumps / 'rnn.jsonl')).lines[0]
    twice = {key: [line[key][0]] * 2 for key in ('keypoints', 'keypoint_scores', 'bbox_scores')}
    meta, ann_file = model.build_dataset().metainfo, f'{dumps}/crowd/annotations/plain.json'
    (kept,) = detections_of(model, [dict(line, **twice)], meta, ann_file)
    assert kept['score'] == line['bbox_scores'][0]
    assert np.allclose(np.reshape(kept['keypoints'], (17, 3))[:, :2], line['keypoints'][0])


def test_time_in_the_codec_is_decoding_and_counted_once(monkeypatch):
    clock = [0]
    monkeypatch.setattr(Stopwatch, '_now', staticmethod(lambda: clock[0]))

    def advance(seconds):
        clock[0] += seconds

    class Codec:
        def decode(self, seconds):
            advance(seconds)

        def batch_decode(self, seconds):
            advance(1)
            self.decode(seconds)

    class Model:
        def test_step(self, batch):
            advance(batch['network'])
            self.head.decoder.batch_decode(batch['decoding'])
            self.head.decoder.decode(batch['decoding'])
            return ['samples']

    model = Model()
    model.head = type('Head', (), dict(decoder=Codec()))()
    watch = Stopwatch(model)
    for network, decoding in ((200, 10), (7, 300)):
        samples, seconds = watch.run(dict(network=network, decoding=decoding))
        assert samples == ['samples']
        assert seconds == dict(network=network, decoding=2 * decoding + 1, total=network + 2 * decoding + 1)


def test_every_image_has_its_time_and_memory(dumps):
    for line in open_dump(contender(dumps, 'ae'), str(dumps / 'ae.jsonl')).lines:
        assert line['total'] == pytest.approx(line['network'] + line['decoding']) and line['decoding'] > 0
        assert line['peak_mib'] >= 0


# Dumps of other runs.


@pytest.mark.parametrize(
    ('change', 'sentence'),
    [
        (dict(model__test_cfg__flip_test=True), 'of another config'),
        (
            dict(test_dataloader__dataset__ann_file='annotations/occluded.json'),
            'of another data set .*plain.json.* not .*occluded.json',
        ),
    ],
)
def test_a_dump_of_another_config_or_data_set_is_refused_and_kept(dumps, change, sentence):
    before = (dumps / 'rnn.jsonl').read_text()
    with pytest.raises(ValueError, match=f'rnn.jsonl holds predictions {sentence}.*; give another --out .* --fresh'):
        open_dump(contender(dumps, 'rnn', **change), str(dumps / 'rnn.jsonl'))
    assert (dumps / 'rnn.jsonl').read_text() == before


def test_a_dump_of_other_weights_is_refused(dumps, tmp_path):
    shutil.copytree(dumps / 'crowd', tmp_path / 'crowd')
    checkpoint = torch.load(dumps / 'rnn.pth', weights_only=False)
    checkpoint['state_dict']['head.first_lstm.to_stop.bias'] += 1
    torch.save(checkpoint, tmp_path / 'rnn.pth')
    with pytest.raises(ValueError, match='of another checkpoint'):
        open_dump(contender(tmp_path, 'rnn', data=dumps / 'crowd'), str(dumps / 'rnn.jsonl'))


def test_a_file_that_is_not_a_dump_is_refused(tmp_path):
    path, identity = tmp_path / 'a.jsonl', dict(config=['a.py', 'x'])
    path.write_text('hello\n')
    with pytest.raises(ValueError, match='is not a file of predictions'):
        PredictionDump(str(path), identity, [1])
    path.write_text(json.dumps(identity) + '\n' + json.dumps(dict(img_id=7)) + '\n')
    with pytest.raises(ValueError, match='predictions of other images'):
        PredictionDump(str(path), identity, [1])
    path.write_text(json.dumps(dict(config=['a.py', 'y'])) + '\n')
    with pytest.raises(ValueError, match=r'another config \(a.py, which has changed since\)'):
        PredictionDump(str(path), identity, [1])


# One writer, and the end of a run.


def test_reading_a_file_changes_nothing_and_appending_removes_a_line_that_was_cut_off(tmp_path):
    path, identity = tmp_path / 'a.jsonl', dict(config=['a.py', 'x'])
    dump = PredictionDump(str(path), identity, [1, 2, 3])
    dump.append(dict(img_id=1, name='ä'))
    whole = path.read_bytes()
    path.write_bytes(whole + '{"img_id": 2, "name": "ä'.encode()[:-1])  # within a character
    before = path.read_bytes()
    dump = PredictionDump(str(path), identity, [1, 2, 3])
    assert path.read_bytes() == before and [line['img_id'] for line in dump.lines] == [1]
    dump.append(dict(img_id=2))
    assert path.read_bytes() == whole + b'{"img_id": 2}\n'
    assert len(PredictionDump(str(path), identity, [1, 2, 3]).lines) == 2


HOLD = """
import sys
from projects.compare.predictions import only_writer
with only_writer(sys.argv[1]):
    print('held', flush=True)
    sys.stdin.read()
"""


def test_a_file_has_one_writer_in_all_processes(dumps, tmp_path, refused):
    out = tmp_path / 'out'
    out.mkdir()
    path = out / 'predictions_b.jsonl'
    shutil.copy(dumps / 'rnn.jsonl', path)
    before = path.read_bytes()
    other = subprocess.Popen([sys.executable, '-c', HOLD, path], cwd=ROOT, stdin=-1, stdout=-1)
    assert other.stdout.readline() == b'held\n'
    sentence = f'another process is writing to {path}; wait until it has ended, or give another --out'
    for flag in ([], ['--fresh'], ['--only', 'b', '--limit', '7']):
        if flag[:1] == ['--only']:
            os.truncate(path, len(before) - 5)  # an image is left to do
        assert sentence in refused('--out', str(out), *flag)
    assert before.startswith(path.read_bytes()) and len(path.read_bytes()) == len(before) - 5
    other.communicate()
    with only_writer(path):
        pass


def children_of(pid):
    return [int(child) for child in Path(f'/proc/{pid}/task/{pid}/children').read_text().split()]


def is_running(pid):
    status = Path(f'/proc/{pid}/stat')
    return status.exists() and status.read_text().rpartition(')')[2].split()[0] != 'Z'  # dead, but not waited for


@pytest.mark.skipif(not Path('/proc/self/task').exists(), reason='no /proc to find the process of a model in')
@pytest.mark.parametrize('number', [signal.SIGHUP, signal.SIGKILL])
def test_a_signal_to_the_command_ends_its_model_and_keeps_its_work(folder, tmp_path, number):
    data = Path(shutil.copytree(folder / 'crowd', tmp_path / 'crowd'))
    content = json.loads((data / 'annotations' / 'plain.json').read_text())
    first = content['images'][0]
    names = [f'copy_{i}.png' for i in range(1500)]
    for name in names:
        (data / 'plain' / name).symlink_to(data / 'plain' / first['file_name'])
    content['images'] += [dict(first, id=100 + i, file_name=name) for i, name in enumerate(names)]
    (data / 'annotations' / 'plain.json').write_text(json.dumps(content))
    command = [word.replace(f'{folder}/crowd/', f'{data}/') for word in arguments(folder, '--out', tmp_path / 'out')]
    environment = dict(os.environ, PYTHONWARNINGS='ignore', OMP_NUM_THREADS='1')
    process = subprocess.Popen(
        [sys.executable, str(TOOL), *command], cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True
    )
    dump = tmp_path / 'out' / 'predictions_a.jsonl'
    while not dump.exists() or dump.read_bytes().count(b'\n') < 3:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.1)
    (child,) = children_of(process.pid)
    process.send_signal(number)
    _, errors = process.communicate(timeout=100)  # the model's process has stderr open too
    time.sleep(0.5)
    assert not is_running(child)
    assert process.returncode == (-number if number == signal.SIGKILL else 128 + number)
    if number != signal.SIGKILL:
        assert errors.strip().endswith('stopped; run the same command again to resume')
    lines = [json.loads(line) for line in dump.read_bytes().splitlines()]
    ids = [line['img_id'] for line in lines[1:]]
    # MMPose's data set lists images with people first.
    with_people = {annotation['image_id'] for annotation in content['annotations']}
    expected = sorted((image['id'] for image in content['images']), key=lambda number: number not in with_people)
    assert 2 <= len(ids) < 1500 and ids == expected[: len(ids)]
    with only_writer(dump):  # nothing writes any more
        pass


def test_a_full_disk_keeps_the_images_before_it(dumps, tmp_path):
    """A limit on the size of files stands for the disk's end; the last line may be cut off."""
    size = len((dumps / 'ae.jsonl').read_bytes())
    code = f"""
import resource, runpy, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, ({size // 2}, {size // 2}))
sys.argv = ['compare.py', *sys.argv[1:]]
runpy.run_path({str(TOOL)!r}, run_name='__main__')
"""
    (tmp_path / 'out').mkdir()
    command = [sys.executable, '-c', code, *arguments(dumps, '--out', tmp_path / 'out', '--only', 'a')]
    environment = dict(os.environ, PYTHONWARNINGS='ignore', OMP_NUM_THREADS='1', PYTHONPATH=str(ROOT))
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    (line,) = [line for line in done.stderr.splitlines() if line.startswith('error')]
    assert done.returncode == 1
    assert f'no space left to write to {tmp_path}/out' in line and 'run the same command again to resume' in line
    lines = open_dump(contender(dumps, 'ae'), str(tmp_path / 'out' / 'predictions_a.jsonl')).lines
    whole = open_dump(contender(dumps, 'ae'), str(dumps / 'ae.jsonl')).lines
    assert 0 < len(lines) < 6
    assert [without_times(line) for line in lines] == [without_times(line) for line in whole[: len(lines)]]


# Reports.


def test_a_model_against_itself_gives_equal_rows(dumps, tmp_path):
    models = [(contender(dumps, 'rnn', name), dumps / 'rnn.jsonl') for name in ('one', 'other')]
    report = report_of(tmp_path, *models)
    one, other = (dict(model, name='') for model in report['models'])
    assert one == other and report['not_held_equal'] == [] and report['disagreements'] == []
    rows = [line.split('|')[2:4] for line in as_text(report).splitlines() if line.startswith('|')][2:]
    assert len(rows) == 27 and all(first.strip() == second.strip() for first, second in rows)
    assert 'backbone weights: the same' in as_text(report)


def test_the_report_of_two_models(dumps, tmp_path):
    models = [(contender(dumps, kind), dumps / f'{kind}.jsonl') for kind in ('ae', 'rnn')]
    report = report_of(tmp_path, *models)
    assert json.loads((tmp_path / 'report.json').read_text()) == report
    data = report['models'][0]
    confusion = np.array(data['counts']['confusion'])
    assert confusion.sum() == data['images'] == 6 and confusion[0].sum() == 1  # the image without people
    assert (confusion.sum(1) * np.arange(len(confusion))).sum() == data['counts']['true']
    assert (confusion.sum(0) * np.arange(confusion.shape[1])).sum() == data['counts']['found']
    assert sum(row['images'] for row in data['latency_by_people']) == 6
    equal, different = ({fact['name'] for fact in report[f'{part}held_equal']} for part in ('', 'not_'))
    assert {'annotation file', 'input size', 'flip', 'scales', 'images', 'backbone', 'backbone weights'} <= equal
    assert {'parameters', 'stop threshold', 'most people per image', 'keypoint threshold', 'trained for'} <= different
    text = (tmp_path / 'report.md').read_text()
    assert 'stop threshold: ae none; rnn 0.268941' in text
    assert 'trained for: ae 1,200 iterations of 4 images, 3 epochs; rnn 1,200 iterations of 2 images' in text
    assert [line.split('|')[2].strip() for line in text.splitlines() if line.startswith('| images  ')] == ['6']
    for name in ('bands', 'latency', 'counts', 'disagreements'):
        assert f'({name}.png)' in text and cv2.imread(str(tmp_path / f'{name}.png')).std() > 5
    assert 1 <= len(report['disagreements']) <= 6
    spread = [abs(np.subtract(*row['agreement'])) for row in report['disagreements']]
    assert spread == sorted(spread, reverse=True) and min(spread) > 0


def test_a_data_set_without_people(folder, tmp_path):
    data = Path(shutil.copytree(folder / 'crowd', tmp_path / 'crowd'))
    change_annotations(data, 'plain', lambda a: False)
    models = []
    for kind in ('ae', 'rnn'):
        model = contender(folder, kind, data=data)
        check_test_data(model)
        results_of(model, tmp_path / f'{kind}.jsonl', limit=2)
        models.append((model, tmp_path / f'{kind}.jsonl'))
    results = [Results(model, open_dump(model, str(path), 2)) for model, path in models]
    report = write_report(results, [], [], str(tmp_path))
    for model in report['models']:
        assert model['figures']['AP'] is None and model['counts']['true'] == 0
    assert '| AP                                     | -' in as_text(report)


# Facts.


def test_a_backbones_weights_are_compared_tensor_by_tensor(dumps):
    models = [contender(dumps, kind) for kind in ('ae', 'rnn')]
    built, metas = zip(*(model.build_model() for model in models))

    def fact():
        return next(f for f in other_facts(models, built, metas) if f.name == 'backbone weights')

    total = sum('num_batches_tracked' not in name for name in built[0].backbone.state_dict())
    assert fact().equal
    weights = dict(built[1].backbone.named_parameters())
    for name in list(weights)[:2]:
        weights[name].data += 1e-6
    assert (fact().equal, fact().first) == (False, f'differ in 2 of {total} tensors')


def test_differences_between_backbones_are_named(dumps):
    models = [contender(dumps, 'ae'), contender(dumps, 'ae')]
    built, metas = zip(*(model.build_model() for model in models))
    models[1].cfg.model.backbone.stage_channels = [16, 16, 16, 24]
    fact = next(f for f in other_facts(models, built, metas) if f.name == 'backbone')
    assert not fact.equal and fact.second == 'CrowdHourglassAENet(stage_channels=[16, 16, 16, 24])'


@pytest.mark.parametrize(
    ('options', 'sentence', 'key'),
    [
        ({f'{DATASET}ann_file': 'annotations/occluded.json'}, 'annotation file.*put both on one', 'annotations'),
        ({f'{DATASET}pipeline__1__input_size': (128, 128)}, 'input size: 64 x 64 and 128 x 128', 'input_size'),
        ({'model__test_cfg__flip_test': True}, 'flip: off and on', 'flip'),
        (
            {'model__test_cfg__multiscale_test': True, f'{DATASET}pipeline__1__aug_scales': [0.5]},
            'scales: 1 and 0.5, 1',
            'scales',
        ),
        ({f'{DATASET}indices': 5}, 'images: 6 of .*/plain/ and 5 of .*/plain/; put both on one set', 'images'),
        ({f'{DATASET}data_prefix__img': 'occluded/'}, 'images: 6 of .*plain/ and 6 of .*occluded/', 'images'),
        ({f'{DATASET}pipeline__1__size_factor': 64}, 'resize: fit, size_factor 32 and .*64', 'resize'),
        ({f'{DATASET}pipeline__1__resize_mode': 'expand'}, 'resize: fit, .* and expand', 'resize'),
    ],
)  # fmt: skip
def test_unequal_tests_are_refused_unless_allowed(folder, options, sentence, key):
    facts = required_facts(contender(folder, 'ae'), contender(folder, 'rnn', **options))
    with pytest.raises(ValueError, match=f'the two differ in {sentence}.*--allow-different {key}'):
        refuse_unequal(facts, [])
    # Another annotation file has other images, too.
    allowed = [key, 'images'] if key == 'annotations' else [key]
    assert [fact.key for fact in refuse_unequal(facts, allowed)] == allowed


def test_the_same_annotations_in_another_place_are_the_same(folder, tmp_path):
    data = shutil.copytree(folder / 'crowd', tmp_path / 'crowd')
    facts = required_facts(contender(folder, 'ae'), contender(folder, 'rnn', data=data))
    assert all(fact.equal for fact in facts)
    change_annotations(data, 'plain', lambda a: a['image_id'] != 3)
    assert not required_facts(contender(folder, 'ae'), contender(folder, 'rnn', data=data))[0].equal


def test_allowed_differences_are_at_the_head_of_the_report(dumps, tmp_path):
    models = [contender(dumps, kind) for kind in ('ae', 'rnn')]
    results = [Results(model, open_dump(model, str(dumps / f'{model.name}.jsonl'))) for model in models]
    allowed = [Fact('flip', 'off', 'on', False, 'flip')]
    report = write_report(results, allowed, allowed, str(tmp_path))
    head = '**Not comparable without care: flip: ae off; rnn on.**'
    assert (tmp_path / 'report.md').read_text().splitlines()[2] == head
    assert as_text(report).startswith('not comparable without care: flip')


def test_no_sheet_for_models_tested_on_different_images(dumps, tmp_path):
    other = contender(dumps, 'rnn', test_dataloader__dataset__ann_file='annotations/occluded.json',
                      test_dataloader__dataset__data_prefix__img='occluded/')  # fmt: skip
    results = [
        Results(contender(dumps, 'ae'), open_dump(contender(dumps, 'ae'), str(dumps / 'ae.jsonl'))),
        results_of(other, tmp_path / 'other.jsonl'),
    ]
    assert write_report(results, [], [], str(tmp_path))['disagreements'] is None
    assert 'not tested on the same images' in (tmp_path / 'report.md').read_text()


# Plots.


def test_more_people_than_columns_are_added_to_the_last():
    assert _fitted(np.array([[1, 2, 3, 4]]), 2, 3).tolist() == [[1, 2, 7], [0, 0, 0]]
    assert _fitted(np.array([[1]]), 1, 2).tolist() == [[1, 0]]


def test_plots_of_empty_results(tmp_path):
    model = dict(name='a', counts=dict(confusion=[[0]], right=0.0))
    plot_counts([model, model], str(tmp_path / 'counts.png'))
    draw_disagreements([], ['a', 'b'], [], str(tmp_path / 'none.png'))
    cv2.imwrite(str(tmp_path / 'image.png'), np.full((20, 30, 3), 128, np.uint8))
    pose = dict(keypoints=[5.0, 5.0, 1.0, 20.0, 15.0, 0.5])
    image = JudgedImage(str(tmp_path / 'image.png'), [pose], [[pose, pose], []], [{1: 0}, {}], [0.0, 0.0])
    draw_disagreements([image], ['a', 'b'], [(0, 1)], str(tmp_path / 'sheet.png'))
    for name in ('counts', 'none', 'sheet'):
        assert cv2.imread(str(tmp_path / f'{name}.png')).std() > 1


# The command.


def arguments(folder, *further, b=RNN):
    data = f'{DATA}={folder}/crowd/'
    flat = [f'{key}={value}'.replace(' ', '') for key, value in BACKBONE.items()]
    decoder = [f'{key}={value}'.replace(' ', '') for key, value in DECODER.items()]
    models = [AE, folder / 'ae.pth', b, folder / 'rnn.pth', '--out', folder / 'out', '--names', 'AE', 'RNN']
    options = ['--cfg-options-a', data, *flat, '--cfg-options-b', data, *flat, *decoder]
    return [str(part) for part in [*models, *options, *further]]


@pytest.fixture
def tool(folder, monkeypatch):
    """tools/compare.py in this process and in ``folder``; each model that it runs is a process of its own."""
    spec = importlib.util.spec_from_file_location('compare', TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.delenv('RNNPOSE_TRACEBACK', raising=False)
    monkeypatch.setenv('PYTHONPATH', str(ROOT))
    monkeypatch.setenv('PYTHONWARNINGS', 'ignore')
    monkeypatch.chdir(folder)
    return module


def test_the_command(tool, dumps, monkeypatch, capfd):
    """After a run that finished the first model and was killed while it wrote the second's third image."""
    out = dumps / 'out'
    out.mkdir()
    shutil.copy(dumps / 'ae.jsonl', out / 'predictions_a.jsonl')
    lines = (dumps / 'rnn.jsonl').read_text().splitlines(keepends=True)
    (out / 'predictions_b.jsonl').write_text(''.join(lines[:3]) + lines[3][:50])
    monkeypatch.setattr(sys, 'argv', ['compare.py', *arguments(dumps)])
    tool.main()
    printed = capfd.readouterr()
    assert 'AE: 0 of 6 images to do' in printed.out and 'RNN: 4 of 6 images to do' in printed.out
    assert 'RNN: 4/4' in printed.err
    report = json.loads((out / 'report.json').read_text())
    assert as_text(report) in printed.out and (out / 'report.md').is_file()
    assert [(model['name'], model['images']) for model in report['models']] == [('AE', 6), ('RNN', 6)]
    assert (out / 'predictions_a.jsonl').read_text() == (dumps / 'ae.jsonl').read_text()
    assert (out / 'predictions_b.jsonl').read_text().startswith(''.join(lines[:3]))


@pytest.fixture
def refused(tool, folder, monkeypatch, capsys):
    """Runs the command and returns its error; it is refused before a model is run."""

    def run(*further, change=lambda words: words):
        monkeypatch.setattr(sys, 'argv', ['compare.py', *change(arguments(folder, *further))])
        with pytest.raises(SystemExit) as exit_:
            tool.main()
        assert exit_.value.code == 1
        (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith('error:')]
        return line

    return run


def replaced(old, new):
    return lambda words: [word.replace(old, new) for word in words]


@pytest.mark.parametrize(
    ('change', 'parts'),
    [
        (replaced('rnn.pth', 'gone.pth'), ['gone.pth', 'does not exist; check the path']),
        (replaced('ae_hg_crowd.py', 'gone.py'), ['gone.py', 'does not exist; check the path']),
        (replaced('rnn.pth', 'ae.pth'), ['does not fit the model', 'use the config it was trained with']),
        (replaced('/crowd/', '/gone/'), ['plain.json does not exist; check data_root and ann_file']),
        (lambda words: [*words, '--limit', '0'], ['--limit 0: compare on at least 1 image']),
        (lambda words: [*words, '--names', 'A', 'A'], ['--names A A: give them different names']),
        (lambda words: [*words, 'model.test_cfg.flip_test=True'], ['differ in flip', '--allow-different flip']),
        (lambda words: [*words, 'model.haed.a=1'], ["has no setting 'haed'"]),
    ],
)
def test_bad_input_gives_one_sentence(refused, change, parts):
    line = refused(change=change)
    for part in parts:
        assert part in line, line


@pytest.mark.parametrize('name', ['predictions_b.jsonl', 'bands.png', 'report.json'])
@pytest.mark.parametrize('source', ['rnn.pth', 'crowd/annotations/plain.json'])
def test_no_output_replaces_what_is_compared(refused, folder, tmp_path, name, source):
    before = (folder / source).read_bytes()
    (tmp_path / name).symlink_to(folder / source)
    line = refused('--out', tmp_path, '--fresh')
    assert f'{name} would be overwritten, but it is read' in line, line
    assert (folder / source).read_bytes() == before


def test_an_empty_data_set(refused, folder, tmp_path):
    data = Path(shutil.copytree(folder / 'crowd', tmp_path / 'empty'))
    content = json.loads((data / 'annotations' / 'plain.json').read_text())
    (data / 'annotations' / 'plain.json').write_text(json.dumps(dict(content, images=[], annotations=[])))
    line = refused(change=replaced(f'{folder}/crowd/', f'{data}/'))
    assert 'plain.json lists no images; use a file in the format of COCO keypoints' in line


def test_predictions_of_another_data_set_are_refused_by_the_command_and_kept(refused, dumps, tmp_path):
    kept = shutil.copy(dumps / 'ae.jsonl', tmp_path / 'predictions_a.jsonl')
    data = f'{DATA}={dumps}/crowd/'
    moved = [data, 'test_dataloader.dataset.ann_file=annotations/occluded.json',
             'test_dataloader.dataset.data_prefix.img=occluded/']  # fmt: skip

    def move(words):
        return [part for word in words for part in (moved if word == data else [word])] + ['--out', str(tmp_path)]

    assert 'predictions_a.jsonl holds predictions of another data set' in refused(change=move)
    assert kept.read_text() == (dumps / 'ae.jsonl').read_text()


def test_data_of_a_third_config(folder):
    """Both models are tested on its test set."""
    place = folder / 'place.py'
    place.write_text(
        f"_base_ = ['{RNN}']\ntest_dataloader = dict(dataset=dict(ann_file='annotations/occluded.json', "
        f"data_prefix=dict(img='occluded/'), data_root='{folder}/crowd/'))\n"
    )
    models = [
        load_contender(kind, config, str(folder / f'{kind}.pth'), options, str(place))
        for kind, config, options in (('ae', AE, BACKBONE), ('rnn', RNN, {**BACKBONE, **DECODER}))
    ]
    for model in models:
        assert model.build_dataset(lazy_init=True).ann_file == f'{folder}/crowd/annotations/occluded.json'
        assert len(model.build_dataset()) == 4
    assert refuse_unequal(required_facts(*models), []) == []


def test_a_model_trained_with_another_normalisation_is_refused(folder, tmp_path):
    checkpoint = torch.load(folder / 'ae.pth')
    meta = dict(checkpoint['meta'], data_preprocessor=dict(mean=[0, 0, 0], std=[255, 255, 255], bgr_to_rgb=True))
    torch.save(dict(checkpoint, meta=meta), tmp_path / 'ae.pth')
    model = load_contender('ae', AE, str(tmp_path / 'ae.pth'), {**BACKBONE, DATA: f'{folder}/crowd/'})
    with pytest.raises(ValueError, match='ae.pth was trained on images normalised with mean=.0, 0, 0., std='):
        model.build_model()


def test_top_down_models_are_refused(folder):
    with pytest.raises(ValueError, match="is not a bottom-up config .*no data_mode='bottomup'"):
        contender(folder, 'ae', test_dataloader__dataset__data_mode='topdown')
