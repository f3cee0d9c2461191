"""The model zoo: plain torch modules on `seqkern.nn`."""

from seqkern.models.awd import AwdRnnlm, LockedDropout, activation_penalty
from seqkern.models.cbow import CBOW, SimpleCBOW, SimpleSkipGram, SkipGram
from seqkern.models.char_rnn import CharRnn
from seqkern.models.layers import CELLS, recurrent_layer
from seqkern.models.names import NameClassifier, NameGenerator
from seqkern.models.ngram import NgramModel
from seqkern.models.rnnlm import MODELS, BetterRnnlm, Rnnlm, SimpleRnnlm, State
from seqkern.models.series import (
    SeriesRegressor,
    VectorAutoregression,
    WindowMLP,
    forecast_errors,
    window_forecast,
)
from seqkern.models.tagger import BiLstmTagger

__all__ = [
    "CBOW",
    "CELLS",
    "MODELS",
    "AwdRnnlm",
    "BetterRnnlm",
    "BiLstmTagger",
    "CharRnn",
    "LockedDropout",
    "NameClassifier",
    "NameGenerator",
    "NgramModel",
    "Rnnlm",
    "SeriesRegressor",
    "SimpleCBOW",
    "SimpleRnnlm",
    "SimpleSkipGram",
    "SkipGram",
    "State",
    "VectorAutoregression",
    "WindowMLP",
    "activation_penalty",
    "forecast_errors",
    "recurrent_layer",
    "window_forecast",
]
