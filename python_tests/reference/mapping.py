"""torch's conventions for recurrent layers, and the way to the reference's and back.

================  ===========================================  ===============================
                  torch                                        reference
================  ===========================================  ===============================
pre-activation    x W_ih^T + b_ih + h W_hh^T + b_hh            x Wx + h Wh + b
input weights     weight_ih (4H, D)                            Wx (D, 4H)
hidden weights    weight_hh (4H, H)                            Wh (H, 4H)
bias              bias_ih (4H,) + bias_hh (4H,), or none       b (4H,)
LSTM gate order   i, f, g, o                                   f, g, i, o
sequence          (T, N, ...), or (N, T, ...) batch_first      (N, T, ...)
state             (layers * directions, N, H)                  (N, H), one layer and direction
================  ===========================================  ===============================

For the simple recurrent network read H for 4H; there are no gates to reorder. Going to torch, all
of b becomes bias_ih, and bias_hh becomes zeros. Gradients map like weights except for the bias: a
change of bias_ih or of bias_hh is the same change of b, so both have the gradient of b.

All functions take NumPy arrays of any float type (for a torch tensor of any dtype,
`tensor.detach().double().cpu().numpy()`) and return new float64 arrays. Sources: the documentation
of torch.nn.LSTM and torch.nn.RNN.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._arrays import Array, require_rank, require_shape

AnyFloat = NDArray[np.floating[Any]]

Weights = tuple[Array, Array, Array]  # Wx, Wh, b
TorchWeights = tuple[Array, Array, Array, Array]  # weight_ih, weight_hh, bias_ih, bias_hh

# The gate order of torch's rows and of the reference's columns, one letter a block of H.
_LSTM = ("ifgo", "fgio")
_RNN = ("h", "h")


def _reorder(rows: AnyFloat, source: str, target: str) -> Array:
    """Return the blocks of rows, given in the gate order `source`, in the order `target`."""
    block = dict(zip(source, np.split(rows, len(source)), strict=True))
    return np.concatenate([block[gate] for gate in target]).astype(np.float64)


def _from_torch(
    cell: tuple[str, str],
    weight_ih: AnyFloat,
    weight_hh: AnyFloat,
    biases: dict[str, AnyFloat | None],
    prefix: str = "",
) -> Weights:
    """Check torch's arrays (called prefix + name in errors), reorder and transpose them."""
    torch_order, reference_order = cell
    require_rank(f"{prefix}weight_ih", weight_ih, "rows, D")
    require_rank(f"{prefix}weight_hh", weight_hh, "rows, H")
    D, H = weight_ih.shape[1], weight_hh.shape[1]
    rows = len(torch_order) * H
    require_shape(f"{prefix}weight_ih", weight_ih, (rows, D))
    require_shape(f"{prefix}weight_hh", weight_hh, (rows, H))
    b = np.zeros(rows)
    for name, bias in biases.items():
        if bias is not None:
            require_shape(name, bias, (rows,))
            b += bias
    return (
        _reorder(weight_ih, torch_order, reference_order).T,
        _reorder(weight_hh, torch_order, reference_order).T,
        _reorder(b, torch_order, reference_order),
    )


def _to_torch(
    cell: tuple[str, str], Wx: AnyFloat, Wh: AnyFloat, b: AnyFloat, prefix: str = ""
) -> Weights:
    """Check the reference's arrays (called prefix + name in errors), transpose and reorder them."""
    torch_order, reference_order = cell
    require_rank(f"{prefix}Wx", Wx, "D, columns")
    require_rank(f"{prefix}Wh", Wh, "H, columns")
    D, H = Wx.shape[0], Wh.shape[0]
    columns = len(reference_order) * H
    require_shape(f"{prefix}Wx", Wx, (D, columns))
    require_shape(f"{prefix}Wh", Wh, (H, columns))
    require_shape(f"{prefix}b", b, (columns,))
    return (
        _reorder(Wx.T, reference_order, torch_order),
        _reorder(Wh.T, reference_order, torch_order),
        _reorder(b, reference_order, torch_order),
    )


