"""TimeDropout: in training, set a random part of the values to zero and enlarge the rest.

This is inverted dropout: what remains is divided by the probability of remaining, so the expected
value is unchanged and evaluation needs no scaling. Every element of every step is drawn on its own
(variational dropout would draw once a sequence).
"""

import numpy as np

from ._arrays import Array, require_shape


class TimeDropout:
    """Inverted dropout, with a generator given by the caller.

    Parameters
    ----------
    dropout_ratio : float
        Probability that a value becomes zero, in [0, 1).
    rng : numpy.random.Generator
        Draws the mask. Two generators of the same seed give the same masks.

    Raises
    ------
    ValueError
        If dropout_ratio is outside [0, 1).

    Notes
    -----
    Srivastava and others, "Dropout: a simple way to prevent neural networks from overfitting", JMLR
    15, 2014. Zaremba, Sutskever and Vinyals, "Recurrent neural network regularization", 2014
    (arXiv:1409.2329), put it between recurrent layers ("in depth"), not between steps.

    Examples
    --------
    >>> import numpy as np
    >>> from reference import TimeDropout
    >>> layer = TimeDropout(0.5, np.random.default_rng(0))
    >>> sorted(set(layer.forward(np.ones((2, 8, 8))).ravel().tolist()))
    [0.0, 2.0]
    >>> bool((layer.forward(np.ones((2, 8, 8)), train=False) == 1.0).all())
    True
    """

    def __init__(self, dropout_ratio: float, rng: np.random.Generator) -> None:
        if not 0.0 <= dropout_ratio < 1.0:
            raise ValueError(f"dropout_ratio: given {dropout_ratio}, expected 0 <= ratio < 1")
        self.params: list[Array] = []
        self.grads: list[Array] = []
        self.dropout_ratio = dropout_ratio
        self.rng = rng

    def forward(self, xs: Array, train: bool = True) -> Array:
        """Return xs (any shape) under a fresh mask; with train=False, unchanged."""
        if train:
            remains = self.rng.random(xs.shape) >= self.dropout_ratio
            self.scale: Array = remains / (1.0 - self.dropout_ratio)
        else:
            self.scale = np.ones(xs.shape)
        return xs * self.scale

    def backward(self, dout: Array) -> Array:
        """Return dxs from dout (shape of xs), under the mask of the last `forward`."""
        require_shape("dout", dout, self.scale.shape)
        return dout * self.scale
