"""Plots of grids: speed-up over torch.nn, a panel a cell and pass."""

from collections.abc import Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Panel:
    """Results of one cell and pass beside torch, and the speed-up they should reach, if any."""

    title: str
    results: Sequence[Result]
    target: float | None = None


def draw_panel(
    axes: Axes, panel: Panel, batches: Sequence[int], hidden_sizes: Sequence[int]
) -> None:
    """Draw the speed-ups over H, a line a batch size; sizes not measured are left out."""
    results = panel.results
    axes.axhline(1, color="black", linewidth=1, label="torch.nn = 1")
    if panel.target is not None:
        axes.axhline(panel.target, color="0.35", linewidth=1, linestyle=TARGET_DASH, label="target")
    for index, n in enumerate(batches):
        color, marker, dashes = STYLES[index % len(STYLES)]
        over_steps = [
            [r.speedup for r in results if r.sizes["N"] == n and r.sizes["H"] == h]
            for h in hidden_sizes
        ]
        shift = SHIFT * (index - (len(batches) - 1) / 2)
        x = [at + shift for at, speedups in enumerate(over_steps) if speedups]
        over_steps = [speedups for speedups in over_steps if speedups]
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
    rows = []
    for measured in sections:
        (comparison,) = measured.section.comparisons
        assert comparison.target is not None
        groups = by_group(measured.results)
        rows.append(
            [
                Panel(f"{name} (target {comparison.target:g})", results, comparison.target)
                for name, results in groups.items()
            ]
        )
    save_panels(rows, path)


def save_panels(panels: Sequence[Sequence[Panel]], path: Path) -> None:
    """Save rows of two panels, which share their axis of speed-ups, as SVG."""
    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "", "font.size": 8})
    figure = Figure(figsize=(7.2, 0.9 + 2.1 * len(panels)), layout="constrained")
    everything = [result for row in panels for panel in row for result in panel.results]
    batches, hidden_sizes = (sorted({r.sizes[name] for r in everything}) for name in "NH")
    rows = figure.subplots(len(panels), 2, sharex=True, sharey="row", squeeze=False)
    for row, of_row in zip(rows, panels, strict=True):
        for axes, panel in zip(row, of_row, strict=True):
            draw_panel(axes, panel, batches, hidden_sizes)
            axes.set_title(panel.title, fontsize=9)
        shown = [result.speedup for panel in of_row for result in panel.results]
        shown += [panel.target or 1 for panel in of_row]
        limits = min(1, *shown) / MARGIN, max(shown) * MARGIN
        row[0].set(yscale="log", ylim=limits, ylabel="speed-up over torch.nn")
        row[0].yaxis.set_major_locator(FixedLocator(TICKS))
        row[0].yaxis.set_major_formatter("{x:g}")
        row[0].yaxis.set_minor_locator(NullLocator())
    for axes in rows[-1]:
        axes.set_xlabel("H")
    handles, labels = rows[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), frameon=False)
    figure.savefig(path, metadata={"Date": None})
