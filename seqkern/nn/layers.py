"""RNN, LSTM and GRU: drop-in replacements of torch.nn's."""

from typing import Any

import torch

from seqkern.nn.options import Options
from seqkern.nn.recurrent import Recurrent

NONLINEARITIES = ("tanh", "relu")


def check_nonlinearity(nonlinearity: str) -> None:
    """Raise ValueError unless there is a cell for it."""
    if nonlinearity not in NONLINEARITIES:
        raise ValueError(f"nonlinearity is {nonlinearity!r}, expected one of {NONLINEARITIES}")


class RNN(Recurrent):
    """Multi-layer RNN of Elman: a drop-in replacement of torch.nn.RNN.

    Parameters, their names and initial values, the state_dict and the outputs are torch.nn.RNN's.

    Parameters
    ----------
    input_size, hidden_size
        D and H, numbers of features.
    num_layers
        Layers on top of each other; each but the first takes the output of the one below.
    nonlinearity
        "tanh" or "relu".
    bias
        Whether there are biases b_ih and b_hh.
    batch_first
        Whether input and output are (N, T, ...) instead of (T, N, ...).
    dropout
        Probability of dropping an output of each layer but the last, in training.
    bidirectional
        Whether a second pass runs from the last step to the first; its outputs are appended.
    device, dtype
        Of the parameters: float32, float64 or bfloat16; on CUDA float16 too.
    options
        What torch.nn.RNN does not have: the arguments of :class:`seqkern.nn.Options`.

    Raises
    ------
    TypeError, ValueError
        If an argument is not of its type, or out of range.

    Notes
    -----
    h' = f(W_ih x + b_ih + W_hh h + b_hh), where f is tanh or relu: Elman 1990;
    :func:`seqkern.functional.recurrent`.

    Examples
    --------
    >>> import torch, seqkern
    >>> layer = seqkern.nn.RNN(3, 5, nonlinearity="relu")
    >>> output, h_n = layer(torch.randn(7, 2, 3), lengths=torch.tensor([7, 4]))
    >>> output.shape, h_n.shape, bool(output[4:, 1].any())
    (torch.Size([7, 2, 5]), torch.Size([1, 2, 5]), False)
    """

    gates = 1
    nonlinearity: str

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: Any = None,
        dtype: torch.dtype | None = None,
        **options: Any,
    ) -> None:
        check_nonlinearity(nonlinearity)
        mode = f"RNN_{nonlinearity.upper()}"
        settings = num_layers, bias, batch_first, dropout, bidirectional
        super().__init__(mode, input_size, hidden_size, *settings, device=device, dtype=dtype)
        self.nonlinearity = nonlinearity
        self._extend(Options(**options))

    @property
    def cell(self) -> str:
        """Name of the cell in :func:`seqkern.functional.recurrent`."""
        return self.mode.lower()


