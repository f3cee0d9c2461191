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
        expected="training perplexity 6.0 (5.3 to 6.4, 3 seeds)",
        time="2 s, 1 core",
    ),
    "rnnlm": Preset(
        task="lm",
        settings={},
        what='LSTM language model of "Deep Learning from Scratch 2", chapter 6',
        data="PTB",
        size="2.1 million",
        expected="test perplexity 135.9 (3 seeds)",
        time="200 s, 1 core",
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
        time="6 h, 1 core, by the first 2 epochs",
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
        expected="training loss 22.6, seed 0",
        time="24 min, 1 core",
    ),
    "addition": Preset(
        task="seq2seq",
        settings={
            "data": "addition",
        },
        what='sums as text, "Deep Learning from Scratch 2", chapter 7',
        data="50,000 sums",
        size="151 thousand",
        expected="12.5 % (11.4 to 13.5, 3 seeds); the book: about 12 %",
        time="90 s, 1 core",
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
        expected="36 % (27 to 44, 3 seeds); the book: about 54 %",
        time="90 s, 1 core",
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
        expected="70 % (46 to 94, 3 seeds); the book: about 82 %",
        time="80 s, 1 core",
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
        expected="99.1 % (98.0 to 99.7, 3 seeds); the book: about 98 %",
        time="80 s, 1 core",
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
        expected="99.99 % (3 seeds; 28 % of the questions are in training, too)",
        time="220 s, 1 core",
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
        expected="0 % of 5,000, seed 0",
        time="170 s, 1 core",
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
        expected="100 % of 5,000, seed 0",
        time="200 s, 1 core",
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
        expected="100 % of 5,000, seed 0",
        time="8 min, 1 core",
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
        expected="100 % of 5,000, seed 0",
        time="14 min, 1 core",
    ),
    "rnnlm-gru": Preset(
        task="lm",
        settings={"cell": "gru"},
        what="rnnlm with a GRU for the LSTM",
        data="PTB",
        size="2.1 million",
        expected="test perplexity 150, seed 0",
        time="200 s, 1 core",
    ),
    "awd-lstm": Preset(
        task="lm",
        settings={
            "model": "awd-rnnlm",
            "embed_size": 400,
            "hidden_size": 1150,
            "num_layers": 3,
            "tied": True,
            "dropout": 0.4,
            "embedding_dropout": 0.1,
            "input_dropout": 0.4,
            "hidden_dropout": 0.3,
            "weight_drop": 0.5,
            "alpha": 2.0,
            "beta": 1.0,
            "optimizer": "nt-asgd",
            "lr": 30.0,
            "lr_decay": 1.0,
            "weight_decay": 1.2e-6,
            "steps": 70,
            "batching": "variable",
            "epochs": 500,
        },
        what="AWD-LSTM with the settings of Merity, Keskar and Socher, 2017",
        data="PTB",
        size="24 million",
        expected="test perplexity 57 to 60, as published",
        time="150 h, 1 core, by the first 200 s",
    ),
    "awd-small": Preset(
        task="lm",
        settings={
            "model": "awd-rnnlm",
            "embed_size": 200,
            "hidden_size": 400,
            "num_layers": 2,
            "tied": True,
            "dropout": 0.3,
            "embedding_dropout": 0.05,
            "input_dropout": 0.2,
            "hidden_dropout": 0.2,
            "weight_drop": 0.2,
            "alpha": 2.0,
            "beta": 1.0,
            "optimizer": "nt-asgd",
            "lr": 30.0,
            "lr_decay": 1.0,
            "weight_decay": 1.2e-6,
            "batching": "variable",
            "epochs": 40,
        },
        what="AWD-LSTM of a size for a CPU, with settings of ours",
        data="PTB",
        size="3.5 million",
        expected="test perplexity 80.8, seed 0",
        time="100 min, 1 core",
    ),
    "timemachine": Preset(
        task="lm",
        settings={
            "model": "char-rnn",
            "level": "letters",
            "max_words": 10_000,
            "hidden_size": 256,
            "batch_size": 32,
            "lr": 1.0,
            "lr_decay": 1.0,
            "clip": 1.0,
            "epochs": 500,
            "monitor": "train",
        },
        what='RNN on letters of "Dive into Deep Learning", chapter 9',
        data="The Time Machine, first 10,000 letters",
        size="80 thousand",
        expected="training perplexity 1.23 (3 seeds), by heart: test 156; best early stop 10.4",
        time="35 s, 1 core",
    ),
    "timemachine-gru": Preset(
        task="lm",
        settings={
            "cell": "gru",
            "level": "letters",
            "embed_size": 64,
            "hidden_size": 256,
            "dropout": 0.3,
            "batch_size": 32,
            "steps": 64,
            "optimizer": "adam",
            "lr": 0.003,
            "lr_decay": 2.0,
            "clip": 1.0,
            "epochs": 30,
        },
        what="GRU on letters, dropout, judged on text that it has not seen",
        data="The Time Machine, all",
        size="0.26 million",
        expected="test perplexity 4.69 (3 seeds)",
        time="70 s, 1 core",
    ),
    "sine": Preset(
        task="series",
        settings={"data": "sine"},
        what="LSTM on a noisy sine, every step predicting the next value",
        data="sine, 1000 values",
        size="4.5 thousand",
        expected="test RMSE 0.215 (noise 0.2; autoregression of order 4: 0.218)",
        time="1 s, 1 core",
    ),
    "sine-mlp": Preset(
        task="series",
        settings={
            "data": "sine",
            "model": "window-mlp",
            "hidden_size": 10,
            "epochs": 5,
        },
        what='network of the last 4 values of "Dive into Deep Learning", chapter 9',
        data="sine, 1000 values",
        size="61",
        expected="test RMSE 0.221 (noise 0.2; autoregression of order 4: 0.218)",
        time="1 s, 1 core",
    ),
    "names-gender": Preset(
        task="names",
        settings={},
        what="gender of a name by a bidirectional LSTM: many to one",
        data="NLTK's names corpus",
        size="167 thousand",
        expected="test accuracy 0.866 (5 seeds; logistic regression on n-grams: 0.871)",
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
        expected="test accuracy 0.836 (5 seeds; logistic regression on n-grams: 0.840)",
        time="110 s, 1 core",
    ),
    "names-transliterated": Preset(
        task="name-generation",
        settings={},
        what="LSTM generator of names: one to many",
        data="names in Chinese transliteration",
        size="556 thousand",
        expected="test perplexity 39.8 a character (3 seeds), 88 % of samples new",
        time="20 s, 1 core",
    ),
    "names-by-language": Preset(
        task="name-generation",
        settings={"batch_size": 128},
        what="LSTM generator of names of a language: one to many, conditional",
        data="surnames of 18 languages",
        size="373 thousand",
        expected="test perplexity 7.1 a character, 95 % of samples new, seed 0",
        time="40 s, 1 core",
    ),
    "restoration": Preset(
        task="tags",
        settings={"data": "pydoc"},
        what="punctuation and capitals put back by a bidirectional LSTM: many to many, aligned",
        data="the text inside Python",
        size="364 thousand",
        expected="test accuracy 0.873, seed 0 (by the word alone: 0.822)",
        time="20 s, 1 core",
    ),
}
"""Experiments by name."""
