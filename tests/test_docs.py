"""The documentation against the repository: paths, links, commands and their options, names of files, lengths."""

from __future__ import annotations

import argparse
import importlib.util
import re
import shlex
import sys
from pathlib import Path

import pytest
from mmengine.config import Config

from rnnpose_plugin.runtime.launch import check_options

ROOT = Path(__file__).parent.parent
PROJECT_PAGES = sorted(ROOT.glob('projects/*/README.md'))
PAGES = [ROOT / 'README.md', ROOT / 'CONTRIBUTING.md', *sorted(ROOT.glob('docs/*.md')), ROOT / 'model_zoo/README.md']
PAGES += PROJECT_PAGES
FOLDERS = ('configs', 'docs', 'model_zoo', 'projects', 'rnnpose_plugin', 'tests', 'tools')
ROOMS = tuple(sorted(path.parent.name for path in ROOT.glob('rnnpose_plugin/*/__init__.py')))


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def per_page(function):
    return pytest.mark.parametrize('page', PAGES, ids=name_of)(function)


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r'^#+ (.+)$', page.read_text(), re.MULTILINE)
    return {re.sub(r'[^\w\- ]', '', heading).strip().lower().replace(' ', '-') for heading in headings}


def indented_lines(text: str) -> list[str]:
    """The lines of code blocks, with continued lines joined."""
    return [line.strip() for line in text.replace('\\\n', ' ').splitlines() if line.startswith('    ')]


@per_page
def test_relative_links_lead_somewhere(page):
    broken = []
    for target in re.findall(r'\]\(([^)\s]+)\)', page.read_text()):
        path, _, anchor = target.partition('#')
        if '://' in target:
            continue
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            broken.append(target)
    assert not broken


@per_page
def test_paths_exist(page):
    """Names such as ``configs/...``, and ``models/...`` for a folder of the package; ``*`` stands for anything."""
    text = re.sub(r'\]\([^)]*\)', '', page.read_text())  # links are tested above
    named = re.findall(rf'(?<![\w./])(?:{"|".join(FOLDERS + ROOMS)})/[\w./*-]*', text)
    named = {name.rstrip('.-') for name in named}
    assert not [name for name in named if not any([*ROOT.glob(name), *ROOT.glob(f'rnnpose_plugin/{name}')])]


@per_page
def test_make_targets_exist(page):
    targets = re.search(r'^\.PHONY: (.*)$', (ROOT / 'Makefile').read_text(), re.MULTILINE).group(1).split()
    named = re.findall(r'^ +make ([a-z-]+)|`make ([a-z-]+)', page.read_text(), re.MULTILINE)
    assert {a or b for a, b in named} <= set(targets)


class ParserSeenError(Exception):
    """Carries a tool's parser out of the tool."""


def parser_of(tool: str, monkeypatch) -> argparse.ArgumentParser:
    """The parser that a tool builds, without running the tool."""

    def stop(parser, *_, **__):
        raise ParserSeenError(parser)

    spec = importlib.util.spec_from_file_location(f'documented_{Path(tool).stem}', ROOT / tool)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setattr(sys, 'path', [*sys.path])  # tools add the repository's root
    spec.loader.exec_module(module)
    with monkeypatch.context() as patch, pytest.raises(ParserSeenError) as seen:
        patch.setattr(argparse.ArgumentParser, 'parse_args', stop)
        getattr(module, 'parse_args', module.main)()
    return seen.value.args[0]


def commands_of(page: Path) -> list[list[str]]:
    """The words of every documented command ``python tools/X.py ...``, beginning with the tool."""
    found = [re.search(r'\bpython (tools/\w+\.py.*)$', line) for line in indented_lines(page.read_text())]
    return [shlex.split(match.group(1), comments=True) for match in found if match]


