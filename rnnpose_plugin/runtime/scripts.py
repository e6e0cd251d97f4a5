"""Finding and running the scripts of this package and of MMPose, for `python -m rnnpose_plugin`."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

from mmengine.infer import BaseInferencer

from ..shipped import shipped_folder

# Of the repository only: they need projects/, which is not installed.
REPOSITORY_TOOLS = tuple(
    'ablation benchmark compare compare_crowd demo joint_threshold make_crowd make_occluded'.split()
)


def run_script(name: str, arguments: Sequence[str]) -> None:
    """Run a script as `python SCRIPT ARGUMENTS` would, in this process.

    Args:
        name (str): As of :func:`find_script`.
        arguments (Sequence[str]): The script's own.

    Raises:
        FileNotFoundError: if there is no such script.
        ImportError: if the script imports a package that is not installed.
    """
    script = find_script(name)
    sys.argv = [str(script), *arguments]
    sys.path[0] = str(script.resolve().parent)
    try:
        runpy.run_path(str(script), run_name='__main__')
    except ModuleNotFoundError as error:
        if not error.name or error.name.startswith('rnnpose_plugin'):
            raise
        package = error.name.split('.')[0]
        raise ImportError(f'{script} needs the package {package}, which is not installed here; install it') from error


def find_script(name: str) -> Path:
    """Find a script by its path, or by its name in this package and then in MMPose.

    Args:
        name (str): A path, or the end of one, such as ``demo/image_demo.py`` or ``image_demo``;
            ``mmpose/tools/train.py`` means MMPose's own where both packages have one of that name.

    Returns:
        Path: The file.

    Raises:
        FileNotFoundError: if there is no such script.
        ValueError: if several scripts of one package have this name.
    """
    for path in (Path(name), Path(f'{name}.py')):
        if path.is_file():
            return path
    package, _, rest = name.partition('/')
    folders = script_folders()
    folders, name = ({package: folders[package]}, rest) if package in folders and rest else (folders, name)
    for folder in folders.values():
        found = [path for path in _scripts(folder) if _ends_with(path.relative_to(folder), name)]
        if len(found) > 1:
            names = ', '.join(str(path.relative_to(folder)) for path in found)
            raise ValueError(f'{name!r} is the name of {len(found)} scripts; choose one of {names}')
        if found:
            return found[0]
    raise FileNotFoundError(_not_found(name))


def script_folders() -> dict[str, Path]:
    """The folders with ``tools/`` and ``demo/`` of this package and of MMPose, in the order of the search.

    Returns:
        dict[str, Path]: by package.
    """
    return dict(rnnpose_plugin=shipped_folder(), mmpose=Path(BaseInferencer._get_repo_or_mim_dir('mmpose')))


def list_scripts() -> list[str]:
    """The scripts that can be run by name.

    Returns:
        list[str]: such as ``mmpose/demo/image_demo.py``.
    """
    folders = script_folders().items()
    return [f'{package}/{path.relative_to(folder)}' for package, folder in folders for path in _scripts(folder)]


def _scripts(folder: Path) -> list[Path]:
    found = sorted(path for name in ('tools', 'demo') for path in (folder / name).rglob('*.py'))
    return [path for path in found if not path.parent.name.endswith('_cfg')]  # configs of detectors and trackers


def _ends_with(path: Path, name: str) -> bool:
    wanted = Path(name if name.endswith('.py') else f'{name}.py').parts
    return path.parts[-len(wanted) :] == wanted


def _not_found(name: str) -> str:
    stem = Path(name).stem
    if stem in REPOSITORY_TOOLS:
        return f'{name} needs projects/, which is not installed; run it in a checkout of the repository'
    known = {Path(script).stem: script for script in list_scripts()}
    near = [known[match] for match in get_close_matches(stem, known)]
    hint = f'did you mean {" or ".join(near)}?' if near else '`python -m rnnpose_plugin --list` prints all names'
    return f'there is no script {name!r}, neither at this path nor in rnnpose_plugin or MMPose; {hint}'