def lstm_from_torch(
    weight_ih: AnyFloat,
    weight_hh: AnyFloat,
    bias_ih: AnyFloat | None = None,
    bias_hh: AnyFloat | None = None,
) -> Weights:
    """Weights of one layer and direction of torch.nn.LSTM, as the parameters of `TimeLSTM`.

    Parameters
    ----------
    weight_ih : array (4H, D)
    weight_hh : array (4H, H)
    bias_ih, bias_hh : array (4H,), optional
        One that is omitted counts as zeros.

    Returns
    -------
    Wx (D, 4H), Wh (H, 4H), b (4H,) : arrays, float64

    Raises
    ------
    ValueError
        If a shape does not fit.

    Examples
    --------
    >>> import numpy as np
    >>> from reference.mapping import lstm_from_torch
    >>> i, f, g, o = 1.0, 2.0, 3.0, 4.0
    >>> Wx, Wh, b = lstm_from_torch(np.array([[i], [f], [g], [o]]), np.zeros((4, 1)))
    >>> Wx.tolist()
    [[2.0, 3.0, 1.0, 4.0]]
    """
    return _from_torch(_LSTM, weight_ih, weight_hh, {"bias_ih": bias_ih, "bias_hh": bias_hh})


def lstm_to_torch(Wx: AnyFloat, Wh: AnyFloat, b: AnyFloat) -> TorchWeights:
    """Parameters of `TimeLSTM`, as the weights of one layer and direction of torch.nn.LSTM.

    Parameters
    ----------
    Wx : array (D, 4H)
    Wh : array (H, 4H)
    b : array (4H,)

    Returns
    -------
    weight_ih (4H, D), weight_hh (4H, H), bias_ih (4H,), bias_hh (4H,) : arrays, float64
        bias_ih holds all of b, and bias_hh is zeros.

    Raises
    ------
    ValueError
        If a shape does not fit.

    Examples
    --------
    >>> import numpy as np
    >>> from reference.mapping import lstm_to_torch
    >>> f, g, i, o = 2.0, 3.0, 1.0, 4.0
    >>> _, _, bias_ih, bias_hh = lstm_to_torch(
    ...     np.zeros((5, 4)), np.zeros((1, 4)), np.array([f, g, i, o])
    ... )
    >>> bias_ih.tolist(), bias_hh.tolist()
    ([1.0, 2.0, 3.0, 4.0], [0.0, 0.0, 0.0, 0.0])
    """
    weight_ih, weight_hh, bias = _to_torch(_LSTM, Wx, Wh, b)
    return weight_ih, weight_hh, bias, np.zeros_like(bias)


def lstm_gradients_from_torch(
    dweight_ih: AnyFloat, dweight_hh: AnyFloat, dbias: AnyFloat
) -> Weights:
    """Gradients of torch.nn.LSTM's weights, as the `grads` of `TimeLSTM`.

    Parameters
    ----------
    dweight_ih : array (4H, D)
    dweight_hh : array (4H, H)
    dbias : array (4H,)
        The gradient of bias_ih or of bias_hh (they are equal), not their sum.

    Returns
    -------
    dWx (D, 4H), dWh (H, 4H), db (4H,) : arrays, float64

    Raises
    ------
    ValueError
        If a shape does not fit.

    Examples
    --------
    >>> import numpy as np
    >>> from reference.mapping import lstm_gradients_from_torch
    >>> i, f, g, o = 1.0, 2.0, 3.0, 4.0
    >>> _, _, db = lstm_gradients_from_torch(
    ...     np.zeros((4, 5)), np.zeros((4, 1)), np.array([i, f, g, o])
    ... )
    >>> db.tolist()
    [2.0, 3.0, 1.0, 4.0]
    """
    return _from_torch(_LSTM, dweight_ih, dweight_hh, {"dbias": dbias}, prefix="d")


def lstm_gradients_to_torch(dWx: AnyFloat, dWh: AnyFloat, db: AnyFloat) -> TorchWeights:
    """Gradients of `TimeLSTM`, as the gradients of torch.nn.LSTM's weights.

    Parameters
    ----------
    dWx : array (D, 4H)
    dWh : array (H, 4H)
    db : array (4H,)

    Returns
    -------
    dweight_ih (4H, D), dweight_hh (4H, H), dbias_ih (4H,), dbias_hh (4H,) : arrays, float64
        Both biases have the gradient of b.

    Raises
    ------
    ValueError
        If a shape does not fit.

    Examples
    --------
    >>> import numpy as np
    >>> from reference.mapping import lstm_gradients_to_torch
    >>> f, g, i, o = 2.0, 3.0, 1.0, 4.0
    >>> _, _, dbias_ih, dbias_hh = lstm_gradients_to_torch(
    ...     np.zeros((5, 4)), np.zeros((1, 4)), np.array([f, g, i, o])
    ... )
    >>> dbias_ih.tolist(), dbias_hh.tolist()
    ([1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 3.0, 4.0])
    """
    dweight_ih, dweight_hh, dbias = _to_torch(_LSTM, dWx, dWh, db, prefix="d")
    return dweight_ih, dweight_hh, dbias, dbias.copy()


