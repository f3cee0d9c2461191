"""Drop-in modules on the fused operations, one file a family."""

from seqkern.nn.adaptive_softmax import AdaptiveLogSoftmaxWithLoss
from seqkern.nn.cells import GRUCell, LSTMCell, RNNCell
from seqkern.nn.convert import convert, revert
from seqkern.nn.layers import GRU, LSTM, RNN
from seqkern.nn.negative_sampling import EmbeddingDot, NegativeSamplingLoss
from seqkern.nn.options import Options
from seqkern.nn.recurrent import RecurrentOutput
from seqkern.nn.samplers import (
    LogUniformSampler,
    SampledSoftmaxLoss,
    Sampler,
    UnigramSampler,
)
from seqkern.nn.softmax import CrossEntropyLoss, LinearCrossEntropyLoss, TimeSoftmaxLoss

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "AdaptiveLogSoftmaxWithLoss",
    "CrossEntropyLoss",
    "EmbeddingDot",
    "GRUCell",
    "LSTMCell",
    "LinearCrossEntropyLoss",
    "LogUniformSampler",
    "NegativeSamplingLoss",
    "Options",
    "RNNCell",
    "RecurrentOutput",
    "SampledSoftmaxLoss",
    "Sampler",
    "TimeSoftmaxLoss",
    "UnigramSampler",
    "convert",
    "revert",
]
