"""TimeAffine: the same affine map, `x @ W + b`, at every step of a sequence.

No step depends on another, so N samples of T steps are simply N * T rows.
"""

import numpy as np

from ._arrays import Array, require_float64, require_rank, require_shape


class TimeAffine:
    """`x @ W + b` at every step.

    Parameters
    ----------
    W : array (D, M), float64
        May be a view, such as the transposed table of an embedding (tied weights). Each of the two
        layers then holds its part of the gradient, and their sum is the gradient of the table.
    b : array (M,), float64

    Raises
    ------
    TypeError, ValueError
        If a parameter is not float64, or a shape does not fit.

    Examples
    --------
    >>> import numpy as np
    >>> from reference import TimeAffine
    >>> layer = TimeAffine(W=np.array([[1.0, 10.0]]), b=np.array([0.0, 0.5]))
    >>> layer.forward(np.array([[[1.0], [2.0], [3.0]]])).tolist()
    [[[1.0, 10.5], [2.0, 20.5], [3.0, 30.5]]]
    """

    def __init__(self, W: Array, b: Array) -> None:
        require_float64("W", W)
        require_float64("b", b)
        require_rank("W", W, "D, M")
        require_shape("b", b, (W.shape[1],))
        self.params = [W, b]
        self.grads = [np.zeros_like(W), np.zeros_like(b)]

    def forward(self, xs: Array) -> Array:
        """Return (N, T, M) from xs (N, T, D)."""
        W, b = self.params
        require_rank("xs", xs, "N, T, D")
        N, T, _ = xs.shape
        D, M = W.shape
        require_shape("xs", xs, (N, T, D))
        self.rows = xs.reshape(N * T, D)
        self.out_shape = (N, T, M)
        out: Array = self.rows @ W + b
        return out.reshape(N, T, M)

    def backward(self, dout: Array) -> Array:
        """Return dxs (N, T, D) from dout (N, T, M), and set `grads`."""
        require_shape("dout", dout, self.out_shape)
        W, _ = self.params
        dW, db = self.grads
        N, T, M = self.out_shape
        drows = dout.reshape(N * T, M)
        dW[...] = self.rows.T @ drows
        db[...] = drows.sum(axis=0)
        dxs: Array = drows @ W.T
        return dxs.reshape(N, T, len(W))
