"""What several commands share. Imports no more than torch, to keep short commands short."""

from __future__ import annotations

import argparse
import importlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from seqkern.training.config import RunConfig, Setting


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


@contextmanager
def joined_processes(args: argparse.Namespace) -> Iterator[tuple[int, int]]:
    """Rank and number of processes: those that torchrun started, joined, or this one alone."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if "RANK" not in os.environ or count == 1:
        yield 0, 1
        return
    cuda = args.device.startswith("cuda")
    if args.device == "cuda":
        args.device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    if cuda:
        torch.cuda.set_device(args.device)
    # torch's optimisers import it. After the group is made, that keeps the group's threads, and one
    # that still holds a tensor as the interpreter ends aborts the process.
    importlib.import_module("torch._dynamo")
    torch.distributed.init_process_group("nccl" if cuda else "gloo")
    try:
        yield torch.distributed.get_rank(), count
    finally:
        torch.distributed.destroy_process_group()


def add_settings(
    parser: argparse.ArgumentParser,
    config: type[RunConfig],
    defaults: RunConfig | None = None,
    wanted: Callable[[Setting], bool] = lambda about: not about.decided,
) -> None:
    """Add an option for every setting that is `wanted`; absent ones leave no value."""
    from seqkern.training.config import NONE, settings

    title = "settings" if defaults is not None else "settings (default: the run's)"
    group = parser.add_argument_group(title, argument_default=argparse.SUPPRESS)
    for name, about in settings(config).items():
        if not wanted(about):
            continue
        option, help = "--" + name.replace("_", "-"), about.help
        if defaults is not None:
            value = getattr(defaults, name)
            help += f" (default {NONE if value is None else value})".replace("%", "%%")
        if about.kind is bool:
            group.add_argument(option, action=argparse.BooleanOptionalAction, help=help)
            continue
        metavar = "|".join(about.choices or ()) or {int: "N", float: "X"}.get(about.kind, "NAME")
        group.add_argument(option, type=_parser_of(about), metavar=metavar, help=help)


def _parser_of(about: Setting) -> Callable[[str], Any]:
    def parse(text: str) -> Any:
        return about.parse(text)

    parse.__name__ = about.kind.__name__  # for argparse's message
    return parse


def given_settings(args: argparse.Namespace, config: type[RunConfig]) -> dict[str, Any]:
    """The settings that the command line gives."""
    from seqkern.training.config import settings

    decided = (name for name, about in settings(config).items() if not about.decided)
    return {name: getattr(args, name) for name in decided if name in args}


def data_source(source: str, names: tuple[str, ...]) -> str:
    """Data as a run's settings have it: one of `names`, or an absolute path."""
    return source if source in names else str(Path(source).resolve())


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Add RUN, --checkpoint, --data and the machine's options."""
    parser.add_argument("run", metavar="RUN", help="folder of the run")
    parser.add_argument(
        "--checkpoint",
        choices=("best", "last"),
        help="weights to take (default: best where there is one)",
    )
    parser.add_argument("--data", help="other data (default: the run's own)")
    add_machine_options(parser)
