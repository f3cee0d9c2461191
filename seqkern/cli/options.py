"""What several commands share. Imports no more than torch, to keep short commands short."""

from __future__ import annotations

import argparse

import torch


def add_machine_options(parser: argparse.ArgumentParser, *names: str) -> None:
    """Add --device and --threads, the latter under other names, too."""
    parser.add_argument(
        "--device", default="cpu", help="torch device: cpu, cuda, cuda:1 (default cpu)"
    )
    parser.add_argument("--threads", *names, type=int, help="CPU threads (default: torch's choice)")


def use_machine(args: argparse.Namespace) -> torch.device:
    """Set the number of threads; return the device, checked."""
    if args.threads is not None:
        if args.threads < 1:
            raise ValueError(f"--threads must be at least 1, got {args.threads}")
        torch.set_num_threads(args.threads)
    try:
        device = torch.device(args.device)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"--device {args.device} cannot be used here: {reason}") from error
    return device
