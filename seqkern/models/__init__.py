"""The model zoo: plain torch modules on `seqkern.nn`."""

from seqkern.models.awd import AwdRnnlm, LockedDropout, activation_penalty
from seqkern.models.cbow import CBOW, SimpleCBOW, SimpleSkipGram, SkipGram
from seqkern.models.rnnlm import MODELS, BetterRnnlm, Rnnlm, SimpleRnnlm, State

__all__ = [
    "CBOW",
    "MODELS",
    "AwdRnnlm",
    "BetterRnnlm",
    "LockedDropout",
    "Rnnlm",
    "SimpleCBOW",
    "SimpleRnnlm",
    "SimpleSkipGram",
    "SkipGram",
    "State",
    "activation_penalty",
]
