"""Recurrent layers: one step (RNN, LSTM), and a whole sequence of them (TimeRNN, TimeLSTM).

A step layer maps an input x (N, D) and the previous state to the next state. A time layer unrolls
it over xs (N, T, D): T step layers in a row, all with the same parameters, each keeping its own
intermediate values. Its backward pass walks the row from the end (back-propagation through time).

Between two calls of `forward` a time layer with `stateful=True` carries its state on, but no
gradient: `backward` stops at the state that its own `forward` started from (truncated BPTT). What
would flow further back is left in `dh` (and `dc`).
"""

import numpy as np

from ._arrays import Array, require_float64, require_rank, require_shape


def _sigmoid(x: Array) -> Array:
    with np.errstate(over="ignore"):  # exp(800) is inf, and 1 / (1 + inf) is the right answer
        y: Array = 1.0 / (1.0 + np.exp(-x))
    return y


def _check_params(Wx: Array, Wh: Array, b: Array, gates: int) -> None:
    for name, array, axes in (("Wx", Wx, "D, GH"), ("Wh", Wh, "H, GH"), ("b", b, "GH")):
        require_float64(name, array)
        require_rank(name, array, axes.replace("G", str(gates) if gates > 1 else ""))
    width = gates * Wh.shape[0]
    require_shape("Wx", Wx, (Wx.shape[0], width))
    require_shape("Wh", Wh, (Wh.shape[0], width))
    require_shape("b", b, (width,))


class RNN:
    """One step of the simple recurrent network, `h = tanh(x @ Wx + h_prev @ Wh + b)`.

    Parameters
    ----------
    Wx : array (D, H), float64
    Wh : array (H, H), float64
    b : array (H,), float64

    Raises
    ------
    TypeError, ValueError
        If a parameter is not float64, or a shape does not fit.

    Notes
    -----
    Elman, "Finding structure in time", Cognitive Science 14, 1990.

    Examples
    --------
    >>> import numpy as np
    >>> from reference import RNN
    >>> layer = RNN(Wx=np.ones((2, 1)), Wh=np.ones((1, 1)), b=np.zeros(1))
    >>> h = layer.forward(x=np.array([[0.25, 0.5]]), h_prev=np.array([[0.25]]))
    >>> bool(h[0, 0] == np.tanh(1.0))
    True
    """

    def __init__(self, Wx: Array, Wh: Array, b: Array) -> None:
        _check_params(Wx, Wh, b, gates=1)
        self.params = [Wx, Wh, b]
        self.grads = [np.zeros_like(p) for p in self.params]

    def forward(self, x: Array, h_prev: Array) -> Array:
        """Return h (N, H) from x (N, D) and h_prev (N, H)."""
        Wx, Wh, b = self.params
        require_shape("x", x, (len(x), len(Wx)))
        require_shape("h_prev", h_prev, (len(x), len(Wh)))
        h: Array = np.tanh(x @ Wx + h_prev @ Wh + b)
        self.x, self.h_prev, self.h = x, h_prev, h
        return h

    def backward(self, dh: Array) -> tuple[Array, Array]:
        """Return (dx (N, D), dh_prev (N, H)) from dh (N, H), and set `grads`."""
        require_shape("dh", dh, self.h.shape)
        Wx, Wh, _ = self.params
        dWx, dWh, db = self.grads

        da = dh * (1.0 - self.h**2)  # through tanh, whose slope is 1 - tanh^2
        dWx[...] = self.x.T @ da
        dWh[...] = self.h_prev.T @ da
        db[...] = da.sum(axis=0)
        return da @ Wx.T, da @ Wh.T


