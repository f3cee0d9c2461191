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
    "names-gender": Preset(
        task="names",
        settings={},
        what="gender of a name by a bidirectional LSTM: many to one",
        data="NLTK's names corpus",
        size="167 thousand",
        expected="test accuracy 0.867, seed 0 (logistic regression on n-grams: 0.882)",
        time="20 s, 1 core",
    ),
    "names-languages": Preset(
        task="names",
        settings={
            "batch_size": 128,
            "epochs": 20,
            "embed_size": 64,
            "hidden_size": 256,
        },
        what="language of a surname by a bidirectional LSTM: many to one",
        data="surnames of 18 languages",
        size="672 thousand",
        expected="test accuracy 0.853, seed 0 (logistic regression on n-grams: 0.847)",
        time="100 s, 1 core",
    ),
    "names-transliterated": Preset(
        task="name-generation",
        settings={},
        what="LSTM generator of names: one to many",
        data="names in Chinese transliteration",
        size="556 thousand",
        expected="test perplexity 39.3 a character, 89 % of samples new",
        time="25 s, 1 core",
    ),
    "names-by-language": Preset(
        task="name-generation",
        settings={"batch_size": 128},
        what="LSTM generator of names of a language: one to many, conditional",
        data="surnames of 18 languages",
        size="373 thousand",
        expected="test perplexity 7.1 a character, 94 % of samples new",
        time="40 s, 1 core",
    ),
    "restoration": Preset(
        task="tags",
        settings={"data": "pydoc"},
        what="punctuation and capitals put back by a bidirectional LSTM: many to many, aligned",
        data="the text inside Python",
        size="364 thousand",
        expected="test accuracy 0.875, seed 0 (by the word alone: 0.822)",
        time="25 s, 1 core",
    ),
}
"""Experiments by name."""
