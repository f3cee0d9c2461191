"""Embedding: look up one row of a table for each word number.

The look-up equals the product of one-hot rows with the table, so each row's gradient is the sum of
the gradients of all the places where that row was used. Word numbers have no gradient, so
`backward` returns None.
"""

import numpy as np

from ._arrays import (
    Array,
    IndexArray,
    require_float64,
    require_indices,
    require_rank,
    require_shape,
)


class Embedding:
    """Rows of a table, for one number a sample.

    Parameters
    ----------
    W : array (V, D), float64

    Raises
    ------
    TypeError
        If W is not float64, or the word numbers are not integers.
    IndexError
        If a word number is outside 0 .. V - 1 (negative ones do not count from the end).

    Notes
    -----
    Bengio, Ducharme, Vincent and Jauvin, "A neural probabilistic language model", JMLR 3, 2003.

    Examples
    --------
    >>> import numpy as np
    >>> from reference import Embedding
    >>> layer = Embedding(np.array([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]]))
    >>> layer.forward(np.array([2, 0, 2])).tolist()
    [[4.0, 5.0], [0.0, 1.0], [4.0, 5.0]]
    >>> layer.backward(np.ones((3, 2)))
    >>> layer.grads[0].tolist()  # word 2 was used twice, word 1 never
    [[1.0, 1.0], [0.0, 0.0], [2.0, 2.0]]
    """

    def __init__(self, W: Array) -> None:
        require_float64("W", W)
        require_rank("W", W, "V, D")
        self.params = [W]
        self.grads = [np.zeros_like(W)]

    def forward(self, indices: IndexArray) -> Array:
        """Return the rows (N, D) of the words `indices` (N,)."""
        (W,) = self.params
        require_rank("indices", indices, "N")
        require_indices("indices", indices, len(W))
        self.indices = indices
        return W[indices]

    def backward(self, dout: Array) -> None:
        """Set `grads` from dout (N, D)."""
        (dW,) = self.grads
        require_shape("dout", dout, (len(self.indices), dW.shape[1]))
        dW[...] = 0.0
        for n, index in enumerate(self.indices):
            dW[index] += dout[n]


class TimeEmbedding:
    """Rows of a table, for a sequence of numbers a sample.

    Parameters
    ----------
    W : array (V, D), float64

    Raises
    ------
    TypeError, IndexError
        As `Embedding`.

    Examples
    --------
    >>> import numpy as np
    >>> from reference import TimeEmbedding
    >>> layer = TimeEmbedding(np.zeros((10, 4)))
    >>> layer.forward(np.array([[3, 1, 4], [1, 5, 9]])).shape
    (2, 3, 4)
    """

    def __init__(self, W: Array) -> None:
        self.layer = Embedding(W)
        self.params, self.grads = self.layer.params, self.layer.grads

    def forward(self, xs: IndexArray) -> Array:
        """Return the rows (N, T, D) of the words xs (N, T)."""
        require_rank("xs", xs, "N, T")
        self.out_shape = (*xs.shape, self.params[0].shape[1])
        return self.layer.forward(xs.reshape(xs.size)).reshape(self.out_shape)

    def backward(self, dout: Array) -> None:
        """Set `grads` from dout (N, T, D)."""
        require_shape("dout", dout, self.out_shape)
        N, T, D = self.out_shape
        self.layer.backward(dout.reshape(N * T, D))