class LSTM:
    """One step of the long short-term memory.

    The four gates sit side by side in the 4H columns of the parameters, in the order f, g, i, o::

        a = x @ Wx + h_prev @ Wh + b            (N, 4H)
        f = sigmoid(a[:, 0:H])                  forget: how much of the old cell stays
        g = tanh(a[:, H:2H])                    the new content
        i = sigmoid(a[:, 2H:3H])                input: how much of the new content enters
        o = sigmoid(a[:, 3H:4H])                output: how much of the cell is shown
        c = f * c_prev + g * i
        h = o * tanh(c)

    Parameters
    ----------
    Wx : array (D, 4H), float64
    Wh : array (H, 4H), float64
    b : array (4H,), float64

    Raises
    ------
    TypeError, ValueError
        If a parameter is not float64, or a shape does not fit.

    Notes
    -----
    Hochreiter and Schmidhuber, "Long short-term memory", Neural Computation 9, 1997; forget gate:
    Gers, Schmidhuber and Cummins, "Learning to forget", Neural Computation 12, 2000. torch orders
    the gates i, f, g, o: see `reference.mapping`.

    Examples
    --------
    >>> import numpy as np
    >>> from reference import LSTM
    >>> keep = np.array([100.0, 0.0, -100.0, 100.0])  # forget gate open, input gate shut
    >>> layer = LSTM(Wx=np.zeros((3, 4)), Wh=np.zeros((1, 4)), b=keep)
    >>> h, c = layer.forward(np.ones((1, 3)), h_prev=np.zeros((1, 1)), c_prev=np.full((1, 1), 0.5))
    >>> float(c[0, 0]), bool(h[0, 0] == np.tanh(0.5))
    (0.5, True)
    """

    def __init__(self, Wx: Array, Wh: Array, b: Array) -> None:
        _check_params(Wx, Wh, b, gates=4)
        self.params = [Wx, Wh, b]
        self.grads = [np.zeros_like(p) for p in self.params]

    def forward(self, x: Array, h_prev: Array, c_prev: Array) -> tuple[Array, Array]:
        """Return (h (N, H), c (N, H)) from x (N, D), h_prev (N, H) and c_prev (N, H)."""
        Wx, Wh, b = self.params
        require_shape("x", x, (len(x), len(Wx)))
        require_shape("h_prev", h_prev, (len(x), len(Wh)))
        require_shape("c_prev", c_prev, (len(x), len(Wh)))

        a_f, a_g, a_i, a_o = np.split(x @ Wx + h_prev @ Wh + b, 4, axis=1)
        f, g, i, o = _sigmoid(a_f), np.tanh(a_g), _sigmoid(a_i), _sigmoid(a_o)
        c = f * c_prev + g * i
        h = o * np.tanh(c)

        self.x, self.h_prev, self.c_prev = x, h_prev, c_prev
        self.gates = (f, g, i, o)
        self.c = c
        return h, c

    def backward(self, dh: Array, dc: Array) -> tuple[Array, Array, Array]:
        """Return (dx (N, D), dh_prev (N, H), dc_prev (N, H)) and set `grads`.

        dh (N, H) and dc (N, H) are the gradients that reach h and c from outside the step; dc does
        not contain the part that flows from h into c, which is added here.
        """
        require_shape("dh", dh, self.c.shape)
        require_shape("dc", dc, self.c.shape)
        Wx, Wh, _ = self.params
        dWx, dWh, db = self.grads
        f, g, i, o = self.gates
        tanh_c = np.tanh(self.c)

        # h = o * tanh(c), so c also matters to the loss through h.
        do = dh * tanh_c
        dc = dc + dh * o * (1.0 - tanh_c**2)

        # c = f * c_prev + g * i
        df = dc * self.c_prev
        dg = dc * i
        di = dc * g
        dc_prev = dc * f

        # Through the activations: sigmoid has slope y (1 - y), tanh has slope 1 - y^2.
        da = np.hstack(
            [df * f * (1.0 - f), dg * (1.0 - g**2), di * i * (1.0 - i), do * o * (1.0 - o)]
        )
        dWx[...] = self.x.T @ da
        dWh[...] = self.h_prev.T @ da
        db[...] = da.sum(axis=0)
        return da @ Wx.T, da @ Wh.T, dc_prev


