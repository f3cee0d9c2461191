"""The fused operations as functions with autograd formulas, one file a family."""

from seqkern.functional.columns import gather_columns
from seqkern.functional.recurrent import RecurrentResult, gru, lstm, recurrent, rnn
from seqkern.functional.softmax import time_softmax_loss

__all__ = [
    "RecurrentResult",
    "gather_columns",
    "gru",
    "lstm",
    "recurrent",
    "rnn",
    "time_softmax_loss",
]
