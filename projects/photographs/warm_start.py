"""First weights for a decoder on MoveNet's levels: those of the drawn crowd's decoder, as far as they fit.

How people are shown one after the other does not depend on where the features come from. All layers have the same
sizes but for what reads the features; of these the columns of the 17 heatmaps and the 17 tags are taken, which mean the
same here, and the others stay new and small.

python -m projects.photographs.warm_start CONFIG model_zoo/rnnpose_full_crowdbench.pth OUT [TRAINED]

TRAINED, a checkpoint of photographs, replaces the weights that it has: so an LSTM2 is added to a trained LSTM1.
"""

from __future__ import annotations

import sys

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import init_default_scope
from mmpose.registry import DATASETS, MODELS
from torch import Tensor, nn

# Columns of heatmaps and tags among the features, there and here, and those of the first slope's tags.
THERE, HERE = slice(0, 34), [*range(24, 41), *range(42, 59)]
READERS = (
    'head.first_lstm.lstm.layers.0.gates.weight',
    'head.first_lstm.context.to_values.weight',
    'head.second_lstm.lstm.layers.0.gates.weight',
)
IMAGES = 40  # by which the features' mean and variance are measured
OTHERS = 0.1  # what reads other features begins this much smaller


def fill(new: dict[str, Tensor], old: dict[str, Tensor], old_features: int, new_features: int) -> list[str]:
    """Write the old weights into the new ones.

    Args:
        new (dict[str, Tensor]): state dict of the new model, changed in place.
        old (dict[str, Tensor]): of the old one.
        old_features (int): channels of its features.
        new_features (int): of the new one's.

    Returns:
        list[str]: names of the weights that were taken, wholly or in part.
    """
    taken = []
    for name, weight in new.items():
        if not name.startswith(('head.first_lstm.', 'head.second_lstm.')) or name not in old:
            continue
        if name in READERS:
            behind = old[name][:, old_features:]
            weight[:, :new_features] *= OTHERS
            weight[:, HERE] = old[name][:, THERE]
            weight[:, new_features:] = 0  # claimed maps, which the old one was not given
            weight[:, weight.shape[1] - behind.shape[1] :] = behind
        elif weight.shape == old[name].shape:
            weight.copy_(old[name])
        else:
            continue
        taken.append(name)
    return taken


def fit_norm(new: dict[str, Tensor], old: dict[str, Tensor], mean: Tensor, var: Tensor) -> None:
    """Let the norm give for heatmaps and tags what the old one gives for the same values.

    People are fewer among more cells here, so heatmaps have another variance.

    Args:
        new (dict[str, Tensor]): state dict of the new model, changed in place.
        old (dict[str, Tensor]): of the old one.
        mean (Tensor): (C,) of the new model's features.
        var (Tensor): (C,) likewise.
    """
    new['head.norm.running_mean'].copy_(mean)
    new['head.norm.running_var'].copy_(var)
    new['head.norm.num_batches_tracked'].fill_(IMAGES)
    old_scale = old['head.norm.weight'][THERE] / old['head.norm.running_var'][THERE].sqrt()
    new['head.norm.weight'][HERE] = old_scale * var[HERE].sqrt()
    shift = old_scale * (mean[HERE] - old['head.norm.running_mean'][THERE])
    new['head.norm.bias'][HERE] = old['head.norm.bias'][THERE] + shift


@torch.no_grad()
def measure(model: nn.Module, cfg: Config, images: int) -> tuple[Tensor, Tensor]:
    """Mean and variance of the features.

    Args:
        model (nn.Module): with the backbone's weights.
        cfg (Config): whose training set is looked at.
        images (int): how many of them.

    Returns:
        tuple[Tensor, Tensor]: (C,) each.
    """
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    np.random.seed(0)
    features = []
    for index in np.random.permutation(len(dataset))[:images]:
        batch = model.data_preprocessor(pseudo_collate([dataset[int(index)]]))
        features.append(model.extract_feat(batch['inputs'])[0])
    var, mean = torch.var_mean(torch.cat(features), dim=(0, 2, 3), unbiased=False)
    return mean, var


def main() -> None:
    """Run the command."""
    config, checkpoint, out, *trained = sys.argv[1:]
    cfg = Config.fromfile(config)
    init_default_scope('mmpose')
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    model.init_weights()
    state = model.state_dict()
    old = {name: value.float() for name, value in torch.load(checkpoint, weights_only=False)['state_dict'].items()}
    old_features = old[READERS[1]].shape[1]
    with torch.no_grad():
        taken = fill(state, old, old_features, cfg.model.head.in_channels)
        fit_norm(state, old, *measure(model, cfg, IMAGES))
    for path in trained:
        state.update(torch.load(path, weights_only=False)['state_dict'])
    torch.save(dict(state_dict=state), out)
    print(f'{out}: {len(taken)} weights of {checkpoint}')


if __name__ == '__main__':
    main()