def rnn_from_torch(
    weight_ih: AnyFloat,
    weight_hh: AnyFloat,
    bias_ih: AnyFloat | None = None,
    bias_hh: AnyFloat | None = None,
) -> Weights:
    """Weights of torch.nn.RNN (tanh), as the parameters of `TimeRNN`.

    As `lstm_from_torch`, with H for 4H.

    Examples
    --------
    >>> import numpy as np
    >>> from reference.mapping import rnn_from_torch
    >>> Wx, Wh, b = rnn_from_torch(np.zeros((2, 3)), np.eye(2), np.ones(2), np.ones(2))
    >>> Wx.shape, b.tolist()
    ((3, 2), [2.0, 2.0])
    """
    return _from_torch(_RNN, weight_ih, weight_hh, {"bias_ih": bias_ih, "bias_hh": bias_hh})


def rnn_to_torch(Wx: AnyFloat, Wh: AnyFloat, b: AnyFloat) -> TorchWeights:
    """Parameters of `TimeRNN`, as the weights of torch.nn.RNN (tanh).

    As `lstm_to_torch`, with H for 4H.

    Examples
    --------
    >>> import numpy as np
    >>> from reference.mapping import rnn_to_torch
    >>> weight_ih, _, bias_ih, bias_hh = rnn_to_torch(np.zeros((3, 2)), np.eye(2), np.ones(2))
    >>> weight_ih.shape, bias_ih.tolist(), bias_hh.tolist()
    ((2, 3), [1.0, 1.0], [0.0, 0.0])
    """
    weight_ih, weight_hh, bias = _to_torch(_RNN, Wx, Wh, b)
    return weight_ih, weight_hh, bias, np.zeros_like(bias)


def rnn_gradients_from_torch(
    dweight_ih: AnyFloat, dweight_hh: AnyFloat, dbias: AnyFloat
) -> Weights:
    """Gradients of torch.nn.RNN's weights, as the `grads` of `TimeRNN`.

    As `lstm_gradients_from_torch`, with H for 4H.

    Examples
    --------
    >>> import numpy as np
    >>> from reference.mapping import rnn_gradients_from_torch
    >>> dWx, _, db = rnn_gradients_from_torch(np.zeros((2, 3)), np.eye(2), np.ones(2))
    >>> dWx.shape, db.tolist()
    ((3, 2), [1.0, 1.0])
    """
    return _from_torch(_RNN, dweight_ih, dweight_hh, {"dbias": dbias}, prefix="d")


def rnn_gradients_to_torch(dWx: AnyFloat, dWh: AnyFloat, db: AnyFloat) -> TorchWeights:
    """Gradients of `TimeRNN`, as the gradients of torch.nn.RNN's weights.

    As `lstm_gradients_to_torch`, with H for 4H.

    Examples
    --------
    >>> import numpy as np
    >>> from reference.mapping import rnn_gradients_to_torch
    >>> _, _, dbias_ih, dbias_hh = rnn_gradients_to_torch(np.zeros((3, 2)), np.eye(2), np.ones(2))
    >>> dbias_ih.tolist(), dbias_hh.tolist()
    ([1.0, 1.0], [1.0, 1.0])
    """
    dweight_ih, dweight_hh, dbias = _to_torch(_RNN, dWx, dWh, db, prefix="d")
    return dweight_ih, dweight_hh, dbias, dbias.copy()


def sequence_from_torch(xs: AnyFloat, batch_first: bool = False) -> Array:
    """Bring a sequence (or its gradient) from torch's layout to (N, T, ...).

    Parameters
    ----------
    xs : array (T, N, ...), or (N, T, ...) with batch_first=True

    Examples
    --------
    >>> import numpy as np
    >>> from reference.mapping import sequence_from_torch
    >>> sequence_from_torch(np.zeros((7, 2, 3))).shape
    (2, 7, 3)
    """
    return np.array(xs if batch_first else np.swapaxes(xs, 0, 1), dtype=np.float64)


def sequence_to_torch(xs: AnyFloat, batch_first: bool = False) -> Array:
    """Bring a sequence (or its gradient) of shape (N, T, ...) to torch's layout.

    Returns
    -------
    array (T, N, ...), or (N, T, ...) with batch_first=True, float64

    Examples
    --------
    >>> import numpy as np
    >>> from reference.mapping import sequence_to_torch
    >>> sequence_to_torch(np.zeros((2, 7, 3))).shape
    (7, 2, 3)
    """
    return sequence_from_torch(xs, batch_first)  # exchanging two axes is its own inverse
