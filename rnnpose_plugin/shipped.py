"""The files that come with the package beside its modules: configs, tools and the models of model_zoo."""

from __future__ import annotations

from pathlib import Path


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
