"""An array together with the gradient that flows to it."""

from dataclasses import dataclass
from types import EllipsisType

import numpy as np

from ._arrays import Array

Index = int | slice | tuple[EllipsisType, slice]


@dataclass
class Variable:
    """An array and the gradient of the loss with respect to it.

    A backward pass adds to `grad` in place, so what reads an array several times (a weight, at
    every step) needs no bookkeeping, and a part of a variable is a variable: it shares the memory
    of both arrays.

    Attributes
    ----------
    value, grad : arrays of the same shape, float64

    Examples
    --------
    >>> import numpy as np
    >>> from reference import Variable
    >>> bias = Variable.of(np.arange(4.0))
    >>> bias.part(1, of=2).grad += 5.0
    >>> bias.grad.tolist()
    [0.0, 0.0, 5.0, 5.0]
    """

    value: Array
    grad: Array

    @classmethod
    def of(cls, value: Array) -> "Variable":
        """Return the variable of an array, with a gradient of zeros."""
        return cls(value, np.zeros_like(value))

    def part(self, index: int, of: int) -> "Variable":
        """Return one of `of` equal parts of the last axis."""
        size = self.value.shape[-1] // of
        return self[..., index * size : (index + 1) * size]

    def __getitem__(self, key: Index) -> "Variable":
        """Return the variable of a part; not by arrays, of which NumPy would make copies."""
        return Variable(self.value[key], self.grad[key])
