"""The fused operations as functions with autograd formulas, one file a family."""

from seqkern.functional._vocabulary_parallel import VocabularyShard
from seqkern.functional.columns import gather_columns
from seqkern.functional.negative_sampling import (
    cbow_negative_sampling_loss,
    embedding_dot,
    negative_sampling_loss,
)
from seqkern.functional.recurrent import RecurrentResult, gru, lstm, recurrent, rnn
from seqkern.functional.sampled_softmax import Candidates, sampled_softmax_loss
from seqkern.functional.softmax import (
    SoftmaxStatistics,
    cross_entropy,
    linear_cross_entropy,
    time_softmax_loss,
)
from seqkern.functional.tied import tie

__all__ = [
    "Candidates",
    "RecurrentResult",
    "SoftmaxStatistics",
    "VocabularyShard",
    "cbow_negative_sampling_loss",
    "cross_entropy",
    "embedding_dot",
    "gather_columns",
    "gru",
    "linear_cross_entropy",
    "lstm",
    "negative_sampling_loss",
    "recurrent",
    "rnn",
    "sampled_softmax_loss",
    "tie",
    "time_softmax_loss",
]
