"""Tables in Markdown."""

from collections.abc import Sequence

from timing import Timing


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table."""
    lines = [f"| {' | '.join(row)} |" for row in (head, *rows)]
    return [lines[0], "|---" * len(head) + "|", *lines[1:]]


def milliseconds(seconds: float) -> str:
    """Return milliseconds, short times with more decimals."""
    return f"{seconds * 1e3:.{3 if seconds >= 1e-4 else 5}f}"


def timing_text(timing: Timing) -> str:
    """Return milliseconds, and the spread in percent."""
    spread = 100 * (timing.high - timing.low) / timing.median
    return f"{milliseconds(timing.median)} ({spread:.0f} %)"
