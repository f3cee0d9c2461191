"""Softmax with cross-entropy loss: over rows, and over the steps of a sequence.

For one row of logits x and the right word t::

    p = softmax(x)        p_v = exp(x_v) / sum_w exp(x_w)
    loss = -log p_t       = log(sum_w exp(x_w)) - x_t
    dloss/dx_v = p_v - [v = t]

The loss is computed from its right-hand form, so that it never takes the logarithm of a p that was
rounded to 0, and with the greatest logit subtracted from all, so that exp cannot overflow.

`SoftmaxWithLoss` and `TimeSoftmaxWithLoss` are the textbook's. `CrossEntropy` defines every option
of seqkern.functional.cross_entropy, and `LinearCrossEntropy` linear_cross_entropy.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ._arrays import (
    Array,
    IndexArray,
    require_float64,
    require_indices,
    require_rank,
    require_shape,
)


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


Hard = IndexArray  # targets (N,) that are classes
Soft = Array  # or (N, V), that are distributions over them


@dataclass
class CrossEntropyResult:
    """What :class:`CrossEntropy` yields: the loss, and five numbers of each row, (N,)."""

    loss: Array  # a scalar, or (N,) without reduction
    log_probability: Array
    logsumexp: Array
    entropy: Array
    rank: IndexArray  # how many classes come before the target; -1 in ignored rows
    argmax: IndexArray  # the first class of the greatest logit; -1 in ignored rows


@dataclass
class _Row:
    """What backward needs of a row that counts; each (V,), or a number."""

    slope: Array  # dz_v / dx_v,
    slope_terms: Array  # and the sum of the sizes of its terms
    log_p: Array
    p: Array
    q: Array  # the target's probabilities
    a: Array  # the factors of -log p in the loss
    lse: float
    entropy: float


@dataclass
class CrossEntropy:
    """Cross-entropy of the softmax of each row, with every option of seqkern.functional.

    Of a row of logits x, with a target of the probabilities q ([v = t] of a class t) and class
    weights w::

        z_v = softcap tanh(x_v / softcap) / temperature
        p_v = exp(z_v - lse)                                lse = log sum_v exp(z_v)
        a_v = w_v ((1 - s) q_v + s / V)                     s: label smoothing
        loss = -sum_v a_v log p_v + k lse^2                 k: z-loss

    Parameters
    ----------
    weight : (V,), or None
        A factor of each class.
    ignore_index : int
        Rows of this target yield 0, and have no gradient, whatever their logits.
    reduction : "none", "mean" or "sum"
        The mean is over the weights of the targets, where these are classes, else over rows.
    label_smoothing, z_loss, softcap, temperature : float
        softcap None: z_v = x_v / temperature.
    nan_if_empty : bool
        Whether the mean over nothing is NaN instead of 0.

    Notes
    -----
    0 log 0 = 0, both in q_v log p_v and in p_v log p_v: a class that is masked out by a logit of
    minus infinity is as if it were not there, unless smoothing asks for it.

    Examples
    --------
    >>> import numpy as np
    >>> from reference import CrossEntropy
    >>> layer = CrossEntropy(z_loss=0.5)
    >>> result = layer.forward(np.zeros((2, 4)), np.array([3, -100]))  # the second is ignored
    >>> bool(np.isclose(result.loss, np.log(4.0) + 0.5 * np.log(4.0) ** 2))
    True
    >>> result.rank.tolist(), result.argmax.tolist()  # of equal logits, the first comes first
    ([3, -1], [0, -1])
    >>> layer.backward()[1].tolist()
    [0.0, 0.0, 0.0, 0.0]
    """

    weight: Array | None = None
    ignore_index: int = -100
    reduction: str = "mean"
    label_smoothing: float = 0.0
    z_loss: float = 0.0
    softcap: float | None = None
    temperature: float = 1.0
    nan_if_empty: bool = False

    def forward(self, logits: Array, target: Hard | Soft) -> CrossEntropyResult:
        """Return the loss of logits (N, V) and targets (N,) or (N, V)."""
        require_rank("logits", logits, "N, V")
        require_float64("logits", logits)
        N, V = logits.shape
        soft = not np.issubdtype(target.dtype, np.integer)
        require_shape("target", target, (N, V) if soft else (N,))
        w = np.ones(V) if self.weight is None else self.weight
        require_shape("weight", w, (V,))

        self.rows: list[_Row | None] = []
        self.shape, self.denominator = (N, V), 0.0
        loss, log_probability, logsumexp, entropy = np.zeros((4, N))
        rank, argmax = np.full((2, N), -1)
        result = CrossEntropyResult(loss, log_probability, logsumexp, entropy, rank, argmax)
        for n in range(N):
            if not soft and target[n] == self.ignore_index:
                self.rows.append(None)
                continue
            if soft:
                q = target[n]
                self.denominator += 1.0
            else:
                t = int(target[n])
                require_indices("target", np.array([t]), V)
                q = np.zeros(V)
                q[t] = 1.0
                self.denominator += w[t]
            z, row = self._row(logits[n], q, w)
            self.rows.append(row)
            result.loss[n] = -_sum_of_products(row.a, row.log_p) + self.z_loss * row.lse**2
            result.log_probability[n] = _sum_of_products(q, row.log_p)
            result.logsumexp[n] = row.lse
            result.entropy[n] = row.entropy
            t = int(q.argmax())
            result.rank[n] = (z > z[t]).sum() + (z[:t] == z[t]).sum()
            result.argmax[n] = z.argmax()
        result.loss = self._reduced(result.loss)
        return result

    def _row(self, x: Array, q: Array, w: Array) -> tuple[Array, _Row]:
        """Return z, and what backward needs."""
        y = np.zeros(len(x))
        if self.softcap is not None:
            y = np.tanh(x / self.softcap)
            x = self.softcap * y
        z, slope, terms = ((v / self.temperature) for v in (x, 1.0 - y**2, 1.0 + y**2))
        log_sum = np.log(np.exp(z - z.max()).sum())
        log_p = (z - z.max()) - log_sum
        p = np.exp(log_p)
        a = w * ((1.0 - self.label_smoothing) * q + self.label_smoothing / len(x))
        lse, entropy = float(z.max() + log_sum), -_sum_of_products(p, log_p)
        return z, _Row(slope, terms, log_p, p, q, a, lse, entropy)

    def _reduced(self, losses: Array) -> Array:
        if self.reduction == "none":
            return losses
        if self.reduction == "sum":
            return np.asarray(losses.sum())
        if self.denominator == 0.0:
            return np.asarray(np.nan if self.nan_if_empty else 0.0)
        return np.asarray(losses.sum() / self.denominator)

    def backward(
        self,
        d_loss: Array | float = 1.0,
        d_log_probability: Array | None = None,
        d_logsumexp: Array | None = None,
        d_entropy: Array | None = None,
    ) -> Array:
        """Return the gradient of the logits (N, V), given that of each result (None: zero).

        `terms` then holds the sum of the sizes of each element's terms: what rounding is relative
        to, where terms cancel.
        """
        N, V = self.shape
        d_losses = np.broadcast_to(d_loss, (N,))
        if self.reduction == "mean":
            d_losses = d_losses / self.denominator if self.denominator != 0.0 else np.zeros(N)
        zero = np.zeros(N)
        d_log_probabilities = zero if d_log_probability is None else d_log_probability
        d_logsumexps = zero if d_logsumexp is None else d_logsumexp
        d_entropies = zero if d_entropy is None else d_entropy

        d_logits, self.terms = np.zeros((N, V)), np.zeros((N, V))
        for n, row in enumerate(self.rows):
            if row is None:
                continue
            # log p_v = z_v - lse, and dlse/dz_v = p_v
            d_log_p = d_log_probabilities[n] * row.q - d_losses[n] * row.a
            d_lse = d_logsumexps[n] + d_losses[n] * 2.0 * self.z_loss * row.lse
            # d(-sum p log p)/dz_v = -p_v (log p_v + entropy)
            log_p = np.where(row.p == 0.0, 0.0, row.log_p)
            terms = (
                d_log_p,
                row.p * -d_log_p.sum(),
                row.p * d_lse,
                row.p * log_p * -d_entropies[n],
                row.p * row.entropy * -d_entropies[n],
            )
            d_logits[n] = np.sum(terms, axis=0) * row.slope
            self.terms[n] = np.abs(terms).sum(axis=0) * row.slope_terms
        return d_logits


def _sum_of_products(factors: Array, logs: Array) -> float:
    """Return sum factors * logs, to which factors of 0 add nothing."""
    return float((factors * np.where(factors == 0.0, 0.0, logs)).sum())


class LinearCrossEntropy:
    """:class:`CrossEntropy` of the logits hidden @ weight.T + bias.

    Parameters
    ----------
    loss : CrossEntropy

    Examples
    --------
    >>> import numpy as np
    >>> from reference import CrossEntropy, LinearCrossEntropy
    >>> layer = LinearCrossEntropy(CrossEntropy())
    >>> result = layer.forward(np.ones((2, 3)), np.zeros((4, 3)), np.array([0, 1]))
    >>> bool(np.isclose(result.loss, np.log(4.0)))
    True
    >>> [gradient.shape for gradient in layer.backward()]  # of hidden, weight and bias
    [(2, 3), (4, 3), (4,)]
    """

    def __init__(self, loss: CrossEntropy) -> None:
        self.loss = loss

    def forward(
        self, hidden: Array, weight: Array, target: Hard | Soft, bias: Array | None = None
    ) -> CrossEntropyResult:
        """Return the loss of hidden (N, H), weight (V, H), bias (V,) and targets (N,) or (N, V)."""
        require_rank("hidden", hidden, "N, H")
        require_shape("weight", weight, (len(weight), hidden.shape[1]))
        self.hidden, self.weight = hidden, weight
        logits = hidden @ weight.T
        return self.loss.forward(logits if bias is None else logits + bias, target)

    def backward(self, *gradients: Any) -> tuple[Array, Array, Array]:
        """Return d_hidden, d_weight and d_bias, given what CrossEntropy.backward takes.

        `terms` then holds the sums of the sizes of their terms, likewise.
        """
        d_logits = self.loss.backward(*gradients)
        self.terms = self._products(self.loss.terms, abs(self.hidden), abs(self.weight))
        return self._products(d_logits, self.hidden, self.weight)

    @staticmethod
    def _products(d: Array, hidden: Array, weight: Array) -> tuple[Array, Array, Array]:
        return d @ weight, d.T @ hidden, d.sum(axis=0)
