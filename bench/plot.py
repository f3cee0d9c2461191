"""The plot of the grid: speed-up over torch.nn, a panel a cell and pass."""

from collections.abc import Sequence
from pathlib import Path
from statistics import geometric_mean

import matplotlib
from grid_report import Measured, by_group
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator
from timing import Result

# One a batch size, smallest first: colours of Okabe and Ito, each with its own marker and dash.
STYLES = [
    ("#0072B2", "o", "-"),
    ("#D55E00", "s", "--"),
    ("#009E73", "^", "-."),
    ("#CC79A7", "D", ":"),
]
TARGET_DASH = (0, (6, 3))
SHIFT = 0.13  # between batch sizes, so that bars do not hide each other
MARGIN = 1.12  # above and below the lines, as a factor
TICKS = [0.25, 0.5, 0.75, 1, 1.5, 2, 3, 4, 6, 8, 12, 16, 24, 32]


def draw_panel(axes: Axes, results: Sequence[Result], target: float) -> None:
    """Draw the speed-ups of one cell and pass over H, a line a batch size."""
    axes.axhline(1, color="black", linewidth=1, label="torch.nn = 1")
    axes.axhline(target, color="0.35", linewidth=1, linestyle=TARGET_DASH, label="target")
    batches = sorted({result.sizes["N"] for result in results})
    hidden_sizes = sorted({result.sizes["H"] for result in results})
    for index, n in enumerate(batches):
        color, marker, dashes = STYLES[index % len(STYLES)]
        over_steps = [
            [r.speedup for r in results if r.sizes["N"] == n and r.sizes["H"] == h]
            for h in hidden_sizes
        ]
        x = [at + SHIFT * (index - (len(batches) - 1) / 2) for at in range(len(hidden_sizes))]
        means = [geometric_mean(speedups) for speedups in over_steps]
        axes.plot(
            x,
            means,
            color=color,
            linestyle=dashes,
            linewidth=1.2,
            marker=marker,
            markersize=4,
            label=f"N = {n}",
        )
        axes.vlines(x, [*map(min, over_steps)], [*map(max, over_steps)], color=color, linewidth=0.8)
    axes.set_xticks(range(len(hidden_sizes)), [str(h) for h in hidden_sizes])
    axes.grid(axis="y", color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)


def save_plot(sections: Sequence[Measured], path: Path) -> None:
    """Save the plot of sections of the grid beside torch, two panels a section, as SVG."""
    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "", "font.size": 8})
    figure = Figure(figsize=(7.2, 0.9 + 2.1 * len(sections)), layout="constrained")
    rows = figure.subplots(len(sections), 2, sharex=True, sharey="row", squeeze=False)
    for row, measured in zip(rows, sections, strict=True):
        (comparison,) = measured.section.comparisons
        assert comparison.target is not None
        groups = by_group(measured.results)
        for axes, (name, results) in zip(row, groups.items(), strict=True):
            draw_panel(axes, results, comparison.target)
            axes.set_title(f"{name} (target {comparison.target:g})", fontsize=9)
        speedups = [result.speedup for result in measured.results]
        limits = min(1, *speedups) / MARGIN, max(comparison.target, *speedups) * MARGIN
        row[0].set(yscale="log", ylim=limits, ylabel="speed-up over torch.nn")
        row[0].yaxis.set_major_locator(FixedLocator(TICKS))
        row[0].yaxis.set_major_formatter("{x:g}")
        row[0].yaxis.set_minor_locator(NullLocator())
    for axes in rows[-1]:
        axes.set_xlabel("H")
    handles, labels = rows[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), frameon=False)
    figure.savefig(path, metadata={"Date": None})
