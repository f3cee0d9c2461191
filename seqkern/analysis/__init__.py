"""Measurements that explain: Zipf's law, gradients through time; and their figures."""

from seqkern.analysis.figures import plot_confusion, plot_lines
from seqkern.analysis.gradients import (
    gradient_norms,
    linear_gradient_norms,
    weight_gradient_norms,
)
from seqkern.analysis.zipf import plot_zipf, zipf

__all__ = [
    "gradient_norms",
    "linear_gradient_norms",
    "plot_confusion",
    "plot_lines",
    "plot_zipf",
    "weight_gradient_norms",
    "zipf",
]
