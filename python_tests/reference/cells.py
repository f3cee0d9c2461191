"""Cells: one step of every recurrent network, in torch's conventions.

A cell turns the input's part of a step, and the state that enters it, into the next state::

    h, c = cell.forward(x, h_prev, c_prev)

x (N, G*H) is already a product, W_ih input + b_ih; h is (N, R), c is (N, H), or (N, 0) in cells
that have no cell state. G is the number of gates; gate k owns columns k*H to (k+1)*H of x and the
same rows of the recurrent weight. R is H, unless the layer projects h (see `sequence`). A cell
object is one step: `backward` uses what `forward` left in it. Gradients with respect to parameters
are added to them (`Variable.grad`).
"""

from dataclasses import dataclass

import numpy as np

from ._arrays import Array, require_shape
from .layer_norm import LayerNorm
from .variable import Variable


def _sigmoid(x: Array) -> Array:
    with np.errstate(over="ignore"):  # exp(800) is inf, and 1 / (1 + inf) is the right answer
        y: Array = 1.0 / (1.0 + np.exp(-x))
    return y


def _d_sigmoid(y: Array) -> Array:
    """Return the slope of the sigmoid where its value is y."""
    return y * (1.0 - y)


def _d_tanh(y: Array) -> Array:
    """Return the slope of tanh where its value is y."""
    slope: Array = 1.0 - y**2
    return slope


@dataclass
class CellParameters:
    """What a cell reads beside its input and state; the same at all steps."""

    weight_hh: Variable  # (G*H, R)
    bias_hh: Variable  # (G*H,)
    recurrent_mask: Variable  # (N, R): factor of what weight_hh multiplies
    norm_hh: Variable | None = None  # (G*H,): scale of the layer norm of the recurrent product
    weight_cell: Variable | None = None  # (peepholes, H)
    norm_c: Variable | None = None  # (H,): scale of the layer norm of the cell state
    norm_c_bias: Variable | None = None  # (H,)


class RecurrentProduct:
    """The recurrent product of a step, `W_hh (mask * h) + b_hh`, or that product layer-normed.

    Parameters
    ----------
    parameters : CellParameters
    rows : slice
        The rows of `weight_hh` and `bias_hh` to use.

    Notes
    -----
    The mask is the same at all steps: Gal and Ghahramani, "A theoretically grounded application of
    dropout in recurrent neural networks", 2016. The bias is outside the layer norm.

    Examples
    --------
    >>> import numpy as np
    >>> from reference import Variable
    >>> from reference.cells import CellParameters, RecurrentProduct
    >>> weight, bias, mask = np.full((3, 2), 2.0), np.ones(3), np.array([[0.0, 1.0]])
    >>> parameters = CellParameters(Variable.of(weight), Variable.of(bias), Variable.of(mask))
    >>> RecurrentProduct(parameters).forward(np.array([[100.0, 5.0]])).tolist()
    [[11.0, 11.0, 11.0]]
    """

    def __init__(self, parameters: CellParameters, rows: slice = slice(None)) -> None:
        self.weight, self.bias = parameters.weight_hh[rows], parameters.bias_hh[rows]
        self.mask = parameters.recurrent_mask
        self.norm: LayerNorm | None = None
        if parameters.norm_hh is not None:
            self.norm = LayerNorm(scale=parameters.norm_hh[rows], shift=self.bias)

    def forward(self, h: Array) -> Array:
        """Return the product (N, rows) of h (N, R)."""
        require_shape("h", h, self.mask.value.shape)
        self.h, self.masked = h, self.mask.value * h
        product: Array = self.masked @ self.weight.value.T
        return product + self.bias.value if self.norm is None else self.norm.forward(product)

    def backward(self, d_product: Array) -> Array:
        """Return dh (N, R) from d_product (N, rows)."""
        if self.norm is None:
            self.bias.grad += d_product.sum(axis=0)
        else:
            d_product = self.norm.backward(d_product)
        self.weight.grad += d_product.T @ self.masked
        d_masked = d_product @ self.weight.value
        self.mask.grad += d_masked * self.h
        dh: Array = d_masked * self.mask.value
        return dh


class Cell:
    """What all cells have in common; see the module's text for shapes."""

    gates: int
    has_cell_state = False
    peepholes = 0  # rows of weight_cell
    reset_before = False  # a gate is applied to h before the product with W_hh

    def __init__(self, parameters: CellParameters) -> None:
        self.parameters = parameters
        self.hidden = len(parameters.bias_hh.value) // self.gates

    def forward(self, x: Array, h_prev: Array, c_prev: Array) -> tuple[Array, Array]:
        """Return h (N, H) and c (N, H or 0)."""
        raise NotImplementedError

    def backward(self, dh: Array, dc: Array) -> tuple[Array, Array, Array]:
        """Return dx (N, G*H), dh_prev (N, R) and dc_prev (N, H or 0).

        dc does not contain the part that flows from h into c, which is added here.
        """
        raise NotImplementedError