class TimeRNN:
    """The simple recurrent network over a sequence.

    Parameters
    ----------
    Wx : array (D, H), float64
    Wh : array (H, H), float64
    b : array (H,), float64
    stateful : bool
        True: `forward` starts from the state that the previous `forward` (or `set_state`) left.
        False: it always starts from zeros.

    Attributes
    ----------
    h : array (N, H) or None
        State after the last `forward`; None at first and after `reset_state` (meaning zeros).
    dh : array (N, H)
        Gradient of the state that `forward` started from, set by `backward`.

    Raises
    ------
    TypeError, ValueError
        If a parameter is not float64, or a shape does not fit.

    Examples
    --------
    >>> import numpy as np
    >>> from reference import TimeRNN
    >>> layer = TimeRNN(np.zeros((3, 4)), np.zeros((4, 4)), np.zeros(4))
    >>> layer.forward(np.ones((2, 5, 3))).shape
    (2, 5, 4)
    >>> layer.backward(np.ones((2, 5, 4))).shape
    (2, 5, 3)
    """

    def __init__(self, Wx: Array, Wh: Array, b: Array, stateful: bool = False) -> None:
        _check_params(Wx, Wh, b, gates=1)
        self.params = [Wx, Wh, b]
        self.grads = [np.zeros_like(p) for p in self.params]
        self.stateful = stateful
        self.h: Array | None = None

    def set_state(self, h: Array) -> None:
        """Make h (N, H) the state that the next `forward` starts from.

        Raises RuntimeError if the layer is not stateful, for `forward` would not look at h.
        """
        if not self.stateful:
            raise RuntimeError("set_state: the layer has stateful=False, expected stateful=True")
        self.h = np.asarray(h, dtype=np.float64)

    def reset_state(self) -> None:
        """Make zeros the state that the next `forward` starts from."""
        self.h = None

    def forward(self, xs: Array) -> Array:
        """Return the states hs (N, T, H) of all steps from xs (N, T, D)."""
        Wx, Wh, _ = self.params
        require_rank("xs", xs, "N, T, D")
        N, T, D = xs.shape
        H = len(Wh)
        require_shape("xs", xs, (N, T, len(Wx)))
        if not self.stateful or self.h is None:
            self.h = np.zeros((N, H))
        require_shape("h", self.h, (N, H))

        self.steps = [RNN(*self.params) for _ in range(T)]
        self.hs_shape, self.xs_shape = (N, T, H), (N, T, D)
        hs = np.empty(self.hs_shape)
        for t in range(T):
            self.h = self.steps[t].forward(xs[:, t], self.h)
            hs[:, t] = self.h
        return hs

    def backward(self, dhs: Array, dh_n: Array | None = None) -> Array:
        """Return dxs (N, T, D), and set `grads` and `dh`.

        Parameters
        ----------
        dhs : array (N, T, H)
            Gradient of every step's output.
        dh_n : array (N, H), optional
            Gradient of the final state where it is used apart from hs; zeros if omitted.
        """
        N, T, H = self.hs_shape
        require_shape("dhs", dhs, self.hs_shape)
        dh = np.zeros((N, H)) if dh_n is None else dh_n
        require_shape("dh_n", dh, (N, H))

        for grad in self.grads:
            grad[...] = 0.0
        dxs = np.empty(self.xs_shape)
        for t in reversed(range(T)):
            # The state of step t is used twice: as an output, and by step t + 1.
            dxs[:, t], dh = self.steps[t].backward(dhs[:, t] + dh)
            for grad, step_grad in zip(self.grads, self.steps[t].grads, strict=True):
                grad += step_grad  # all steps share one set of parameters
        self.dh = dh
        return dxs


