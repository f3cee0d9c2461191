"""`seqkern generate seq2seq`: answers of a trained model to questions."""

from __future__ import annotations

import argparse
import sys
from typing import cast

from seqkern.cli.evaluate import load_task, open_run
from seqkern.cli.options import add_run_options, use_machine
from seqkern.models.search import beam_search, greedy_search
from seqkern.models.seq2seq import EncoderDecoder
from seqkern.tasks.seq2seq import TARGET, Seq2seqConfig, encode_sources, join_tokens


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    add_run_options(parser)
    parser.add_argument(
        "questions", nargs="*", metavar="QUESTION", help="default: the lines of standard input"
    )
    parser.add_argument(
        "--beam-size",
        type=int,
        metavar="K",
        help="print the K best answers of a beam search, with their scores (default: the answer of "
        "a greedy search)",
    )
    parser.add_argument(
        "--length-penalty",
        type=float,
        default=0.6,
        metavar="X",
        help="of a beam search; 0 compares plain log-probabilities (default 0.6)",
    )


def run(args: argparse.Namespace) -> int:
    """Print a line for each answer: question, answer, a beam search's score; tabs between."""
    device = use_machine(args)
    record = open_run(args.run, args.what)
    config, vocabularies = cast(Seq2seqConfig, record.config), record.vocabularies
    if not vocabularies:  # a model imported without them
        task = load_task(record, args.data)
        config, vocabularies = task.config, task.vocabularies
    model = cast(EncoderDecoder, record.load_model(args.checkpoint, device))
    texts = args.questions or [line.rstrip("\n") for line in sys.stdin]
    size = config.eval_batch_size
    for some in (texts[i : i + size] for i in range(0, len(texts), size)):
        pairs = encode_sources(some, config, vocabularies).to(device)
        start = int(pairs.target[0, 0])
        asked = (model, pairs.source, start, config.target_length, pairs.end, pairs.lengths)
        if args.beam_size is None:
            tokens, scores = greedy_search(*asked).tokens[..., None], None
        else:
            found = beam_search(*asked, args.beam_size, args.length_penalty)
            tokens, scores = found.tokens, found.scores
        for n, text in enumerate(some):
            for k in range(tokens.shape[-1]):
                answer = join_tokens(vocabularies[TARGET], tokens[:, n, k], config.level)
                score = [] if scores is None else [f"{scores[n, k]:.4f}"]
                print(text, answer, *score, sep="\t")
    return 0
