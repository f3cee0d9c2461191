"""The fused operations as functions with autograd formulas, one file a family."""

from seqkern.functional.recurrent import lstm
from seqkern.functional.softmax import time_softmax_loss

__all__ = ["lstm", "time_softmax_loss"]