class TimeLSTM:
    """The long short-term memory over a sequence.

    Parameters
    ----------
    Wx : array (D, 4H), float64
    Wh : array (H, 4H), float64
    b : array (4H,), float64
        Columns in the gate order f, g, i, o (see `LSTM`).
    stateful : bool
        True: `forward` starts from the state that the previous `forward` (or `set_state`) left.
        False: it always starts from zeros.

    Attributes
    ----------
    h, c : array (N, H) or None
        Hidden and cell state after the last `forward`; None at first and after `reset_state`
        (meaning zeros).
    dh, dc : array (N, H)
        Gradients of the hidden and cell state that `forward` started from, set by `backward`.

    Raises
    ------
    TypeError, ValueError
        If a parameter is not float64, or a shape does not fit.

    Examples
    --------
    >>> import numpy as np
    >>> from reference import TimeLSTM
    >>> layer = TimeLSTM(np.zeros((3, 16)), np.zeros((4, 16)), np.zeros(16), stateful=True)
    >>> layer.set_state(h=np.ones((2, 4)), c=np.ones((2, 4)))
    >>> layer.forward(np.ones((2, 5, 3))).shape
    (2, 5, 4)
    >>> layer.backward(np.ones((2, 5, 4))).shape
    (2, 5, 3)
    >>> layer.dh.shape, layer.dc.shape
    ((2, 4), (2, 4))
    """

    def __init__(self, Wx: Array, Wh: Array, b: Array, stateful: bool = False) -> None:
        _check_params(Wx, Wh, b, gates=4)
        self.params = [Wx, Wh, b]
        self.grads = [np.zeros_like(p) for p in self.params]
        self.stateful = stateful
        self.h: Array | None = None
        self.c: Array | None = None

    def set_state(self, h: Array, c: Array | None = None) -> None:
        """Make h (N, H) and c (N, H; zeros if omitted) the state the next `forward` starts from.

        Raises RuntimeError if the layer is not stateful, for `forward` would not look at them.
        """
        if not self.stateful:
            raise RuntimeError("set_state: the layer has stateful=False, expected stateful=True")
        self.h = np.asarray(h, dtype=np.float64)
        self.c = np.zeros_like(self.h) if c is None else np.asarray(c, dtype=np.float64)

    def reset_state(self) -> None:
        """Make zeros the state that the next `forward` starts from."""
        self.h = None
        self.c = None

    def forward(self, xs: Array) -> Array:
        """Return the hidden states hs (N, T, H) of all steps from xs (N, T, D)."""
        Wx, Wh, _ = self.params
        require_rank("xs", xs, "N, T, D")
        N, T, D = xs.shape
        H = len(Wh)
        require_shape("xs", xs, (N, T, len(Wx)))
        if not self.stateful or self.h is None or self.c is None:
            self.h, self.c = np.zeros((N, H)), np.zeros((N, H))
        require_shape("h", self.h, (N, H))
        require_shape("c", self.c, (N, H))

        self.steps = [LSTM(*self.params) for _ in range(T)]
        self.hs_shape, self.xs_shape = (N, T, H), (N, T, D)
        hs = np.empty(self.hs_shape)
        for t in range(T):
            self.h, self.c = self.steps[t].forward(xs[:, t], self.h, self.c)
            hs[:, t] = self.h
        return hs

    def backward(self, dhs: Array, dh_n: Array | None = None, dc_n: Array | None = None) -> Array:
        """Return dxs (N, T, D), and set `grads`, `dh` and `dc`.

        Parameters
        ----------
        dhs : array (N, T, H)
            Gradient of every step's output.
        dh_n, dc_n : array (N, H), optional
            Gradients of the final state where it is used apart from hs; zeros if omitted.
        """
        N, T, H = self.hs_shape
        require_shape("dhs", dhs, self.hs_shape)
        dh = np.zeros((N, H)) if dh_n is None else dh_n
        dc = np.zeros((N, H)) if dc_n is None else dc_n
        require_shape("dh_n", dh, (N, H))
        require_shape("dc_n", dc, (N, H))

        for grad in self.grads:
            grad[...] = 0.0
        dxs = np.empty(self.xs_shape)
        for t in reversed(range(T)):
            # The hidden state of step t is used twice: as an output, and by step t + 1.
            dxs[:, t], dh, dc = self.steps[t].backward(dhs[:, t] + dh, dc)
            for grad, step_grad in zip(self.grads, self.steps[t].grads, strict=True):
                grad += step_grad  # all steps share one set of parameters
        self.dh, self.dc = dh, dc
        return dxs
