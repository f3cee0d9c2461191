"""The model zoo: plain torch modules on `seqkern.nn`."""

from seqkern.models.rnnlm import MODELS, BetterRnnlm, Rnnlm, SimpleRnnlm, State

__all__ = ["MODELS", "BetterRnnlm", "Rnnlm", "SimpleRnnlm", "State"]
