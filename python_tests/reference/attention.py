"""Attention of a decoder over an encoder's hidden states, by dot products.

A query h takes the softmax of its dot products with the hidden states hs for weights
(`AttentionWeight`), and their weighted sum for a context (`WeightSum`). "Deep Learning from Scratch
2" (K. Saito), chapter 8; the score is the "dot" of Luong and others, 2015 (arXiv:1508.04025).
"""

import numpy as np

from ._arrays import Array, require_rank, require_shape


class WeightSum:
    """The sum of hidden states, each times its weight.

    Examples
    --------
    >>> import numpy as np
    >>> from reference import WeightSum
    >>> hs = np.array([[[1.0, 10.0], [2.0, 20.0]]])
    >>> WeightSum().forward(hs, np.array([[0.5, 1.0]])).tolist()
    [[2.5, 25.0]]
    """

    def __init__(self) -> None:
        self.params: list[Array] = []
        self.grads: list[Array] = []

    def forward(self, hs: Array, a: Array) -> Array:
        """Return the contexts (N, H) of hidden states hs (N, S, H) and weights a (N, S)."""
        require_rank("hs", hs, "N, S, H")
        require_shape("a", a, hs.shape[:2])
        self.hs, self.a = hs, a
        return (hs * a[:, :, None]).sum(axis=1)  # type: ignore[no-any-return]

    def backward(self, dc: Array) -> tuple[Array, Array]:
        """Return dhs (N, S, H) and da (N, S) from dc (N, H)."""
        N, _, H = self.hs.shape
        require_shape("dc", dc, (N, H))
        return self.a[:, :, None] * dc[:, None], (self.hs * dc[:, None]).sum(axis=2)


class AttentionWeight:
    """The softmax, over the hidden states, of their dot products with a query.

    Examples
    --------
    >>> import numpy as np
    >>> from reference import AttentionWeight
    >>> hs = np.array([[[0.0, 1.0], [np.log(3.0), 1.0]]])
    >>> AttentionWeight().forward(hs, np.array([[1.0, 5.0]])).round(12).tolist()
    [[0.25, 0.75]]
    """

    def __init__(self) -> None:
        self.params: list[Array] = []
        self.grads: list[Array] = []

    def forward(self, hs: Array, h: Array) -> Array:
        """Return the weights (N, S) of hidden states hs (N, S, H) for queries h (N, H)."""
        require_rank("hs", hs, "N, S, H")
        require_shape("h", h, (hs.shape[0], hs.shape[2]))
        scores = (hs * h[:, None]).sum(axis=2)
        powers = np.exp(scores - scores.max(axis=1, keepdims=True))
        self.hs, self.h = hs, h
        self.a: Array = powers / powers.sum(axis=1, keepdims=True)
        return self.a

    def backward(self, da: Array) -> tuple[Array, Array]:
        """Return dhs (N, S, H) and dh (N, H) from da (N, S)."""
        require_shape("da", da, self.a.shape)
        ds = self.a * (da - (self.a * da).sum(axis=1, keepdims=True))
        return ds[:, :, None] * self.h[:, None], (ds[:, :, None] * self.hs).sum(axis=1)


class TimeAttention:
    """Attention of every step of a decoder.

    Examples
    --------
    >>> import numpy as np
    >>> from reference import TimeAttention
    >>> layer = TimeAttention()
    >>> layer.forward(np.array([[[1.0], [3.0]]]), np.zeros((1, 2, 1))).tolist()
    [[[2.0], [2.0]]]
    >>> layer.weights.tolist()
    [[[0.5, 0.5], [0.5, 0.5]]]
    """

    def __init__(self) -> None:
        self.params: list[Array] = []
        self.grads: list[Array] = []

    def forward(self, hs_enc: Array, hs_dec: Array) -> Array:
        """Return the contexts (N, T, H) of hs_enc (N, S, H) for hs_dec (N, T, H).

        The weights are then in `weights` (N, T, S).
        """
        require_rank("hs_dec", hs_dec, "N, T, H")
        steps = hs_dec.shape[1]
        self.weigh = [AttentionWeight() for _ in range(steps)]
        self.add = [WeightSum() for _ in range(steps)]
        weights = [self.weigh[t].forward(hs_enc, hs_dec[:, t]) for t in range(steps)]
        self.weights = np.stack(weights, axis=1)
        return np.stack([self.add[t].forward(hs_enc, weights[t]) for t in range(steps)], axis=1)

    def backward(self, dout: Array) -> tuple[Array, Array]:
        """Return dhs_enc (N, S, H) and dhs_dec (N, T, H) from dout (N, T, H)."""
        require_rank("dout", dout, "N, T, H")
        dhs_enc, dhs_dec = np.zeros(self.add[0].hs.shape), np.zeros(dout.shape)
        for t, (weigh, add) in enumerate(zip(self.weigh, self.add, strict=True)):
            dhs, da = add.backward(dout[:, t])
            dhs_enc += dhs
            dhs, dhs_dec[:, t] = weigh.backward(da)
            dhs_enc += dhs
        return dhs_enc, dhs_dec
