"""The presets, as data: nothing is imported for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Preset:
    """An experiment with a known result.

    Attributes
    ----------
    task : str
        Family of its task.
    settings : mapping
        What differs from the defaults of the task's settings; `data` where it has its own.
    what : str
        What it trains, in half a line.
    data : str
        The data that `expected` is of.
    size : str
        Of the model on that data.
    expected : str
        The figure to expect.
    time : str
        How long it takes, and on what.
    """

    task: str
    settings: Mapping[str, Any]
    what: str
    data: str
    size: str
    expected: str
    time: str


PRESETS: dict[str, Preset] = {
    "simple-rnnlm": Preset(
        task="lm",
        settings={
            "model": "simple-rnnlm",
            "max_words": 1000,
            "batch_size": 10,
            "steps": 5,
            "lr": 0.1,
            "lr_decay": 1.0,
            "monitor": "train",
            "clip": None,
            "epochs": 100,
        },
        what='RNN language model of "Deep Learning from Scratch 2", chapter 5',
        data="PTB, first 1000 words",
        size="104 thousand",
        expected="training perplexity 5.3 to 5.5",
        time="3 s, 1 core",
    ),
    "rnnlm": Preset(
        task="lm",
        settings={},
        what='LSTM language model of "Deep Learning from Scratch 2", chapter 6',
        data="PTB",
        size="2.1 million",
        expected="test perplexity 136",
        time="90 s, 2 cores",
    ),
    "better-rnnlm": Preset(
        task="lm",
        settings={
            "model": "better-rnnlm",
            "embed_size": 650,
            "hidden_size": 650,
            "num_layers": 2,
            "dropout": 0.5,
            "tied": True,
            "epochs": 40,
        },
        what="two LSTM layers, dropout, tied weights (Zaremba et al., 2014)",
        data="PTB",
        size="13.3 million",
        expected="test perplexity 75 to 80, as published",
        time="not yet measured",
    ),
    "addition": Preset(
        task="seq2seq",
        settings={
            "data": "addition",
        },
        what='sums as text, "Deep Learning from Scratch 2", chapter 7',
        data="50,000 sums",
        size="151 thousand",
        expected="the book: about 12 %",
        time="60 s, 1 core",
    ),
    "addition-reversed": Preset(
        task="seq2seq",
        settings={
            "data": "addition",
            "reversed": True,
        },
        what="addition, questions read from last to first",
        data="50,000 sums",
        size="151 thousand",
        expected="the book: about 54 %",
        time="60 s, 1 core",
    ),
    "addition-peeky": Preset(
        task="seq2seq",
        settings={
            "data": "addition",
            "model": "peeky-seq2seq",
        },
        what="addition, a decoder that sees the question at every step",
        data="50,000 sums",
        size="218 thousand",
        expected="the book: about 82 %",
        time="not yet measured",
    ),
    "addition-reversed-peeky": Preset(
        task="seq2seq",
        settings={
            "data": "addition",
            "model": "peeky-seq2seq",
            "reversed": True,
        },
        what="addition, both reversed and peeky",
        data="50,000 sums",
        size="218 thousand",
        expected="the book: about 98 %",
        time="2 min, 1 core",
    ),
    "dates": Preset(
        task="seq2seq",
        settings={
            "data": "dates",
            "hidden_size": 256,
            "epochs": 10,
            "model": "attention-seq2seq",
            "reversed": True,
        },
        what='dates to ISO 8601 with attention, "Deep Learning from Scratch 2", chapter 8',
        data="50,000 dates",
        size="591 thousand",
        expected="the book: 99.9 %",
        time="4 min, 1 core",
    ),
    "dates-plain": Preset(
        task="seq2seq",
        settings={
            "data": "dates",
            "hidden_size": 256,
            "epochs": 10,
            "reversed": True,
        },
        what="dates without attention",
        data="50,000 dates",
        size="576 thousand",
        expected="the book: near 0 after 10 epochs",
        time="not yet measured",
    ),
    "dates-peeky": Preset(
        task="seq2seq",
        settings={
            "data": "dates",
            "hidden_size": 256,
            "epochs": 10,
            "model": "peeky-seq2seq",
            "reversed": True,
        },
        what="dates with a peeky decoder in place of attention",
        data="50,000 dates",
        size="853 thousand",
        expected="the book: 99.9 %",
        time="not yet measured",
    ),
    "dates-transformer": Preset(
        task="seq2seq",
        settings={
            "data": "dates",
            "model": "transformer",
            "embed_size": 64,
            "hidden_size": 256,
            "num_layers": 2,
            "dropout": 0.1,
            "mask_padding": True,
            "epochs": 10,
        },
        what="dates with a Transformer on torch's layers",
        data="50,000 dates",
        size="245 thousand",
        expected="not yet measured",
        time="not yet measured",
    ),
    "dates-gnmt": Preset(
        task="seq2seq",
        settings={
            "data": "dates",
            "hidden_size": 128,
            "epochs": 10,
            "model": "attention-seq2seq",
            "cell": "lstm",
            "num_layers": 3,
            "bidirectional": True,
            "residual": True,
            "dropout": 0.1,
            "mask_padding": True,
        },
        what="dates with stacked, residual, bidirectional layers (Wu et al., 2016)",
        data="50,000 dates",
        size="594 thousand",
        expected="not yet measured",
        time="not yet measured",
    ),
}
"""Experiments by name."""
