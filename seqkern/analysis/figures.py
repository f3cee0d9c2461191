"""Pictures as PNG files. matplotlib is imported when one is drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

SCALES = ("linear", "log")


def png_figure(path: str | Path, width: float, height: float) -> Any:
    """An empty matplotlib figure, in inches, for a PNG file; raises as plot_lines does."""
    if Path(path).suffix != ".png":
        raise ValueError(f"path must end in .png, got {Path(path).name!r}")
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            f"figures need matplotlib: pip install 'seqkern[plots]' ({error})"
        ) from error
    return Figure(figsize=(width, height), dpi=150, layout="constrained")


def plot_lines(
    path: str | Path,
    lines: Mapping[str, tuple[ArrayLike, ArrayLike]],
    *,
    xlabel: str,
    ylabel: str,
    xscale: str = "linear",
    yscale: str = "linear",
) -> None:
    """Draw lines into a PNG file.

    Parameters
    ----------
    path : str or Path
        Ends in .png.
    lines : mapping of str to (array, array)
        Label, x and y of every line; NaN where it is broken.
    xlabel, ylabel : str
    xscale, yscale : {"linear", "log"}

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    ValueError
        If `path` does not end in .png, or a scale is unknown.
    OSError
        If the file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "squares.png"
    >>> plot_lines(path, {"squares": ([1, 2, 3], [1, 4, 9])}, xlabel="n", ylabel="n squared")
    >>> path.stat().st_size > 0
    True
    """
    for name, scale in (("xscale", xscale), ("yscale", yscale)):
        if scale not in SCALES:
            raise ValueError(f"{name} must be one of {', '.join(SCALES)}, got {scale!r}")
    figure = png_figure(path, 6, 4)
    axes = figure.add_subplot(xlabel=xlabel, ylabel=ylabel, xscale=xscale, yscale=yscale)
    for label, (x, y) in lines.items():
        axes.plot(x, y, label=label)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path)


def plot_heatmap(
    path: str | Path,
    values: ArrayLike,
    columns: Sequence[str],
    rows: Sequence[str],
    *,
    xlabel: str,
    ylabel: str,
    label: str = "weight",
) -> None:
    """Draw a matrix of shares into a PNG file, every row and column with its label.

    Parameters
    ----------
    path : str or Path
        Ends in .png.
    values : array
        Shape (R, C), from 0 (white) to 1 (dark).
    columns, rows : sequence of str
        C and R labels, such as characters; a space is shown as an open box.
    xlabel, ylabel : str
    label : str
        What the values are.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    ValueError
        If `path` does not end in .png, or numbers of labels are not those of columns and rows.
    OSError
        If the file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "weights.png"
    >>> plot_heatmap(path, [[0.9, 0.1]], ["a", "b"], ["x"], xlabel="source", ylabel="target")
    >>> path.stat().st_size > 0
    True
    """
    matrix = np.asarray(values)
    if matrix.shape != (len(rows), len(columns)):
        raise ValueError(
            f"values must be of shape {(len(rows), len(columns))}, rows and columns labelled, "
            f"got {matrix.shape}"
        )
    figure = png_figure(path, max(4, 1.8 + 0.24 * len(columns)), max(3, 1 + 0.24 * len(rows)))
    axes = figure.add_subplot(xlabel=xlabel, ylabel=ylabel)
    image = axes.imshow(matrix, cmap="Blues", vmin=0, vmax=1)
    for axis, labels in ((axes.xaxis, columns), (axes.yaxis, rows)):
        axis.set_ticks(range(len(labels)), [label.replace(" ", "\u2423") for label in labels])
    if max(map(len, columns), default=0) > 2:
        axes.tick_params("x", labelrotation=90)
    figure.colorbar(image, label=label)
    figure.savefig(path)
