"""Layer normalisation of the last axis."""

import numpy as np

from ._arrays import Array, require_shape
from .variable import Variable

EPSILON = 1e-5  # added to the variance; torch.nn.LayerNorm's default


class LayerNorm:
    """Layer normalisation, `y = scale * (x - mean) / sqrt(var + EPSILON) + shift`.

    Mean and variance (of the population: divided by the count, not the count less one) are over the
    last axis, for each row apart.

    Parameters
    ----------
    scale, shift : Variable (M,)

    Notes
    -----
    Ba, Kiros and Hinton, "Layer normalization", 2016.

    Examples
    --------
    >>> import numpy as np
    >>> from reference import LayerNorm, Variable
    >>> layer = LayerNorm(Variable.of(np.ones(2)), Variable.of(np.full(2, 3.0)))
    >>> layer.forward(np.array([[10.0, 30.0]])).round(3).tolist()
    [[2.0, 4.0]]
    """

    def __init__(self, scale: Variable, shift: Variable) -> None:
        self.scale, self.shift = scale, shift

    def forward(self, x: Array) -> Array:
        """Return y (N, M) from x (N, M)."""
        require_shape("x", x, (len(x), len(self.scale.value)))
        deviation = x - x.mean(axis=1, keepdims=True)
        variance = (deviation**2).mean(axis=1, keepdims=True)
        self.inverse = 1.0 / np.sqrt(variance + EPSILON)
        self.normal = deviation * self.inverse
        y: Array = self.scale.value * self.normal + self.shift.value
        return y

    def backward(self, dy: Array) -> Array:
        """Return dx (N, M) from dy (N, M), and add to the gradients of `scale` and `shift`."""
        require_shape("dy", dy, self.normal.shape)
        self.scale.grad += (dy * self.normal).sum(axis=0)
        self.shift.grad += dy.sum(axis=0)
        d_normal = dy * self.scale.value
        # A change of x along ones, or along `normal`, does not change `normal` (but for EPSILON,
        # which `inverse` accounts for): the gradient has no part along them.
        along_ones = d_normal.mean(axis=1, keepdims=True)
        along_normal = (d_normal * self.normal).mean(axis=1, keepdims=True)
        dx: Array = self.inverse * (d_normal - along_ones - self.normal * along_normal)
        return dx
