"""`seqkern info`: versions and capabilities."""

from __future__ import annotations

import argparse

import seqkern


def add_options(parser: argparse.ArgumentParser) -> None:
    """There are none."""


def run(args: argparse.Namespace) -> int:
    """Print what `seqkern.build_info()` tells."""
    info = seqkern.build_info()
    width = max(map(len, info))
    for name, value in info.items():
        print(f"{name:{width}}  {value}")
    return 0