class LSTM(Recurrent):
    """Multi-layer LSTM: a drop-in replacement of torch.nn.LSTM.

    Parameters, their names and initial values, the state_dict and the outputs are torch.nn.LSTM's.

    Parameters
    ----------
    input_size, hidden_size
        D and H, numbers of features.
    num_layers
        Layers on top of each other; each but the first takes the output of the one below.
    bias
        Whether there are biases b_ih and b_hh.
    batch_first
        Whether input and output are (N, T, ...) instead of (T, N, ...).
    dropout
        Probability of dropping an output of each layer but the last, in training.
    bidirectional
        Whether a second pass runs from the last step to the first; its outputs are appended.
    proj_size
        R: size of h, a projection of the H units; 0 for none.
    device, dtype
        Of the parameters: float32, float64 or bfloat16; on CUDA float16 too.
    peephole
        Whether gates see the cell state, through ``weight_cell_l0`` (3, H) and so on: the weights
        of gates i, f and o.
    options
        What torch.nn.LSTM does not have: the arguments of :class:`seqkern.nn.Options`.

    Raises
    ------
    TypeError, ValueError
        If an argument is not of its type, or out of range.

    Notes
    -----
    Hochreiter and Schmidhuber 1997, forget gate of Gers et al. 2000, peepholes of Gers and
    Schmidhuber 2000, projection of Sak et al. 2014. Equations:
    :func:`seqkern.functional.recurrent`.

    Examples
    --------
    >>> import torch, seqkern
    >>> layer = seqkern.nn.LSTM(3, 5, num_layers=2)
    >>> output, (h_n, c_n) = layer(torch.randn(7, 2, 3))
    >>> output.shape, h_n.shape
    (torch.Size([7, 2, 5]), torch.Size([2, 2, 5]))

    Token ids for one-hot vectors, and the cell states of all steps:

    >>> layer = seqkern.nn.LSTM(100, 5, peephole=True, layer_norm=True)
    >>> result = layer(torch.randint(100, (7, 2)), return_cells=True)
    >>> result.cells[0].shape
    torch.Size([7, 2, 5])
    """

    gates = 4
    has_cells = True
    peephole: bool = False

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: Any = None,
        dtype: torch.dtype | None = None,
        *,
        peephole: bool = False,
        **options: Any,
    ) -> None:
        settings = num_layers, bias, batch_first, dropout, bidirectional, proj_size
        super().__init__("LSTM", input_size, hidden_size, *settings, device=device, dtype=dtype)
        if peephole:
            self.peephole = True
        self._extend(Options(**options))

    @property
    def cell(self) -> str:
        """Name of the cell in :func:`seqkern.functional.recurrent`."""
        return "lstm_peephole" if self.peephole else "lstm"

    def extra_repr(self) -> str:
        """Return the arguments that are not default."""
        return super().extra_repr() + (", peephole=True" if self.peephole else "")

    def _extra_shapes(self) -> dict[str, tuple[int, ...]]:
        peepholes = {"weight_cell": (3, self.hidden_size)} if self.peephole else {}
        return {**super()._extra_shapes(), **peepholes}


class GRU(Recurrent):
    """Multi-layer GRU: a drop-in replacement of torch.nn.GRU.

    Parameters, their names and initial values, the state_dict and the outputs are torch.nn.GRU's.

    Parameters
    ----------
    input_size, hidden_size
        D and H, numbers of features.
    num_layers
        Layers on top of each other; each but the first takes the output of the one below.
    bias
        Whether there are biases b_ih and b_hh.
    batch_first
        Whether input and output are (N, T, ...) instead of (T, N, ...).
    dropout
        Probability of dropping an output of each layer but the last, in training.
    bidirectional
        Whether a second pass runs from the last step to the first; its outputs are appended.
    device, dtype
        Of the parameters: float32, float64 or bfloat16; on CUDA float16 too.
    reset_after
        Whether the reset gate multiplies W_hn h + b_hn, as in torch.nn and cuDNN, or (False) h
        before the product, as in the original.
    options
        What torch.nn.GRU does not have: the arguments of :class:`seqkern.nn.Options`.

    Raises
    ------
    TypeError, ValueError
        If an argument is not of its type, or out of range.

    Notes
    -----
    Cho et al. 2014. Equations: :func:`seqkern.functional.recurrent`.

    Examples
    --------
    >>> import torch, seqkern
    >>> layer = seqkern.nn.GRU(3, 5, bidirectional=True, batch_first=True, reset_after=False)
    >>> output, h_n = layer(torch.randn(2, 7, 3))
    >>> output.shape, h_n.shape
    (torch.Size([2, 7, 10]), torch.Size([2, 2, 5]))
    """

    gates = 3
    reset_after: bool = True

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: Any = None,
        dtype: torch.dtype | None = None,
        *,
        reset_after: bool = True,
        **options: Any,
    ) -> None:
        settings = num_layers, bias, batch_first, dropout, bidirectional
        super().__init__("GRU", input_size, hidden_size, *settings, device=device, dtype=dtype)
        if not reset_after:
            self.reset_after = False
        self._extend(Options(**options))
        if self.options.layer_norm and not reset_after:
            raise ValueError("layer_norm is True, expected False with reset_after=False")

    @property
    def cell(self) -> str:
        """Name of the cell in :func:`seqkern.functional.recurrent`."""
        return "gru" if self.reset_after else "gru_reset_before"

    def extra_repr(self) -> str:
        """Return the arguments that are not default."""
        return super().extra_repr() + ("" if self.reset_after else ", reset_after=False")
