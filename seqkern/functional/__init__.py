"""The fused operations as functions with autograd formulas, one file a family."""

from seqkern.functional._vocabulary_parallel import VocabularyShard
from seqkern.functional.columns import gather_columns
from seqkern.functional.recurrent import RecurrentResult, gru, lstm, recurrent, rnn
from seqkern.functional.softmax import (
    SoftmaxStatistics,
    cross_entropy,
    linear_cross_entropy,
    time_softmax_loss,
)

__all__ = [
    "RecurrentResult",
    "SoftmaxStatistics",
    "VocabularyShard",
    "cross_entropy",
    "gather_columns",
    "gru",
    "linear_cross_entropy",
    "lstm",
    "recurrent",
    "rnn",
    "time_softmax_loss",
]
