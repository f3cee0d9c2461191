"""Pictures as PNG files. matplotlib is imported when one is drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

SCALES = ("linear", "log")


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
    figure = _figure(path, 6, 4)
    axes = figure.add_subplot(xlabel=xlabel, ylabel=ylabel, xscale=xscale, yscale=yscale)
    for label, (x, y) in lines.items():
        axes.plot(x, y, label=label)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path)


def plot_confusion(path: str | Path, counts: ArrayLike, labels: Sequence[str]) -> None:
    """Draw which classes were taken for which into a PNG file, as shares of each row.

    Parameters
    ----------
    path : str or Path
        Ends in .png.
    counts : array
        Shape (C, C): how often the class of the row was taken for the class of the column.
    labels : sequence of str
        Names of the C classes.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    ValueError
        If `path` does not end in .png, or `counts` is not of shape (C, C).
    OSError
        If the file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "confusion.png"
    >>> plot_confusion(path, [[9, 1], [2, 6]], ["no", "yes"])
    >>> path.stat().st_size > 0
    True
    """
    matrix, size = np.asarray(counts, dtype=np.float64), len(labels)
    if matrix.shape != (size, size):
        raise ValueError(f"counts has shape {matrix.shape}, expected {(size, size)}")
    side = 2.5 + 0.25 * size
    figure = _figure(path, side + 0.5, side)
    axes = figure.add_subplot(xlabel="found", ylabel="true")
    shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    image = axes.imshow(shares, vmin=0, vmax=1, cmap="Blues")
    axes.set_xticks(range(size), labels, rotation=90)
    axes.set_yticks(range(size), labels)
    figure.colorbar(image, label="share of the row")
    figure.savefig(path)


def _figure(path: str | Path, width: float, height: float) -> Any:
    """An empty figure for a PNG file."""
    if Path(path).suffix != ".png":
        raise ValueError(f"path must end in .png, got {Path(path).name!r}")
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            f"figures need matplotlib: pip install 'seqkern[plots]' ({error})"
        ) from error
    return Figure(figsize=(width, height), dpi=150, layout="constrained")