@pytest.mark.parametrize('page', [page for page in PAGES if commands_of(page)], ids=name_of)
def test_commands_are_those_of_the_tools(page, monkeypatch):
    """Each command is parsed by the tool's own parser, and ``--cfg-options`` are merged into the config it names."""
    parsers = {}
    for tool, *arguments in commands_of(page):
        if tool not in parsers:
            parsers[tool] = parser_of(tool, monkeypatch)
        try:
            args = parsers[tool].parse_args(arguments)
        except SystemExit:
            pytest.fail(f'{tool} does not accept {arguments}')
        if tool in ('tools/train.py', 'tools/test.py') and (ROOT / args.config).is_file():
            cfg = Config.fromfile(ROOT / args.config)
            check_options(cfg, args.cfg_options)
            cfg.merge_from_dict(args.cfg_options)


@per_page
def test_options_in_the_text_are_those_of_the_tools(page, monkeypatch):
    spans = re.findall(r'`(?:python )?(tools/\w+\.py)( [^`]*--[^`]*)`', page.read_text())
    for tool, rest in spans:
        options = set(re.findall(r'(?<!\S)--[\w-]+', rest))
        known = {option for action in parser_of(tool, monkeypatch)._actions for option in action.option_strings}
        assert options <= known, tool


def test_method_names_configs_that_exist():
    """The last column of its tables of arguments; the names stand for files in ``configs/ablations``."""
    text = (ROOT / 'docs/method.md').read_text()
    tables = re.findall(r'^\|[^\n]*\| config \|\n\|[-|]+\n((?:\|.*\n)+)', text, re.MULTILINE)
    cells = [row.rstrip('|').rsplit('|', 1)[1] for table in tables for row in table.splitlines()]
    names = {name for cell in cells for name in re.findall(r'`([^`]+)`', cell) if not name.startswith('tools/')}
    assert len(names) > 20
    folder = ROOT / 'configs/ablations'
    assert not [name for name in names if not any(folder.glob(name if name.endswith('.py') else f'{name}.py'))]


def files_described() -> dict[str, set[str]]:
    """Folder -> the files that CONTRIBUTING.md describes in the section of that folder."""
    sections = re.split(r'^### `([\w/]+)/`.*$', (ROOT / 'CONTRIBUTING.md').read_text(), flags=re.MULTILINE)
    rows = r'^\| ((?:`[\w.]+\.py`(?:, )?)+) \|'
    return {
        folder: {name for row in re.findall(rows, section, re.MULTILINE) for name in re.findall(r'`([\w.]+)`', row)}
        for folder, section in zip(sections[1::2], sections[2::2])
    }


@pytest.mark.parametrize('folder', ['rnnpose_plugin', *(f'rnnpose_plugin/{room}' for room in ROOMS), 'projects'])
def test_contributing_describes_every_file(folder):
    present = {path.name for path in (ROOT / folder).glob('*.py')} - {'__init__.py'}
    assert files_described()[folder] == present


def test_contributing_describes_every_file_of_the_projects():
    projects = {path.parent for path in ROOT.glob('projects/*/__init__.py')}
    for project in projects:
        present = {path.name for path in project.glob('*.py')} - {'__init__.py'}
        assert files_described()[name_of(project)] == present


def test_lengths():
    assert len((ROOT / 'README.md').read_bytes()) <= 9000
    assert not [page for page in PROJECT_PAGES if len(page.read_text().splitlines()) > 60]


def test_citation_and_licence_agree_with_the_readme():
    citation, readme = (ROOT / 'CITATION.cff').read_text(), (ROOT / 'README.md').read_text()
    title = 'Unifying Part Detection and Association for Recurrent Multi-Person Pose Estimation'
    assert all(title in text and '1904.11864' in text for text in (citation, readme))
    assert 'license: Apache-2.0' in citation and "license='Apache-2.0'" in (ROOT / 'setup.py').read_text()
    assert 'Apache License' in (ROOT / 'LICENSE').read_text()


def test_the_ci_workflow_runs_make_test():
    workflow = (ROOT / '.github/workflows/ci.yml').read_text()
    assert re.search(r'^ +- run: make test$', workflow, re.MULTILINE)
