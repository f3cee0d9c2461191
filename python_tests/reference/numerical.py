"""Central differences: the check of a backward pass that knows only the forward pass."""

from collections.abc import Callable

import numpy as np

from ._arrays import Array, require_float64


def numerical_gradient(loss: Callable[[], float], array: Array, step: float = 1e-5) -> Array:
    """Return the gradient of a loss with respect to one array, by central differences.

    Parameters
    ----------
    loss : function of no arguments, returning a float
        Must read `array` anew at each call, and give the same value for the same numbers (a random
        layer has to start each call from a fresh generator).
    array : float64 array, any shape
        Changed in place one element at a time, and left as it was.
    step : float
        The distance d in (loss(a + d) - loss(a - d)) / 2d. The error is about d^2 / 6 times the
        third derivative, plus 1e-16 / d from rounding: some 1e-10 for values of order 1.

    Returns
    -------
    array of the same shape, float64

    Raises
    ------
    TypeError
        If `array` is not float64.

    Examples
    --------
    >>> import numpy as np
    >>> from reference import numerical_gradient
    >>> x = np.array([1.0, 2.0])
    >>> numerical_gradient(lambda: float((x**2).sum()), x).round(6).tolist()
    [2.0, 4.0]
    """
    require_float64("array", array)
    gradient = np.empty(array.shape)
    for index in np.ndindex(array.shape):
        original = array[index]
        array[index] = original + step
        above = loss()
        array[index] = original - step
        below = loss()
        array[index] = original
        gradient[index] = (above - below) / (2.0 * step)
    return gradient
