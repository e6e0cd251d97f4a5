"""The files that come with the package beside its modules: configs, tools and the models of model_zoo.

`register` lets MMEngine and MMPose find them by name: `rnnpose_plugin::rnnpose_hg_coco.py` as a config, also as a
base, and `rnnpose_context_crowdbench` as a model of `MMPoseInferencer`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import wraps
from pathlib import Path

from mmengine.config import Config
from mmengine.config.utils import MODULE2PACKAGE
from mmengine.fileio import load
from mmengine.hub import hub
from mmengine.infer import BaseInferencer

NAME = 'rnnpose_plugin'


def shipped_folder() -> Path:
    """The folder that holds configs/, tools/, model_zoo/ and model-index.yml, in a wheel as in a checkout.

    Returns:
        ``rnnpose_plugin/.mim`` of a wheel, MMPose's layout; the root of a checkout.

    Raises:
        FileNotFoundError: If the package was built without them.
    """
    package = Path(__file__).resolve().parent
    for folder in (package / '.mim', package.parent):
        if (folder / 'model-index.yml').is_file():
            return folder
    raise FileNotFoundError(f'{package} was installed without .mim, its configs and tools; install the wheel again')


def find_shipped(path: str) -> str:
    """The place of a config or a checkpoint: as named, or where there is no such file, the shipped one of that name.

    Args:
        path: Such as ``configs/rnnpose_hg_coco.py``, ``rnnpose_plugin::rnnpose_hg_coco.py`` or
            ``model_zoo/ae_hg_crowdbench.pth``; relative ones are looked up in the current directory first.

    Returns:
        The shipped file's path; ``path`` itself if it exists or no shipped file has this name.
    """
    package, found, rest = path.partition('::')
    if found and package == NAME:
        return str(shipped_folder() / 'configs' / (rest if rest.endswith('.py') else f'{rest}.py'))
    if os.path.exists(path) or os.path.isabs(path) or '://' in path:
        return path
    shipped = shipped_folder() / path
    return str(shipped) if Path(path).parts[:1] in (('configs',), ('model_zoo',)) and shipped.is_file() else path


def shipped_models() -> Iterator[dict]:
    """The models of the metafiles in model_zoo.

    Yields:
        As in the metafile, but with the absolute paths of ``Config`` and ``Weights``.
    """
    folder = shipped_folder()
    for metafile in load(str(folder / 'model-index.yml'))['Import']:
        for model in load(str(folder / metafile))['Models']:
            yield dict(model, Config=str(folder / model['Config']), Weights=str(folder / model['Weights']))


def register() -> None:
    """Makes MMEngine and MMPose find the shipped configs and models; other packages' names mean what they meant.

    A second call changes nothing.
    """
    if NAME in MODULE2PACKAGE:
        return
    MODULE2PACKAGE[NAME] = NAME
    Config._get_cfg_path = staticmethod(_base_path(Config._get_cfg_path))
    BaseInferencer._get_models_from_metafile = staticmethod(_models(BaseInferencer._get_models_from_metafile))
    # What mmengine.hub.get_config calls, as that function itself may have been imported by name already.
    hub._get_package_and_cfg_path = _package_and_path(hub._get_package_and_cfg_path)
    hub._get_cfg_metainfo = _metainfo(hub._get_cfg_metainfo)
    hub._get_external_cfg_base_path = _config_path(hub._get_external_cfg_base_path)


def _base_path(original: Callable) -> Callable:
    """For `_base_`; MMEngine would also give the config the scope `rnnpose_plugin`, which no registry has."""

    @wraps(original)
    def find(cfg_path: str, filename: str) -> tuple[str, str | None]:
        if cfg_path.startswith(f'{NAME}::'):
            return _existing(cfg_path), None
        return original(cfg_path, filename)

    return find


def _package_and_path(original: Callable) -> Callable:
    """MMEngine asks for a folder in the name, but the configs of this package lie in one folder."""

    @wraps(original)
    def split(cfg_path: str) -> tuple[str, str]:
        return (NAME, cfg_path[len(NAME) + 2 :]) if cfg_path.startswith(f'{NAME}::') else original(cfg_path)

    return split


def _metainfo(original: Callable) -> Callable:
    @wraps(original)
    def find(package_path: str, cfg_path: str) -> dict:
        if os.path.basename(package_path) != NAME:
            return original(package_path, cfg_path)
        path = _existing(f'{NAME}::{cfg_path}')
        for model in shipped_models():
            if model['Config'] == path:
                return model
        raise ValueError(f'no model of {NAME} has the config {cfg_path}')  # MMEngine then calls the function below

    return find


def _config_path(original: Callable) -> Callable:
    """An editable installation has no `.mim`."""

    @wraps(original)
    def find(package_path: str, cfg_name: str) -> str:
        ours = os.path.basename(package_path) == NAME
        return _existing(f'{NAME}::{cfg_name}') if ours else original(package_path, cfg_name)

    return find


def _existing(name: str) -> str:
    path = find_shipped(name)
    if not os.path.isfile(path):
        raise FileNotFoundError(f'{NAME} has no config {os.path.basename(path)}; they are in {os.path.dirname(path)}')
    return path


def _models(original: Callable) -> Callable:
    """The shipped models beside those of MMPose, in whose scope MMPoseInferencer searches."""

    @wraps(original)
    def models(dir: str) -> Iterator[dict]:
        if dir == BaseInferencer._get_repo_or_mim_dir('mmpose'):
            yield from shipped_models()
        yield from original(dir)

    return models
