"""Two untrained models, AE and the recurrent decoder, for comparisons on a small crowd."""

import json
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmpose.registry import MODELS

from projects.compare.contender import load_contender
from projects.compare.facts import other_facts, required_facts
from projects.compare.predictions import open_dump
from projects.compare.report import Results, write_report
from projects.crowdbench.synthetic_crowd import CrowdSettings, write_crowd

ROOT = Path(__file__).parents[1]
AE, RNN = (str(ROOT / 'configs' / f'{name}.py') for name in ('ae_hg_crowd', 'rnnpose_hg_crowd'))
BACKBONE = {
    'model.backbone.num_stacks': 1,
    'model.backbone.feat_channels': 16,
    'model.backbone.stage_channels': [16, 16, 16, 16],
}
DECODER = {
    'model.neck.in_channels': [68],
    'model.head.in_channels': 68,
    'model.head.hidden_channels': [8, 8, 8],
    'model.head.max_instances': 4,
}
DATA = 'test_dataloader.dataset.data_root'


def write_contenders(folder):
    """Write a crowd whose image 2 has no people, and two checkpoints with the same backbone."""
    write_crowd(folder / 'crowd', dict(plain=6, occluded=4), 0, CrowdSettings(max_people=3))
    change_annotations(folder / 'crowd', 'plain', lambda a: a['image_id'] != 2)
    torch.manual_seed(0)
    models = {}
    for name, config, options in (('ae', AE, BACKBONE), ('rnn', RNN, {**BACKBONE, **DECODER})):
        cfg = Config.fromfile(config)
        cfg.merge_from_dict(options)
        with DefaultScope.overwrite_default_scope('mmpose'):
            models[name] = MODELS.build(cfg.model)
    # Without this the untrained AE's heatmaps are too low for a single pose.
    models['ae'].backbone.out_convs[0].conv.bias.data[:17] = 0.2
    models['rnn'].backbone.load_state_dict(models['ae'].backbone.state_dict())
    for name, model in models.items():
        meta = dict(epoch=3, iter=1200)
        torch.save(dict(meta=meta, state_dict=model.state_dict()), folder / f'{name}.pth')
    return folder


def change_annotations(crowd, split, kept):
    path = crowd / 'annotations' / f'{split}.json'
    content = json.loads(path.read_text())
    content['annotations'] = [a for a in content['annotations'] if kept(a)]
    path.write_text(json.dumps(content))


def contender(folder, kind, name=None, data=None, **options):
    options = {key.replace('__', '.'): value for key, value in options.items()}
    settings = {**BACKBONE, **(DECODER if kind == 'rnn' else {}), DATA: f'{data or folder / "crowd"}/', **options}
    config = RNN if kind == 'rnn' else AE
    return load_contender(name or kind, config, str(folder / f'{kind}.pth'), settings)


def report_of(out, *models):
    results = [Results(model, open_dump(model, str(path))) for model, path in models]
    contenders = [model for model, _ in models]
    required = required_facts(*contenders)
    built, metas = zip(*(model.build_model() for model in contenders))
    facts = [*required, *other_facts(contenders, built, metas)]
    return write_report(results, facts, [], str(out))