class TanhCell(Cell):
    """The simple recurrent network: h = tanh(x + W_hh h_prev + b_hh) (Elman, 1990)."""

    gates = 1

    def forward(self, x: Array, h_prev: Array, c_prev: Array) -> tuple[Array, Array]:
        self.product = RecurrentProduct(self.parameters)
        self.h = np.tanh(x + self.product.forward(h_prev))
        return self.h, c_prev

    def backward(self, dh: Array, dc: Array) -> tuple[Array, Array, Array]:
        da = dh * _d_tanh(self.h)
        return da, self.product.backward(da), dc


class ReluCell(Cell):
    """The simple recurrent network with h = max(x + W_hh h_prev + b_hh, 0).

    The slope is 0 at 0 and 1 at NaN, as in torch.
    """

    gates = 1

    def forward(self, x: Array, h_prev: Array, c_prev: Array) -> tuple[Array, Array]:
        self.product = RecurrentProduct(self.parameters)
        self.h = np.maximum(x + self.product.forward(h_prev), 0.0)
        return self.h, c_prev

    def backward(self, dh: Array, dc: Array) -> tuple[Array, Array, Array]:
        da = np.where(self.h <= 0.0, 0.0, dh)
        return da, self.product.backward(da), dc


class LSTMCell(Cell):
    """The long short-term memory, gates i, f, g, o, with or without peepholes and a layer norm.

    With a = x + W_hh h_prev + b_hh::

        i = sigmoid(a_i + p_i * c_prev)
        f = sigmoid(a_f + p_f * c_prev)
        g = tanh(a_g)
        c = f * c_prev + i * g
        o = sigmoid(a_o + p_o * c)
        h = o * tanh(norm(c))

    The peephole weights p_i, p_f, p_o are the rows of `weight_cell`, zeros where there is none. The
    norm is a layer norm over the H units, the identity where there is no `norm_c`; c itself is
    carried to the next step as it is.

    Notes
    -----
    Hochreiter and Schmidhuber, "Long short-term memory", 1997; layer norm: Ba, Kiros and Hinton,
    "Layer normalization", 2016, equations 20 to 22.
    """

    gates = 4
    has_cell_state = True

    def forward(self, x: Array, h_prev: Array, c_prev: Array) -> tuple[Array, Array]:
        p = self.parameters
        self.weight_cell = p.weight_cell or Variable.of(np.zeros((3, self.hidden)))
        self.norm: LayerNorm | None = None
        if p.norm_c is not None:
            shift = p.norm_c_bias or Variable.of(np.zeros(self.hidden))
            self.norm = LayerNorm(scale=p.norm_c, shift=shift)
        self.product = RecurrentProduct(p)

        p_i, p_f, p_o = self.weight_cell.value
        a_i, a_f, a_g, a_o = np.split(x + self.product.forward(h_prev), 4, axis=1)
        i, f, g = _sigmoid(a_i + p_i * c_prev), _sigmoid(a_f + p_f * c_prev), np.tanh(a_g)
        c = f * c_prev + i * g
        o = _sigmoid(a_o + p_o * c)
        shown = np.tanh(c if self.norm is None else self.norm.forward(c))

        self.c_prev, self.c, self.gate_values, self.shown = c_prev, c, (i, f, g, o), shown
        return o * shown, c

    def backward(self, dh: Array, dc: Array) -> tuple[Array, Array, Array]:
        i, f, g, o = self.gate_values
        p_i, p_f, p_o = self.weight_cell.value

        # h = o * shown, and c matters to it twice: shown, and through the peephole to o.
        da_o = dh * self.shown * _d_sigmoid(o)
        d_normal = dh * o * _d_tanh(self.shown)
        d_shown_c = d_normal if self.norm is None else self.norm.backward(d_normal)
        dc = dc + d_shown_c + da_o * p_o

        # c = f * c_prev + i * g, and c_prev also reaches i and f through the peepholes.
        da_i = dc * g * _d_sigmoid(i)
        da_f = dc * self.c_prev * _d_sigmoid(f)
        da_g = dc * i * _d_tanh(g)
        dc_prev = dc * f + da_i * p_i + da_f * p_f

        seen = [da_i * self.c_prev, da_f * self.c_prev, da_o * self.c]
        self.weight_cell.grad += np.stack([each.sum(axis=0) for each in seen])
        da = np.hstack([da_i, da_f, da_g, da_o])
        return da, self.product.backward(da), dc_prev


class PeepholeLSTMCell(LSTMCell):
    """The long short-term memory whose gates see the cell state (weight_cell (3, H)).

    Notes
    -----
    Gers and Schmidhuber, "Recurrent nets that time and count", 2000.
    """

    peepholes = 3


