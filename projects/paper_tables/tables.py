"""The paper's tables as data: the config of every row and the AP that the paper prints for it. Five are our own.

Only rows that can be run here are listed: of tables 1 and 2 Associative Embedding (AE) and the paper's method. A config
is the name of a file in ``configs/ablations``, or of ``SYNTHETIC_ONLY`` in ``row_configs.py``.
"""

from __future__ import annotations

from dataclasses import dataclass

COLUMNS = ('COCO', 'OC-val', 'OC-test')  # COCO val2017, OCHuman's two splits
Figures = tuple  # AP in percent for each of COLUMNS, None where the paper prints none

UNKNOWN: Figures = (None, None, None)
ONE_LSTM: Figures = (58.7, 37.8, 31.7)  # (a, a') of table 4, 2 passes of table 5
TWO_LSTMS: Figures = (60.1, 39.4, 32.5)  # learned of table 3, 2-learned of table 7

AE_WEIGHTS = 'the paper quotes AE from Newell et al. (2017); ours is the AE network that the decoder starts from'
LSTM2_LOOP = 'the paper does not say how many feedback passes LSTM2 makes; ours makes none'
ORDER = 'with more than T = 8 people ours are ordered within each chunk in training, and all together in testing'


@dataclass(frozen=True)
class Row:
    """One row of a table.

    Args:
        label (str): the paper's name for it, shortened.
        config (str): the config that is tested.
        paper (tuple): ``Figures``.
        train (str, optional): the config that is trained. Defaults to None, the tested one.
        trained (bool): False tests the AE weights that the decoder's config names, without a training. Defaults to
            True.
        note (str): a footnote on the paper's figures or ours. Defaults to no note.
        comparable (bool): False if the paper's figures are not comparable even on COCO. Defaults to True.
    """

    label: str
    config: str
    paper: Figures = UNKNOWN
    train: str | None = None
    trained: bool = True
    note: str = ''
    comparable: bool = True

    @property
    def trains(self) -> str | None:
        """str, optional: the config that is trained, None without a training."""
        return (self.train or self.config) if self.trained else None


@dataclass(frozen=True)
class Table:
    """One table or comparison.

    Args:
        title (str): the setting that varies.
        rows (tuple[Row, ...]): in the paper's order.
        note (str): a footnote on all rows. Defaults to no note.
        synthetic_note (str): likewise, on synthetic data only. Defaults to no note.
        crowd_note (str): likewise, on the crowd of ``make demo`` only. Defaults to no note.
        data (tuple[str, ...], optional): the kinds of data for which all rows have configs. Defaults to None, all.
    """

    title: str
    rows: tuple[Row, ...]
    note: str = ''
    synthetic_note: str = ''
    crowd_note: str = ''
    data: tuple[str, ...] | None = None


SMALL_CROWD = (
    'the crowd of `make demo` has at most 3 people per image and its config at most 3 surplus steps, so no sequence '
    'exceeds T = 8, and T = 4 and 6 only cut off surplus steps'
)
OWN_LSTM2 = "LSTM2 has the paper's sizes, which are larger than those of LSTM1 in this config"

