"""Values of --cfg-options: those of MMEngine, but blanks inside a value stay."""

import argparse

import pytest
from mmengine.config import DictAction

from rnnpose_plugin.runtime.launch import add_shared_arguments, load_config
from rnnpose_plugin.runtime.options import parse_value


@pytest.mark.parametrize(
    'text',
    ['1', '1.5', '1e-3', 'True', 'none', 'None', 'a/b.pth', '1,2', '[1,2]', '(1,2)', '[(1,2),[a,b],c]', '', '[]',
     '"quoted"', "'[1,2]'", '/x/my(1)/', '[[0.5],None,False]', 'a=b'],
)  # fmt: skip
def test_values_without_blanks_are_mmengines(text):
    expected = DictAction._parse_iterable(text)
    assert parse_value(text) == expected and type(parse_value(text)) is type(expected)


@pytest.mark.parametrize(
    ('text', 'value'),
    [
        ('/x/my data/', '/x/my data/'),
        ('/x/my  data (1)/', '/x/my  data (1)/'),
        ('"/x/my data/"', '/x/my data/'),
        (' 3 ', 3),
        ('[1, 2]', [1, 2]),
        ('( 0.5 , 2 )', (0.5, 2)),
        ('[[1, 2], None, my file.json ]', [[1, 2], None, 'my file.json']),
        ('[ 0.5 ]', [0.5]),
        ('a b, c d', ['a b', 'c d']),
        ("['a b', 'c']", ['a b', 'c']),
    ],
)
def test_blanks_stay_inside_a_value_and_not_beside_brackets_and_commas(text, value):
    assert parse_value(text) == value and type(parse_value(text)) is type(value)


def parse(*words):
    parser = argparse.ArgumentParser()
    add_shared_arguments(parser)
    parser.add_argument('--config')
    return parser.parse_args(words)


def test_the_tools_keep_the_blanks_of_a_folder():
    args = parse('--cfg-options', 'a.data_root=/x/my data/', 'b=[1, 2]', 'c =x=y')
    assert args.cfg_options == {'a.data_root': '/x/my data/', 'b': [1, 2], 'c': 'x=y'}


@pytest.mark.parametrize(('option', 'sentence'), [('data_root', 'write KEY=VALUE'), ('=1', 'write KEY=VALUE'),
                                                  ('a=[1,(2]', 'a bracket is not closed')])  # fmt: skip
def test_what_is_no_option_is_refused(option, sentence, capsys):
    with pytest.raises(SystemExit) as end:
        parse('--cfg-options', option)
    assert end.value.code == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert sentence in last and option in last


def test_a_launcher_given_as_an_option_counts(tmp_path, monkeypatch):
    monkeypatch.setenv('LOCAL_RANK', '0')
    config = tmp_path / 'config.py'
    config.write_text('model = dict()')
    for words, launcher in ((['launcher=foo'], 'foo'), (['model.a=1'], 'none')):
        args = parse('--config', str(config), '--cfg-options', *words)
        assert load_config(args).launcher == launcher


@pytest.mark.parametrize('name', ['rnnpose_plugin::rnnpose_hg_coco.py', 'configs/rnnpose_hg_coco.py'])
def test_the_work_directory_is_named_after_the_config(name):
    assert load_config(parse('--config', name)).work_dir == 'work_dirs/rnnpose_hg_coco'
