"""Tables in Markdown."""

from collections.abc import Callable, Sequence

from timing import Result, Timing


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


def by_group(results: Sequence[Result]) -> dict[str, list[Result]]:
    """Sort results into their groups, which keep their order."""
    groups: dict[str, list[Result]] = {}
    for result in results:
        groups.setdefault(result.group, []).append(result)
    return groups


def grid_table(group: Sequence[Result], text: Callable[[list[Result]], str]) -> list[str]:
    """Return a table over N and H; ``text`` sums up the results of one N and H, over T."""
    batches = sorted({result.sizes["N"] for result in group})
    hidden_sizes = sorted({result.sizes["H"] for result in group})
    rows = [
        [
            f"N={n}",
            *(
                text([r for r in group if r.sizes["N"] == n and r.sizes["H"] == h])
                for h in hidden_sizes
            ),
        ]
        for n in batches
    ]
    return table(["", *(f"H={h}" for h in hidden_sizes)], rows)
