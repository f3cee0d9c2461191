"""The command `seqkern`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import NoReturn

from seqkern.cli import book, demo, evaluate, generate, info, train

COMMANDS = (info, demo, train, evaluate, generate, book)


class _Parser(argparse.ArgumentParser):
    """Reports a wrong command line as every other error is reported."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{message} (see {self.prog} --help)")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments; default those of the process.

    Returns
    -------
    int
        0 on success; 2 after an error of the user's, told in one line on stderr; 130 after Ctrl-C.
    """
    parser = _Parser(
        prog="seqkern", description="Fused kernels for sequence models, and models that use them."
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add_parser(commands)
    try:
        args = parser.parse_args(argv)
        return args.command(args)
    except (ValueError, OSError, FloatingPointError) as error:
        print(f"seqkern: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("seqkern: interrupted", file=sys.stderr)
        return 130
