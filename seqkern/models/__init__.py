"""The model zoo: plain torch modules on `seqkern.nn`."""

from seqkern.models.cbow import CBOW, SimpleCBOW, SimpleSkipGram, SkipGram
from seqkern.models.names import NameClassifier, NameGenerator
from seqkern.models.rnnlm import MODELS, BetterRnnlm, Rnnlm, SimpleRnnlm, State
from seqkern.models.tagger import BiLstmTagger

__all__ = [
    "CBOW",
    "MODELS",
    "BetterRnnlm",
    "BiLstmTagger",
    "NameClassifier",
    "NameGenerator",
    "Rnnlm",
    "SimpleCBOW",
    "SimpleRnnlm",
    "SimpleSkipGram",
    "SkipGram",
    "State",
]