class GRUCell(Cell):
    """The gated recurrent unit with the reset after the product, gates r, z, n, as in torch.

    With p = W_hh h_prev + b_hh::

        r = sigmoid(x_r + p_r)
        z = sigmoid(x_z + p_z)
        n = tanh(x_n + r * p_n)
        h = (1 - z) * n + z * h_prev
    """

    gates = 3

    def forward(self, x: Array, h_prev: Array, c_prev: Array) -> tuple[Array, Array]:
        self.product = RecurrentProduct(self.parameters)
        x_r, x_z, x_n = np.split(x, 3, axis=1)
        p_r, p_z, p_n = np.split(self.product.forward(h_prev), 3, axis=1)
        r, z = _sigmoid(x_r + p_r), _sigmoid(x_z + p_z)
        n = np.tanh(x_n + r * p_n)

        self.h_prev, self.p_n, self.gate_values = h_prev, p_n, (r, z, n)
        return (1.0 - z) * n + z * h_prev, c_prev

    def backward(self, dh: Array, dc: Array) -> tuple[Array, Array, Array]:
        r, z, n = self.gate_values
        da_n = dh * (1.0 - z) * _d_tanh(n)
        da_z = dh * (self.h_prev - n) * _d_sigmoid(z)
        da_r = da_n * self.p_n * _d_sigmoid(r)
        dx = np.hstack([da_r, da_z, da_n])
        dh_prev = dh * z + self.product.backward(np.hstack([da_r, da_z, da_n * r]))
        return dx, dh_prev, dc


class GRUResetBeforeCell(Cell):
    """The gated recurrent unit with the reset before the product, gates r, z, n.

    With p = W_hh h_prev + b_hh for the gates r and z::

        r = sigmoid(x_r + p_r)
        z = sigmoid(x_z + p_z)
        n = tanh(x_n + W_hn (r * h_prev) + b_hn)
        h = (1 - z) * n + z * h_prev

    Notes
    -----
    Cho et al., "Learning phrase representations using RNN encoder-decoder for statistical machine
    translation", 2014 (which writes z for 1 - z).
    """

    gates = 3
    reset_before = True

    def forward(self, x: Array, h_prev: Array, c_prev: Array) -> tuple[Array, Array]:
        self.gate_product = RecurrentProduct(self.parameters, slice(0, 2 * self.hidden))
        self.product = RecurrentProduct(self.parameters, slice(2 * self.hidden, None))
        x_r, x_z, x_n = np.split(x, 3, axis=1)
        p_r, p_z = np.split(self.gate_product.forward(h_prev), 2, axis=1)
        r, z = _sigmoid(x_r + p_r), _sigmoid(x_z + p_z)
        n = np.tanh(x_n + self.product.forward(r * h_prev))

        self.h_prev, self.gate_values = h_prev, (r, z, n)
        return (1.0 - z) * n + z * h_prev, c_prev

    def backward(self, dh: Array, dc: Array) -> tuple[Array, Array, Array]:
        r, z, n = self.gate_values
        da_n = dh * (1.0 - z) * _d_tanh(n)
        da_z = dh * (self.h_prev - n) * _d_sigmoid(z)
        d_reset = self.product.backward(da_n)  # of r * h_prev
        da_r = d_reset * self.h_prev * _d_sigmoid(r)
        dh_prev = dh * z + d_reset * r + self.gate_product.backward(np.hstack([da_r, da_z]))
        return np.hstack([da_r, da_z, da_n]), dh_prev, dc


class MGUCell(Cell):
    """The minimal gated unit, gates f, n: one gate both resets and updates.

    ::

        f = sigmoid(x_f + W_hf h_prev + b_hf)
        n = tanh(x_n + W_hn (f * h_prev) + b_hn)
        h = (1 - f) * h_prev + f * n

    Notes
    -----
    Zhou, Wu, Zhang and Zhou, "Minimal gated unit for recurrent neural networks", 2016.
    """

    gates = 2
    reset_before = True

    def forward(self, x: Array, h_prev: Array, c_prev: Array) -> tuple[Array, Array]:
        self.gate_product = RecurrentProduct(self.parameters, slice(0, self.hidden))
        self.product = RecurrentProduct(self.parameters, slice(self.hidden, None))
        x_f, x_n = np.split(x, 2, axis=1)
        f = _sigmoid(x_f + self.gate_product.forward(h_prev))
        n = np.tanh(x_n + self.product.forward(f * h_prev))

        self.h_prev, self.gate_values = h_prev, (f, n)
        return (1.0 - f) * h_prev + f * n, c_prev

    def backward(self, dh: Array, dc: Array) -> tuple[Array, Array, Array]:
        f, n = self.gate_values
        da_n = dh * f * _d_tanh(n)
        d_reset = self.product.backward(da_n)  # of f * h_prev
        # f matters in three places: to the old state, to the new content, and within it.
        da_f = (dh * (n - self.h_prev) + d_reset * self.h_prev) * _d_sigmoid(f)
        dh_prev = dh * (1.0 - f) + d_reset * f + self.gate_product.backward(da_f)
        return np.hstack([da_f, da_n]), dh_prev, dc


CELLS: dict[str, type[Cell]] = {
    "rnn_tanh": TanhCell,
    "rnn_relu": ReluCell,
    "lstm": LSTMCell,
    "lstm_peephole": PeepholeLSTMCell,
    "gru": GRUCell,
    "gru_reset_before": GRUResetBeforeCell,
    "mgu": MGUCell,
}
