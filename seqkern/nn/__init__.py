"""Drop-in modules on the fused operations, one file a family."""

from seqkern.nn.convert import convert
from seqkern.nn.recurrent import LSTM
from seqkern.nn.softmax import TimeSoftmaxLoss

__all__ = ["LSTM", "TimeSoftmaxLoss", "convert"]
