"""The command `seqkern`."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from seqkern.tasks import PRESETS, TASKS

Module = str  # of this package: it has add_options(parser) and run(args)

COMMANDS: dict[str, tuple[str, Module | dict[str, tuple[str, Module]]]] = {
    "info": ("versions, CPU capability, CUDA", "info"),
    "demo": ("train on the text inside Python for two minutes, sample, compare", "demo"),
    "list": ("the presets: task, data, size, result, time", "presets"),
    "train": (
        "train a model, or go on with a run: train --resume RUN",
        {
            **{name: (preset.what, "train") for name, preset in PRESETS.items()},
            "word2vec": ("word vectors, with gensim's options", "train_word2vec"),
        },
    ),
    "eval": (
        "evaluate a model",
        {
            **{family: (what, "evaluate") for family, (what, *_) in TASKS.items()},
            "names": ("a classifier or generator of names", "eval_names"),
            "word2vec": ("word vectors", "eval_word2vec"),
            "seq2seq": (TASKS["seq2seq"][0], "eval_seq2seq"),
        },
    ),
    "generate": (
        "generate text",
        {
            "lm": ("a language model", "generate_lm"),
            "seq2seq": ("answers of a sequence to sequence model", "generate_seq2seq"),
            "names": ("a generator of names", "generate_names"),
        },
    ),
    "analyse": (
        "count a text, or follow gradients through time",
        {
            "zipf": ("counts of a text's n-grams", "analyse"),
            "ngram": ("an n-gram language model", "analyse"),
            "gradients": ("norms of gradients that go back through 20 steps", "analyse"),
        },
    ),
    "show": ("curves, pictures and samples of a run", "show"),
    "import-book": ('import a pickle of "Deep Learning from Scratch 2"', "book"),
}
"""What each command is for, and the module it is in, or what it works on with theirs."""


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
    words = sys.argv[1:] if argv is None else list(argv)
    try:
        args = _parse(words)
        return args.command(args)
    except (ValueError, OSError, FloatingPointError, ImportError) as error:
        print(f"seqkern: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("seqkern: interrupted", file=sys.stderr)
        return 130


def _parse(words: list[str]) -> argparse.Namespace:
    resumes = any(word.split("=")[0] == "--resume" for word in words)
    if resumes and words[0] == "train" and (words[1] in PRESETS or words[1].startswith("--")):
        # A run has its preset, so that none is named.
        parser = _Parser(prog="seqkern train", module="resume")
        args, others = parser.parse_known_args(words[1:])
        if others:
            given = " ".join(others)
            raise ValueError(f"--resume keeps the run's own settings; not with it: {given}")
        return args
    return _parser().parse_args(words)


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
        metavar = "PRESET" if name == "train" else "TASK"
        tasks = command.add_subparsers(title=metavar.lower() + "s", required=True, metavar=metavar)
        for task, (what, module) in content.items():
            description = f"{help} ({what})".replace("%", "%%")
            child = tasks.add_parser(task, help=what, description=description, module=module)
            child.set_defaults(what=task)
    return parser
