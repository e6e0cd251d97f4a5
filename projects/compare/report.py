"""From the predictions of two models to a table, a Markdown report, JSON and plots."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from projects.markdown import align
from rnnpose_plugin.evaluation.crowding import (
    agreement,
    best_count_threshold,
    coco_figures,
    count_confusion,
    figures_by_band,
    people_by_image,
    read_truth,
)
from rnnpose_plugin.evaluation.mixing import VISIBILITY, mixing_figures

from .contender import Contender
from .crowd_index import figures_by_crowd_index
from .facts import Fact, annotation_file
from .plots import JudgedImage, draw_disagreements, plot_bands, plot_counts, plot_latency
from .predictions import PredictionDump, detections_of

FIGURES = ('AP', 'AP50', 'AP75', 'AP(M)', 'AP(L)', 'AR')
MIXING = {
    'covered_OKS': 'OKS of covered joints, %',
    'covered_AP': 'AP by covered joints',
    'duplicates': 'duplicates per 100 people',
}
PARTS = ('network', 'decoding', 'total')
SHEET_ROWS = 6
FILES = ('bands.png', 'latency.png', 'counts.png', 'disagreements.png', 'report.json', 'report.md')
HOW = """\
- AP and AR are COCO's, in percent. *AP at IoU a-b* covers the people whose box overlaps another person's with an IoU in
  (a, b] (OCHuman's "moderate" is 0.5-0.75, its "hard" 0.75-1). All others are ignored: a pose that matches one of them
  is neither a true nor a false positive. A pose that matches no person is a false positive in every band that has a
  person in the image.
- *AP easy, medium, hard* covers the images whose crowd index is below 0.2, from 0.2 to 0.8, and from 0.8 on: the ends
  in CrowdPose's evaluation code, while its paper has 0.1 and 0.8. The index is the annotation file's `crowdIndex`, or
  the mean over the people of an image of the joints of others in their box per own joint.
- *Well placed* is a joint of a found person whose own OKS is above 0.85, *mixed* one that lies that well on the same
  joint of another person instead; people are paired with poses by OKS. *Covered* joints are labelled, but not visible;
  their AP ignores people without one. *Duplicates* are poses nearest to a person who has another pose.
- *People found/true* and the counts per image include every pose that AP includes, however low its score. *The best
  score threshold* drops poses below the score with the most correct counts on these same images: an upper bound.
- Latencies are medians over the images, one at a time, after a warm-up. *Decoding* is the time in the codec (arg max,
  grouping), *network* everything else between image tensor and poses, such as merging flipped views or resizing maps.
  The first model runs on all images before the second; a resumed run was timed in several parts.
- Each model runs in a process of its own. Its peak memory is, on CUDA, the peak of all allocations; on a CPU, the peak
  resident size less the resident size before the first image."""


class Results:
    """The predictions of one model, evaluated.

    Args:
        contender (Contender): the model.
        dump (PredictionDump): its predictions.
    """

    def __init__(self, contender: Contender, dump: PredictionDump) -> None:
        self.contender, self.dump = contender, dump
        ann_file = annotation_file(contender)
        self.metainfo = contender.build_dataset(lazy_init=True, pipeline=[]).metainfo
        self.truth = read_truth(ann_file, dump.image_ids, contender.scoring['use_area'])
        self.people = people_by_image(self.truth)
        self.detections = detections_of(contender, dump.lines, self.metainfo, ann_file)
        self.poses = defaultdict(list)
        for detection in self.detections:
            self.poses[detection['image_id']].append(detection)
        self.true = [len(self.people.get(image, ())) for image in dump.image_ids]
        self.found = [len(self.poses.get(image, ())) for image in dump.image_ids]

    @property
    def sigmas(self) -> Sequence[float]:
        """Sequence[float]: K, of the OKS."""
        return self.metainfo['sigmas']

    def confident_poses(self) -> list[list[dict]]:
        """The poses at the score threshold with the most correct counts, without the many low-scoring ones of AE, say.

        Returns:
            list[list[dict]]: detections per image.
        """
        threshold, _ = self._best_threshold()
        images = self.dump.image_ids
        return [[pose for pose in self.poses.get(image, ()) if pose['score'] >= threshold] for image in images]

    def _best_threshold(self) -> tuple[float, float]:
        scores = [[pose['score'] for pose in self.poses.get(image, ())] for image in self.dump.image_ids]
        return best_count_threshold(self.true, scores)

    def as_data(self) -> dict:
        """All figures.

        Returns:
            dict: serialisable. AP, AR and shares are in [0, 1] and None without people, latencies in seconds;
            ``confusion`` has a row per true number of people and a column per number found.
        """
        errors = np.abs(np.subtract(self.found, self.true))
        threshold, best = self._best_threshold()
        counts = dict(
            found=sum(self.found),
            true=sum(self.true),
            right=float((errors == 0).mean()),
            right_at_best_threshold=best,
            best_threshold=threshold,
            error=float(errors.mean()),
            confusion=count_confusion(self.true, self.found).tolist(),
        )
        return dict(
            name=self.contender.name,
            config=self.contender.config,
            checkpoint=self.contender.checkpoint,
            images=len(self.dump.lines),
            figures=coco_figures(self.truth, self.detections, self.sigmas),
            bands=figures_by_band(self.truth, self.detections, self.sigmas),
            crowd=figures_by_crowd_index(self.truth, self.detections, self.sigmas),
            mixing=mixing_figures(self.truth, self.detections, self.sigmas),
            counts=counts,
            latency={part: float(np.median([line[part] for line in self.dump.lines])) for part in PARTS},
            latency_by_people=self._latency_by_people(),
            peak_memory_mib=max(line['peak_mib'] for line in self.dump.lines),
        )

    def _latency_by_people(self) -> list[dict]:
        groups = defaultdict(list)
        for number, line in zip(self.true, self.dump.lines):
            groups[number].append(line)
        return [
            dict(people=number, images=len(lines), **{p: float(np.median([line[p] for line in lines])) for p in PARTS})
            for number, lines in sorted(groups.items())
        ]


def write_report(results: Sequence[Results], facts: Sequence[Fact], allowed: Sequence[Fact], folder: str) -> dict:
    """Write ``report.md``, ``report.json`` and the plots.

    Args:
        results (Sequence[Results]): of the two models.
        facts (Sequence[Fact]): all facts.
        allowed (Sequence[Fact]): required facts that differ, as ``--allow-different`` names them.
        folder (str): for the files.

    Returns:
        dict: the content of ``report.json``.
    """
    out = Path(folder)
    out.mkdir(parents=True, exist_ok=True)
    models = [result.as_data() for result in results]
    plot_bands(models, str(out / 'bands.png'))
    plot_latency(models, str(out / 'latency.png'))
    plot_counts(models, str(out / 'counts.png'))
    sheet = _disagreements(results, str(out / 'disagreements.png'))
    report = dict(
        models=models,
        allowed_to_differ=[asdict(fact) for fact in allowed],
        held_equal=[asdict(fact) for fact in facts if fact.equal],
        not_held_equal=[asdict(fact) for fact in facts if not fact.equal],
        disagreements=sheet,
    )
    (out / 'report.json').write_text(json.dumps(report, indent=1) + '\n', encoding='utf-8')
    (out / 'report.md').write_text(as_markdown(report) + '\n', encoding='utf-8')
    return report


def as_markdown(report: dict) -> str:
    """The report in Markdown.

    Args:
        report (dict): from :func:`write_report`.

    Returns:
        str: Markdown.
    """
    first, second = (model['name'] for model in report['models'])
    lines = [f'# {first} and {second}', '']
    for fact in report['allowed_to_differ']:
        lines += [f'**Not comparable without care: {_difference(fact, first, second)}.**', '']
    lines += [
        *_table(report['models']),
        '',
        '## What was held equal and what was not',
        '',
        *_facts(report),
        '',
        '## How it was measured',
        '',
        HOW,
    ]
    plots = {
        'AP by crowding': 'bands.png',
        'Latency by number of people': 'latency.png',
        'People found by people in the image': 'counts.png',
    }
    for title, name in plots.items():
        lines += ['', f'## {title}', '', f'![{title}]({name})']
    lines += ['', '## Where they disagree most', '']
    if report['disagreements'] is None:
        return '\n'.join([*lines, 'Not drawn: they were not tested on the same images.'])
    lines += [
        "Images are ranked by the difference of the two models' scores: the sum of the OKS over the best pairs of a "
        'person and a pose, less 1 for each surplus pose. Poses below the best score threshold are left out.',
        '',
        f'![Images on which {first} and {second} disagree most](disagreements.png)',
    ]
    return '\n'.join(lines)


def as_text(report: dict) -> str:
    """What the tool prints: the table, and what is equal and what differs.

    Args:
        report (dict): from :func:`write_report`.

    Returns:
        str: lines.
    """
    first, second = (model['name'] for model in report['models'])
    notes = [f'not comparable without care: {_difference(fact, first, second)}' for fact in report['allowed_to_differ']]
    return '\n'.join([*notes, *_table(report['models']), '', *_facts(report)])


def _table(models: Sequence[dict]) -> list[str]:
    rows = [['', *(model['name'] for model in models)], ['images', *(str(model['images']) for model in models)]]
    rows += [[name, *(_percent(model['figures'][name]) for model in models)] for name in FIGURES]
    for bands in zip(*(model['bands'] for model in models)):
        people = '/'.join(dict.fromkeys(str(band['people']) for band in bands))
        rows.append([f'AP at IoU {bands[0]["band"]} ({people} people)', *(_percent(band['AP']) for band in bands)])
    for kinds in zip(*(model['crowd'] for model in models)):
        images = '/'.join(dict.fromkeys(str(kind['images']) for kind in kinds))
        rows.append([f'AP {kinds[0]["type"]} ({images} images)', *(_percent(kind['AP']) for kind in kinds)])
    mixing = [model['mixing'] for model in models]
    for kind in VISIBILITY:
        shares = [f'{_percent(row[f"{kind}_well"])}/{_percent(row[f"{kind}_mixed"])}' for row in mixing]
        rows.append([f'{kind} joints well placed/mixed, %', *shares])
    for name, label in MIXING.items():
        rows.append([label, *(_percent(row[name]) for row in mixing)])
    counts = [model['counts'] for model in models]
    rows.append(['people found/true', *(f'{count["found"]}/{count["true"]}' for count in counts)])
    rows.append(['images with the correct count, %', *(_percent(count['right']) for count in counts)])
    best = [f'{_percent(count["right_at_best_threshold"])} (score {count["best_threshold"]:.2g})' for count in counts]
    rows.append(['the same with the best score threshold', *best])
    rows.append(['counting error, people per image', *(f'{count["error"]:.2f}' for count in counts)])
    for part in PARTS:
        rows.append([f'{part}, ms per image', *(f'{1000 * model["latency"][part]:.1f}' for model in models)])
    rows.append(['peak memory, MiB', *(f'{model["peak_memory_mib"]:.1f}' for model in models)])
    return align(rows)


def _facts(report: dict) -> list[str]:
    first, second = (model['name'] for model in report['models'])
    equal = [f'- {fact["name"]}: {fact["first"]}' for fact in report['held_equal']]
    different = [f'- {_difference(fact, first, second)}' for fact in report['not_held_equal']]
    return ['Held equal:', '', *(equal or ['- nothing']), '', 'Not held equal:', '', *(different or ['- nothing'])]


def _difference(fact: dict, first: str, second: str) -> str:
    if fact['first'] == fact['second']:
        return f'{fact["name"]}: {fact["first"]}'
    return f'{fact["name"]}: {first} {fact["first"]}; {second} {fact["second"]}'


def _percent(value: float | None) -> str:
    return '-' if value is None else f'{100 * value:.1f}'


def _disagreements(results: Sequence[Results], path: str) -> list[dict] | None:
    """Draw the images and list them; None if the models were not tested on the same images."""
    first, second = results
    if first.truth != second.truth or first.dump.image_ids != second.dump.image_ids:
        return None
    people = [first.people.get(image, []) for image in first.dump.image_ids]
    poses = list(zip(*(result.confident_poses() for result in results)))
    agreed = [
        [agreement(*pair, first.sigmas) for pair in zip([truth] * 2, found)] for truth, found in zip(people, poses)
    ]
    scores = np.array([[score for score, _ in pair] for pair in agreed])
    difference = np.abs(scores[:, 0] - scores[:, 1])
    order = [int(i) for i in np.argsort(-difference, kind='stable')[:SHEET_ROWS] if difference[i] > 0]
    dataset = first.contender.build_dataset(pipeline=[])
    files = {index: dataset.get_data_info(index)['img_path'] for index in order}
    images = [
        JudgedImage(files[i], people[i], poses[i], [persons for _, persons in agreed[i]], scores[i].tolist())
        for i in order
    ]
    draw_disagreements(images, [r.contender.name for r in results], first.metainfo['skeleton_links'], path)
    return [dict(image_id=first.dump.image_ids[i], file=files[i], agreement=scores[i].tolist()) for i in order]
