"""The command `seqkern`."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

Module = str  # of this package: it has add_options(parser) and run(args)

COMMANDS: dict[str, tuple[str, Module | dict[str, tuple[str, Module]]]] = {
    "info": ("versions, CPU capability, CUDA", "info"),
    "demo": ("train on the text inside Python for two minutes, sample, compare", "demo"),
    "train": (
        "train a model",
        {
            "lm": ("a language model", "train_lm"),
            "word2vec": ("word vectors, with gensim's options", "train_word2vec"),
            "cbow": ("word vectors through autograd, as in the book", "train_cbow"),
        },
    ),
    "eval": (
        "evaluate a model",
        {
            "lm": ("a language model", "eval_lm"),
            "word2vec": ("word vectors", "eval_word2vec"),
        },
    ),
    "generate": ("generate text", {"lm": ("a language model", "generate_lm")}),
    "import-book": ('import an Rnnlm.pkl of "Deep Learning from Scratch 2"', "book"),
}
"""What each command is for, and the module it is in, or its tasks with theirs."""


class _Parser(argparse.ArgumentParser):
    """A parser whose module is imported when its command is asked for, and not before.

    It reports a wrong command line as every other error is reported.
    """

    def __init__(self, *args: Any, module: Module | None = None, **options: Any) -> None:
        super().__init__(*args, **options)
        self._module = module

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        if self._module is not None:
            module = importlib.import_module(f"{__name__}.{self._module}")
            self._module = None
            module.add_options(self)
            self.set_defaults(command=module.run)
        return super().parse_known_args(args, namespace)

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
    try:
        args = _parser().parse_args(argv)
        return args.command(args)
    except (ValueError, OSError, FloatingPointError) as error:
        print(f"seqkern: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("seqkern: interrupted", file=sys.stderr)
        return 130


def _parser() -> _Parser:
    parser = _Parser(
        prog="seqkern", description="Fused kernels for sequence models, and models that use them."
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for name, (help, content) in COMMANDS.items():
        if isinstance(content, Module):
            commands.add_parser(name, help=help, description=help, module=content)
            continue
        command = commands.add_parser(name, help=help, description=help)
        tasks = command.add_subparsers(title="tasks", required=True, metavar="TASK")
        for task, (what, module) in content.items():
            description = f"{help} ({what})"
            tasks.add_parser(task, help=what, description=description, module=module)
    return parser
