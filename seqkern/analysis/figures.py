"""Line plots as PNG files. matplotlib is imported when one is drawn."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

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
    path = Path(path)
    if path.suffix != ".png":
        raise ValueError(f"path must end in .png, got {path.name!r}")
    for name, scale in (("xscale", xscale), ("yscale", yscale)):
        if scale not in SCALES:
            raise ValueError(f"{name} must be one of {', '.join(SCALES)}, got {scale!r}")
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            f"figures need matplotlib: pip install 'seqkern[plots]' ({error})"
        ) from error
    figure = Figure(figsize=(6, 4), dpi=150, layout="constrained")
    axes = figure.add_subplot(xlabel=xlabel, ylabel=ylabel, xscale=xscale, yscale=yscale)
    for label, (x, y) in lines.items():
        axes.plot(x, y, label=label)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path)
