"""`seqkern list`: the presets."""

from __future__ import annotations

import argparse
import sys

from seqkern.tasks import PRESETS

COLUMNS = ("preset", "task", "what", "data", "parameters", "result", "time")


def add_options(parser: argparse.ArgumentParser) -> None:
    """The command has no options."""


def run(args: argparse.Namespace) -> int:
    """Print a table; where no terminal is, its cells with tabs between them."""
    rows = [
        (name, p.task, p.what, p.data, p.size, p.expected, p.time) for name, p in PRESETS.items()
    ]
    if not sys.stdout.isatty():
        for row in (COLUMNS, *rows):
            print("\t".join(row))
        return 0
    from rich.console import Console
    from rich.table import Table

    table = Table(*COLUMNS)
    for row in rows:
        table.add_row(*row)
    Console().print(table)
    return 0
