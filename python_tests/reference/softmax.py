"""Softmax with cross-entropy loss: over rows, and over the steps of a sequence.

For one row of logits x and the right word t::

    p = softmax(x)        p_v = exp(x_v) / sum_w exp(x_w)
    loss = -log p_t       = log(sum_w exp(x_w)) - x_t
    dloss/dx_v = p_v - [v = t]

The loss is computed from its right-hand form, so that it never takes the logarithm of a p that was
rounded to 0, and with the greatest logit subtracted from all, so that exp cannot overflow.
"""

import numpy as np

from ._arrays import Array, IndexArray, require_indices, require_rank, require_shape


class SoftmaxWithLoss:
    """Mean cross-entropy of the softmax of each row.

    Raises
    ------
    TypeError, ValueError
        If the targets are not integers, or a shape does not fit.
    IndexError
        If a target is outside 0 .. V - 1.

    Notes
    -----
    Bridle, "Probabilistic interpretation of feedforward classification network outputs", 1990. The
    mean over no rows is defined as 0.

    Examples
    --------
    >>> import numpy as np
    >>> from reference import SoftmaxWithLoss
    >>> layer = SoftmaxWithLoss()
    >>> loss = layer.forward(x=np.zeros((1, 4)), t=np.array([2]))  # four words, equally likely
    >>> bool(np.isclose(loss, np.log(4.0)))
    True
    >>> layer.backward().tolist()
    [[0.25, 0.25, -0.75, 0.25]]
    """

    def __init__(self) -> None:
        self.params: list[Array] = []
        self.grads: list[Array] = []

    def forward(self, x: Array, t: IndexArray) -> float:
        """Return the loss of logits x (N, V) and targets t (N,)."""
        require_rank("x", x, "N, V")
        N, V = x.shape
        require_shape("t", t, (N,))
        require_indices("t", t, V)

        x = np.asarray(x, dtype=np.float64)
        shifted = x - x.max(axis=1, keepdims=True)
        log_sum = np.log(np.exp(shifted).sum(axis=1, keepdims=True))
        log_p: Array = shifted - log_sum
        self.p: Array = np.exp(log_p)
        self.t = t

        total = 0.0
        for n in range(N):
            total -= float(log_p[n, t[n]])
        return total / max(len(t), 1)

    def backward(self, dout: float = 1.0) -> Array:
        """Return dx (N, V); dout is the gradient of the loss itself."""
        N = len(self.t)
        dx: Array = self.p.copy()
        for n in range(N):
            dx[n, self.t[n]] -= 1.0
        dx *= dout / max(N, 1)
        return dx


class TimeSoftmaxWithLoss:
    """Mean cross-entropy over the steps whose target is not the ignore label.

    Parameters
    ----------
    ignore_label : int
        Steps with this target (padding) count neither in the sum nor in its divisor, and their
        gradient is exactly zero whatever their logits.

    Raises
    ------
    TypeError, ValueError
        If the targets are not integers, or a shape does not fit.
    IndexError
        If a target is neither the ignore label nor in 0 .. V - 1.

    Notes
    -----
    When every step is ignored (or there is none), the loss is 0 and all gradients are 0.
    torch.nn.functional.cross_entropy gives NaN there.

    Examples
    --------
    >>> import numpy as np
    >>> from reference import TimeSoftmaxWithLoss
    >>> layer = TimeSoftmaxWithLoss()
    >>> loss = layer.forward(np.zeros((1, 3, 4)), np.array([[0, 3, -1]]))
    >>> bool(np.isclose(loss, np.log(4.0)))
    True
    >>> layer.forward(np.zeros((1, 2, 4)), np.array([[-1, -1]]))
    0.0
    """

    def __init__(self, ignore_label: int = -1) -> None:
        self.params: list[Array] = []
        self.grads: list[Array] = []
        self.ignore_label = ignore_label
        self.layer = SoftmaxWithLoss()

    def forward(self, xs: Array, ts: IndexArray) -> float:
        """Return the loss of logits xs (N, T, V) and targets ts (N, T)."""
        require_rank("xs", xs, "N, T, V")
        require_shape("ts", ts, xs.shape[:2])
        self.kept = ts != self.ignore_label
        self.xs_shape = xs.shape
        # Selecting with the mask (N, T) lines the kept steps up as rows.
        return self.layer.forward(xs[self.kept], ts[self.kept])

    def backward(self, dout: float = 1.0) -> Array:
        """Return dxs (N, T, V); dout is the gradient of the loss itself."""
        dxs = np.zeros(self.xs_shape)
        dxs[self.kept] = self.layer.backward(dout)
        return dxs
