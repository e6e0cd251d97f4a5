"""Plots of the benchmark: time by number of people, and how times grow."""

from __future__ import annotations

import matplotlib

matplotlib.use('Agg')
from matplotlib import pyplot as plt  # noqa: E402


def plot_people(curves: dict[str, dict], path: str) -> None:
    """Time of a whole picture by number of people, a panel for each size.

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
        axis.set_title(f"the {size}'s size")
        axis.set_xlabel('people in the picture')
        axis.set_ylabel('ms per picture')
        axis.set_ylim(bottom=0)
        axis.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def plot_growth(curves: dict[str, dict], path: str) -> None:
    """Times over what makes them grow, relative to the first, on two logarithmic axes.

    Args:
        curves (dict[str, dict]): name -> lists ``x`` and ``seconds``, and the fitted ``exponent``.
        path (str): the PNG.
    """
    figure, axis = plt.subplots(figsize=(7.6, 4.2))
    most = max(curve['x'][-1] / curve['x'][0] for curve in curves.values())
    axis.plot([1, most], [1, most], color='grey', linestyle=':', label='exponent 1')
    for name, curve in curves.items():
        x, y = ([value / curve[key][0] for value in curve[key]] for key in ('x', 'seconds'))
        axis.plot(x, y, 'o-', label=f'{name}: {curve["exponent"]:.2f}')
    axis.set_xscale('log', base=2)
    axis.set_yscale('log', base=2)
    axis.set_xlabel('people, cells, batch or T, as a multiple of the smallest')
    axis.set_ylabel('time, as a multiple of the first')
    axis.legend(fontsize=8, loc='center left', bbox_to_anchor=(1.01, 0.5), title='exponent of')
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)
