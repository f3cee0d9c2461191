"""The steps of one head of a recurrent layer, forward and backward.

One step of a sequence, in this order:

1. The state that enters is the one that the step before left. At the sequence's first step it is
   (h_0, c_0). Where `resets` is true it is zeros, or (h_0, c_0) with `reset_to_initial`: a reset
   wins over the first step.
2. The cell (see `cells`) makes a new state of it; `weight_hr` projects the new h.
3. Zoneout mixes the entering state in, `state = new + factor * (entering - new)`. The new h is made
   of the cell state before zoneout.
4. A step at or past the sequence's length is not taken: the state stays, and what is stored for the
   step is zero.

A recurrence in reverse goes from the last step to step 0: sequences then start at their last step
before the length.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from ._arrays import Array
from .cells import Cell, CellParameters
from .variable import Variable

BoolArray = NDArray[np.bool_]


class Step:
    """One step: the cell, the projection of h, and zoneout.

    Parameters
    ----------
    cell : Cell
    weights : mapping to Variable
        "zoneout_h" (T, N, R), "zoneout_c" (T, N, H or 0) and perhaps "weight_hr" (R, H).
    t : int
        The step's index into the zoneout factors.

    Notes
    -----
    Projection: Sak, Senior and Beaufays, "Long short-term memory recurrent neural network
    architectures for large scale acoustic modeling", 2014. Zoneout: Krueger et al., "Zoneout:
    regularizing RNNs by randomly preserving hidden activations", 2016.
    """

    def __init__(self, cell: Cell, weights: Mapping[str, Variable], t: int) -> None:
        self.cell, self.weight_hr = cell, weights.get("weight_hr")
        self.zoneout_h, self.zoneout_c = weights["zoneout_h"][t], weights["zoneout_c"][t]

    def forward(self, x: Array, h: Array, c: Array) -> tuple[Array, Array]:
        self.h, self.c = h, c
        self.h_cell, self.c_new = self.cell.forward(x, h, c)
        self.h_new = self.h_cell
        if self.weight_hr is not None:
            self.h_new = self.h_cell @ self.weight_hr.value.T
        return (
            self.h_new + self.zoneout_h.value * (h - self.h_new),
            self.c_new + self.zoneout_c.value * (c - self.c_new),
        )

    def backward(self, dh: Array, dc: Array) -> tuple[Array, Array, Array]:
        self.zoneout_h.grad += dh * (self.h - self.h_new)
        self.zoneout_c.grad += dc * (self.c - self.c_new)
        dh_new, dc_new = dh * (1.0 - self.zoneout_h.value), dc * (1.0 - self.zoneout_c.value)
        if self.weight_hr is not None:
            self.weight_hr.grad += dh_new.T @ self.h_cell
            dh_new = dh_new @ self.weight_hr.value
        dx, dh_prev, dc_prev = self.cell.backward(dh_new, dc_new)
        return (
            dx,
            dh_prev + dh * self.zoneout_h.value,
            dc_prev + dc * self.zoneout_c.value,
        )


class Recurrence:
    """All steps of one head.

    Parameters
    ----------
    cell : class of the cell
    weights : mapping to Variable
        By the names of `RecurrentReference.forward`'s arguments: what `CellParameters` and `Step`
        need, and "h_0" (N, R), "c_0" (N, H or 0).
    taken, resets : bool array (T, N)
    reset_to_initial, reverse : bool

    Examples
    --------
    A sum over time, by the cell max(x + h, 0), with a reset before the last step:

    >>> import numpy as np
    >>> from reference import CELLS, Variable
    >>> from reference.recurrence import Recurrence
    >>> shapes = {"bias_hh": (1,), "h_0": (1, 1), "c_0": (1, 0)}
    >>> shapes |= {"zoneout_h": (4, 1, 1), "zoneout_c": (4, 1, 0)}
    >>> weights = {name: Variable.of(np.zeros(shape)) for name, shape in shapes.items()}
    >>> weights |= {name: Variable.of(np.eye(1)) for name in ("weight_hh", "recurrent_mask")}
    >>> resets = np.array([[False], [False], [False], [True]])
    >>> layer = Recurrence(CELLS["rnn_relu"], weights, ~np.zeros_like(resets), resets, False, False)
    >>> layer.forward(np.ones((4, 1, 1)))[0].ravel().tolist()
    [1.0, 2.0, 3.0, 1.0]
    """

    def __init__(
        self,
        cell: type[Cell],
        weights: Mapping[str, Variable],
        taken: BoolArray,
        resets: BoolArray,
        reset_to_initial: bool,
        reverse: bool,
    ) -> None:
        names = ("norm_hh", "weight_cell", "norm_c", "norm_c_bias")
        self.parameters = CellParameters(
            weights["weight_hh"],
            weights["bias_hh"],
            weights["recurrent_mask"],
            **{name: weights[name] for name in names if name in weights},
        )
        self.cell, self.weights = cell, weights
        self.taken, self.resets = taken[:, :, None], resets[:, :, None]
        self.reset_to_initial = reset_to_initial
        self.order = range(len(taken))[:: -1 if reverse else 1]

    def forward(self, x: Array) -> tuple[Array, Array, Array, Array]:
        """Return output (T, N, R), h_n, c_n and cells (T, N, H or 0) from x (T, N, G*H)."""
        h_0, c_0 = self.weights["h_0"].value, self.weights["c_0"].value
        reset_h, reset_c = h_0, c_0
        if not self.reset_to_initial:
            reset_h, reset_c = np.zeros_like(h_0), np.zeros_like(c_0)

        self.steps: dict[int, Step] = {}
        output, cells = np.zeros((len(x), *h_0.shape)), np.zeros((len(x), *c_0.shape))
        h, c = h_0, c_0
        for t in self.order:
            h_entering = np.where(self.resets[t], reset_h, h)
            c_entering = np.where(self.resets[t], reset_c, c)
            self.steps[t] = Step(self.cell(self.parameters), self.weights, t)
            h_new, c_new = self.steps[t].forward(x[t], h_entering, c_entering)
            h, c = np.where(self.taken[t], h_new, h), np.where(self.taken[t], c_new, c)
            output[t], cells[t] = np.where(self.taken[t], h, 0.0), np.where(self.taken[t], c, 0.0)
        return output, h, c, cells

    def backward(self, d_output: Array, dh: Array, dc: Array, d_cells: Array) -> Array:
        """Return dx (T, N, G*H); dh and dc are the gradients of the final state."""
        h_0, c_0 = self.weights["h_0"], self.weights["c_0"]
        T, N = self.taken.shape[:2]
        dx = np.zeros((T, N, len(self.parameters.bias_hh.value)))
        for t in reversed(self.order):
            taken, reset = self.taken[t], self.resets[t]
            # A step that is not taken gets no gradient, and passes that of the state on.
            dh_step = np.where(taken, dh + d_output[t], 0.0)
            dc_step = np.where(taken, dc + d_cells[t], 0.0)
            dx[t], dh_entering, dc_entering = self.steps[t].backward(dh_step, dc_step)
            if self.reset_to_initial:
                h_0.grad += np.where(reset, dh_entering, 0.0)
                c_0.grad += np.where(reset, dc_entering, 0.0)
            dh = np.where(taken, np.where(reset, 0.0, dh_entering), dh)
            dc = np.where(taken, np.where(reset, 0.0, dc_entering), dc)
        h_0.grad += dh
        c_0.grad += dc
        return dx
