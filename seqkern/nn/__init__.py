"""Drop-in modules on the fused operations, one file a family."""

from seqkern.nn.cells import GRUCell, LSTMCell, RNNCell
from seqkern.nn.convert import convert, revert
from seqkern.nn.layers import GRU, LSTM, RNN
from seqkern.nn.options import Options
from seqkern.nn.recurrent import RecurrentOutput
from seqkern.nn.softmax import TimeSoftmaxLoss

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "GRUCell",
    "LSTMCell",
    "Options",
    "RNNCell",
    "RecurrentOutput",
    "TimeSoftmaxLoss",
    "convert",
    "revert",
]
