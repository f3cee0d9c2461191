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
    "cbow": Preset(
        task="cbow",
        settings={},
        what='CBOW of "Deep Learning from Scratch 2", chapter 4, through autograd',
        data="PTB",
        size="2 million",
        expected="training loss 1.44, the book's analogies among the first 6",
        time="5 min, 1 core",
    ),
    "skip-gram": Preset(
        task="cbow",
        settings={"model": "skip-gram"},
        what="skip-gram likewise",
        data="PTB",
        size="2 million",
        expected="not yet measured",
        time="not yet measured",
    ),
}
"""Experiments by name."""