PAPER_TABLES = {
    '1': Table(
        'COCO val, one scale and several',
        (
            Row('AE, one scale', 'ae', (56.6, None, None), trained=False, note=AE_WEIGHTS, comparable=False),
            Row('ours, one scale', 'lstm2_learned', (60.1, None, None), note=LSTM2_LOOP),
            Row(
                'AE, multi-scale', 'ae_multiscale', (65.5, None, None), trained=False, note=AE_WEIGHTS, comparable=False
            ),
            Row('ours, multi-scale', 'multiscale', (66.8, None, None), train='lstm2_learned', note=LSTM2_LOOP),
        ),
        note='several scales are 0.5, 1 and 2, with flip; the rows of one scale are without flip',
        synthetic_note=OWN_LSTM2,
    ),
    '2': Table(
        'OCHuman, one scale and several',
        (
            Row('AE, one scale', 'ae', (None, 32.1, 29.5), trained=False, note=AE_WEIGHTS, comparable=False),
            Row('ours, one scale', 'lstm2_learned', (None, 39.3, 32.5), note=LSTM2_LOOP),
            Row(
                'AE, multi-scale', 'ae_multiscale', (None, 40.0, 32.8), trained=False, note=AE_WEIGHTS, comparable=False
            ),
            Row('ours, multi-scale', 'multiscale', (None, 41.9, 35.5), train='lstm2_learned', note=LSTM2_LOOP),
        ),
        note='several scales are 0.5, 1 and 2, with flip; the rows of one scale are without flip',
        synthetic_note=OWN_LSTM2,
    ),
    '3': Table(
        'order of the people in the input of LSTM2',
        (
            Row('learned', 'lstm2_learned', TWO_LSTMS),
            Row('random', 'lstm2_random', (59.3, 39.1, 32.2)),
            Row('confidence', 'lstm2_confidence', (58.2, 37.7, 30.4)),
            Row('inverse', 'lstm2_inverse', (42.1, 25.4, 30.2)),
            Row('canonical', 'lstm2_canonical', (38.8, 23.4, 20.6)),
        ),
        note=f'{LSTM2_LOOP}; {ORDER}',
        synthetic_note=OWN_LSTM2,
    ),
    '4': Table(
        "steps in the heatmap loss: (a, b) when too few people are found, (a', b') when too many",
        (
            Row("(a, a')", 'base', ONE_LSTM),
            Row("(a, b')", 'assign_a_b', (57.1, 35.7, 30.5)),
            Row("(b, a')", 'assign_b_a', (58.0, 36.9, 31.0)),
            Row("(b, b')", 'assign_b_b', (54.7, 35.8, 30.1)),
        ),
        synthetic_note='the config allows at most 3 surplus steps, the paper any number',
    ),
    '5': Table(
        'passes of the feedback loop per person',
        (
            Row('0', 'feedback_0', (54.6, 35.1, 28.5)),
            Row('2', 'base', ONE_LSTM),
            Row('3', 'feedback_3', (57.2, 30.0, 36.3), note='on OCHuman val and test as printed; perhaps exchanged'),
        ),
    ),
    '6': Table(
        'T, people per backpropagation',
        (
            Row('1', 'chunk_1', (36.6, None, None)),
            Row('2', 'chunk_2', (58.3, None, None)),
            Row('4', 'chunk_4', (57.6, None, None)),
            Row('6', 'chunk_6', (58.7, None, None)),
            Row('8', 'base', note="the recipe (section 3.2.1); not among the paper's"),
            Row('8, a step each', 'chunk_step', note="an optimizer step after every chunk; not among the paper's"),
        ),
        note='ours take one optimizer step per image except in the last row, see table 6step; the paper does not say',
        crowd_note=SMALL_CROWD,
    ),
    '6step': Table(
        'T, people per backpropagation, with an optimizer step after every chunk',
        (
            Row('1', 'chunk_1_step', (36.6, None, None)),
            Row('2', 'chunk_2_step', (58.3, None, None)),
            Row('4', 'chunk_4_step', (57.6, None, None)),
            Row('6', 'chunk_6_step', (58.7, None, None)),
            Row('8', 'chunk_step', note="the recipe (section 3.2.1); not among the paper's"),
        ),
        note="table 6 once more: algorithm 1, line 14, read as one step per chunk; the paper's figures are the same",
        crowd_note=SMALL_CROWD,
    ),
    '7': Table(
        'layers and order of LSTM2',
        (
            Row('2, learned', 'lstm2_learned', TWO_LSTMS),
            Row('2, random', 'lstm2_random', (59.3, 39.1, 32.2)),
            Row('3, learned', 'lstm2_layers_3_learned', (58.7, 36.1, 30.2)),
            Row('3, random', 'lstm2_layers_3_random', (60.1, 38.7, 31.9)),
            Row('4, learned', 'lstm2_layers_4_learned', (58.7, 39.2, 32.6)),
            Row('4, random', 'lstm2_layers_4_random', (59.3, 37.3, 30.8)),
        ),
        note=LSTM2_LOOP,
        synthetic_note=OWN_LSTM2,
    ),
    'figure6': Table(
        'stop threshold omega',
        (
            Row('0.10', 'omega_010'),
            Row('0.20', 'omega_020'),
            Row('sigmoid(-1) = 0.27', 'base'),
            Row('0.40', 'omega_040'),
            Row('0.50', 'omega_050'),
        ),
        note='the paper shows a curve without figures; ours use the same omega in training and at inference',
    ),
    'sgd': Table(
        'approximate and exact SGD on images of at most 8 people (section 4.1)',
        (
            Row('approximate, T = 4', 'sgd_approximate', (56.8, None, None)),
            Row('exact', 'sgd_exact', (56.2, None, None)),
        ),
        crowd_note=SMALL_CROWD,
    ),
    'lstm2': Table(
        'loss and feedback loop of LSTM2 (section 4.1)',
        (
            Row('both losses', 'lstm2_learned', (60.3, None, None), note='as section 4.1 has it; table 3 has 60.1'),
            Row('loss on LSTM2 only', 'lstm2_only_loss', (53.2, None, None)),
            Row('loop in LSTM2 only', 'lstm2_feedback_only', note='the paper: "drops substantially", without a figure'),
        ),
        note=LSTM2_LOOP + ' except in the last row, where it makes 2',
        synthetic_note=OWN_LSTM2,
    ),
    'norm': Table(
        'normalisation of the features (section 3.3)',
        (
            Row('running statistics', 'base'),
            Row('none', 'norm_off'),
        ),
        note='the paper gives a difference only, "a 2% improvement" by the normalisation',
    ),
    'stop': Table(
        'people beyond the 8th while training (section 3.2.1)',
        (
            Row('in further chunks', 'base'),
            Row('left out', 'stop_after_8'),
        ),
        note='the paper gives a difference only: AP "drops by only 0.7" when they are left out',
        crowd_note=SMALL_CROWD,
    ),
    'context': Table(
        'global context and the grid of the middle layers',
        (
            Row("the paper's decoder", 'base'),
            Row('global context of the hidden states', 'context_pooled'),
            Row('and of the features under its heatmaps', 'context_read'),
            Row('middle layers on a coarser grid', 'coarse'),
            Row('context of both, coarser grid', 'context'),
        ),
        note="not the paper's; the coarser grid has two wider layers in place of one, at about the same cost",
    ),
    'others': Table(
        "LSTM2 with everyone else's heatmaps",
        (
            Row('LSTM2, learned order', 'lstm2_learned'),
            Row("with the others' maxima", 'lstm2_others'),
        ),
        note="not the paper's",
        synthetic_note=OWN_LSTM2,
    ),
    'parameters': Table(
        "global context and the paper's layers at the same number of parameters",
        (
            Row("the paper's decoder, wider", 'wide'),
            Row('global context', 'context_read'),
        ),
        note="not the paper's; 278,866 and 276,418 parameters",
        data=('crowdbench',),
    ),
    'denoising': Table(
        'a step that is given one person, noised, and supervised without matching',
        (
            Row("the paper's decoder", 'base'),
            Row('and such a step per image', 'denoising'),
        ),
        note="not the paper's; on training images only",
    ),
    'ae': Table(
        'the decoders and Associative Embedding (AE), trained for the same time from the same AE network',
        (
            Row('AE, trained longer', 'ae_longer'),
            Row("the paper's decoder", 'base'),
            Row('ours', 'context'),
        ),
        note='the decoders stand on the frozen features of that network',
        data=('crowd', 'crowdbench'),
    ),
}
