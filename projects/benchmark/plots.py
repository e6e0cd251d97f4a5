"""Plot of the time per image by number of people."""

from __future__ import annotations

import matplotlib

matplotlib.use('Agg')
from matplotlib import pyplot as plt  # noqa: E402


def plot_people(curves: dict[str, dict], path: str) -> None:
    """Time of a whole image by number of people, a panel per size.

    Args:
        curves (dict[str, dict]): size -> lists ``people``, ``AE`` and ``decoder``, seconds without the backbone, and
            ``backbone``, its seconds.
        path (str): the PNG.
    """
    figure, axes = plt.subplots(1, len(curves), figsize=(4.6 * len(curves), 3.6), squeeze=False)
    for axis, (size, curve) in zip(axes[0], curves.items()):
        for name, colour in (('AE', 'tab:blue'), ('decoder', 'tab:orange')):
            totals = [1000 * (curve['backbone'] + seconds) for seconds in curve[name]]
            axis.plot(curve['people'], totals, 'o-', color=colour, label=name)
        axis.axhline(1000 * curve['backbone'], color='grey', linestyle=':', label='backbone alone')
        axis.set_title(f'size: {size}')
        axis.set_xlabel('people in the image')
        axis.set_ylabel('ms per image')
        axis.set_ylim(bottom=0)
        axis.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)
