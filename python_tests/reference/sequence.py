"""The recurrent layer over a sequence, with every cell and option: the definition of them all.

Arrays are in torch's conventions and time-major: T steps, N sequences, D features, H hidden units,
G gates (rows of a weight: G*H), R units of the hidden state (H unless projected), K heads (1 unless
`weight_hh` has three axes). Here are the arguments, the input's product and the heads; the steps
are in `recurrence`.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ._arguments import check_arguments, is_ids
from ._arrays import Array, IndexArray, require_float64, require_indices, require_shape
from .cells import CELLS
from .recurrence import BoolArray, Recurrence
from .variable import Variable

# In the order of the arguments.
DIFFERENTIABLE = (
    "input",
    "h_0",
    "c_0",
    "weight_ih",
    "weight_hh",
    "bias_ih",
    "bias_hh",
    "weight_cell",
    "weight_hr",
    "norm_hh",
    "norm_c",
    "norm_c_bias",
    "recurrent_mask",
    "zoneout_h",
    "zoneout_c",
)


class RecurrentResult(NamedTuple):
    """What a recurrent layer returns; the cell states only of cells that have one."""

    output: Array  # (T, N, K*R)
    h_n: Array  # (N, K*R)
    c_n: Array | None  # (N, K*H)
    cells: Array | None  # (T, N, K*H)


class RecurrentReference:
    """A recurrent layer of any cell with any of its options.

    Parameters
    ----------
    cell : str
        A key of `reference.CELLS`.

    Examples
    --------
    >>> import numpy as np
    >>> from reference import RecurrentReference
    >>> layer = RecurrentReference("gru")
    >>> x, weight_ih, weight_hh = np.ones((5, 2, 3)), np.ones((12, 3)), np.ones((12, 4))
    >>> result = layer.forward(x, weight_ih=weight_ih, weight_hh=weight_hh, reverse=True)
    >>> result.output.shape, result.h_n.shape, result.c_n
    ((5, 2, 4), (2, 4), None)
    >>> gradients = layer.backward(np.ones((5, 2, 4)))
    >>> gradients["d_weight_hh"].shape, gradients["d_bias_hh"]
    ((12, 4), None)
    """

    def __init__(self, cell: str) -> None:
        if cell not in CELLS:
            raise ValueError(f"cell: given {cell!r}, expected one of {', '.join(CELLS)}")
        self.name = cell

    def forward(
        self,
        input: Array | IndexArray,
        h_0: Array | None = None,
        c_0: Array | None = None,
        weight_ih: Array | None = None,
        weight_hh: Array | None = None,
        bias_ih: Array | None = None,
        bias_hh: Array | None = None,
        *,
        weight_cell: Array | None = None,
        weight_hr: Array | None = None,
        norm_hh: Array | None = None,
        norm_c: Array | None = None,
        norm_c_bias: Array | None = None,
        lengths: NDArray[np.int64] | None = None,
        resets: BoolArray | None = None,
        reset_to_initial: bool = False,
        recurrent_mask: Array | None = None,
        zoneout_h: Array | None = None,
        zoneout_c: Array | None = None,
        reverse: bool = False,
    ) -> RecurrentResult:
        """Run the layer over a sequence.

        Parameters
        ----------
        input : array (T, N, D), float64; or (T, N), integers
            Features, or token ids, which stand for their one-hot encoding of size D. Without
            `weight_ih`: (T, N, K*G*H), the input's product. Steps past a length are not looked at.
        h_0, c_0 : array (N, K*R) and (N, K*H); None means zeros
        weight_ih : array (G*H, D)
        weight_hh : array (G*H, R), or (K, G*H, H) for K heads side by side; required
        bias_ih, bias_hh : array (K*G*H,)
        weight_cell : array (3, K*H)
            Peephole weights to i, f and o.
        weight_hr : array (R, H)
        norm_hh : array (K*G*H,)
            Scale of the layer norm of a head's recurrent product.
        norm_c, norm_c_bias : array (K*H,)
            Scale and shift of the layer norm of a head's cell state on its way to h.
        lengths : int64 array (N,)
        resets : bool array (T, N)
        recurrent_mask : array (N, K*R)
        zoneout_h, zoneout_c : array (T, N, K*H)
        reset_to_initial, reverse : bool
            With `reverse` a sequence starts at its last step and ends at step 0.

        Raises
        ------
        TypeError, ValueError, IndexError
            If an array is not float64 (int64, bool), a shape or an index does not fit, or two
            arguments do not go together.
        """
        arguments: dict[str, NDArray[Any] | None] = {
            "input": input,
            "h_0": h_0,
            "c_0": c_0,
            "weight_ih": weight_ih,
            "weight_hh": weight_hh,
            "bias_ih": bias_ih,
            "bias_hh": bias_hh,
            "weight_cell": weight_cell,
            "weight_hr": weight_hr,
            "norm_hh": norm_hh,
            "norm_c": norm_c,
            "norm_c_bias": norm_c_bias,
            "lengths": lengths,
            "resets": resets,
            "recurrent_mask": recurrent_mask,
            "zoneout_h": zoneout_h,
            "zoneout_c": zoneout_c,
        }
        given = {name: array for name, array in arguments.items() if array is not None}
        self.sizes = s = check_arguments(self.name, given)
        taken = np.arange(s.T)[:, None] < given.pop("lengths", np.full(s.N, s.T))
        reset = given.pop("resets", np.zeros((s.T, s.N), dtype=np.bool_))

        self.ids = is_ids(input)
        if self.ids:
            given["input"] = _one_hot(np.where(taken, input, 0), size=given["weight_ih"].shape[1])
        for name in {"input", "zoneout_h", "zoneout_c"} & given.keys():
            given[name] = np.where(taken[:, :, None], given[name], 0.0)  # NaN * 0 would be NaN
        self.variables = {name: Variable.of(array) for name, array in given.items()}

        # What is absent has a value that changes nothing; its gradient goes nowhere.
        absent = {
            "h_0": np.zeros((s.N, s.state)),
            "c_0": np.zeros((s.N, s.cell_state)),
            "bias_ih": np.zeros(s.K * s.G * s.H),
            "bias_hh": np.zeros(s.K * s.G * s.H),
            "recurrent_mask": np.ones((s.N, s.state)),
            "zoneout_h": np.zeros((s.T, s.N, s.state)),
            "zoneout_c": np.zeros((s.T, s.N, s.cell_state)),
        }
        self.weights = {name: Variable.of(array) for name, array in absent.items()} | self.variables

        x = self.weights["input"].value
        if weight_ih is not None:
            x = x @ weight_ih.T
        x = x + self.weights["bias_ih"].value
        options = (taken, reset, reset_to_initial, reverse)
        self.heads = [
            Recurrence(CELLS[self.name], self._weights_of_head(k), *options) for k in range(s.K)
        ]
        parts = [head.forward(part) for head, part in zip(self.heads, self._split(x), strict=True)]
        joined = [np.concatenate(part, axis=-1) for part in zip(*parts, strict=True)]
        output, h_n, c_n, cells = joined
        if not CELLS[self.name].has_cell_state:
            return RecurrentResult(output, h_n, None, None)
        return RecurrentResult(output, h_n, c_n, cells)

    def _split(self, array: Array) -> list[Array]:
        return np.split(array, self.sizes.K, axis=-1)

    def _weights_of_head(self, k: int) -> dict[str, Variable]:
        """Return views of what head k uses: its part of the last axis, or of weight_hh's first."""
        not_of_heads = ("input", "weight_ih", "bias_ih", "weight_hh")
        weights = {
            name: variable.part(k, of=self.sizes.K)
            for name, variable in self.weights.items()
            if name not in not_of_heads
        }
        weight_hh = self.weights["weight_hh"]
        return weights | {"weight_hh": weight_hh[k] if weight_hh.value.ndim == 3 else weight_hh}

    def backward(
        self,
        d_output: Array | None = None,
        d_h_n: Array | None = None,
        d_c_n: Array | None = None,
        d_cells: Array | None = None,
    ) -> dict[str, Array | None]:
        """Return the gradients of the last `forward`'s arguments, by name with "d_" before it.

        Parameters
        ----------
        d_output, d_h_n, d_c_n, d_cells : arrays of the shapes of the results; None means zeros
            What d_output and d_cells hold past a length is not looked at.

        Returns
        -------
        dict
            For "d_input" to "d_norm_c_bias", and for the masks: "d_recurrent_mask", "d_zoneout_h",
            "d_zoneout_c". None for arguments that were not given, and for token ids.
        """
        s = self.sizes
        shapes: dict[str, tuple[Array | None, tuple[int, ...]]] = {
            "d_output": (d_output, (s.T, s.N, s.state)),
            "d_h_n": (d_h_n, (s.N, s.state)),
            "d_c_n": (d_c_n, (s.N, s.cell_state)),
            "d_cells": (d_cells, (s.T, s.N, s.cell_state)),
        }
        filled = [_filled(name, *given) for name, given in shapes.items()]
        for variable in self.weights.values():
            variable.grad[...] = 0.0

        parts = [self._split(array) for array in filled]
        dx = np.concatenate(
            [head.backward(*part) for head, *part in zip(self.heads, *parts, strict=True)], axis=-1
        )
        self.weights["bias_ih"].grad += dx.sum(axis=(0, 1))
        x, weight_ih = self.weights["input"], self.weights.get("weight_ih")
        if weight_ih is None:
            x.grad += dx
        else:
            x.grad += dx @ weight_ih.value
            weight_ih.grad += np.einsum("tng,tnd->gd", dx, x.value)

        absent: dict[str, Any] = {f"d_{name}": None for name in DIFFERENTIABLE}
        given = {f"d_{name}": variable.grad.copy() for name, variable in self.variables.items()}
        return absent | given | ({"d_input": None} if self.ids else {})


def _one_hot(ids: IndexArray, size: int) -> Array:
    require_indices("input", ids, size)
    return np.asarray(ids[:, :, None] == np.arange(size), dtype=np.float64)


def _filled(name: str, array: Array | None, shape: tuple[int, ...]) -> Array:
    if array is None:
        return np.zeros(shape)
    require_float64(name, array)
    require_shape(name, array, shape)
    return array
