"""What RNN, LSTM and GRU share: torch.nn's interface, one native call a layer and direction."""

import weakref
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from seqkern.functional.recurrent import recurrent
from seqkern.nn.layout import TimeMajor, layout_of
from seqkern.nn.options import PLAIN, Options, dropout_mask, project, taken_steps, zoneout_mask

State = Any
"""h of shape (layers * directions, N, R), or the pair (h, c) of an LSTM."""

States = Sequence[Tensor | None]
"""(N, R or H) of each layer and direction; None stands for zeros."""


def state_tuple(hx: State, has_cells: bool) -> tuple[Tensor, ...]:
    """Return (h,) or (h, c); raise ValueError if that is not what is given."""
    if not has_cells:
        if not isinstance(hx, Tensor):
            raise ValueError(f"hx is of type {type(hx).__name__}, expected the tensor h_0")
        return (hx,)
    if isinstance(hx, Tensor) or len(hx) != 2:
        given = "a tensor" if isinstance(hx, Tensor) else f"{len(hx)} tensors"
        raise ValueError(f"hx is {given}, expected the two tensors (h_0, c_0)")
    return tuple(hx)


def parameter_values(module: nn.Module, names: Iterable[str]) -> list[Any]:
    """Return a module's parameters, quicker than as attributes; None where there is none."""
    parameters = module._parameters
    # Parametrised ones are attributes only.
    return [parameters[name] if name in parameters else getattr(module, name) for name in names]


class RecurrentOutput(NamedTuple):
    """What a layer returns if the steps of its inner states are asked for.

    Parameters
    ----------
    output, state
        What it returns without.
    cells
        The cell states of all steps, a tensor (T, N, directions * H) for each layer, float32 from
        half-precision layers; or None. In the layout of the output.
    layers
        The outputs of each layer, before dropout; or None. The last one is ``output``.
    """

    output: Tensor | PackedSequence
    state: State
    cells: tuple[Tensor | PackedSequence, ...] | None
    layers: tuple[Tensor | PackedSequence, ...] | None


class Recurrent(nn.RNNBase):
    """Base of RNN, LSTM and GRU, not derived from torch.nn's: torch.compile would stop at those.

    A layer of torch.nn becomes one by a change of its class (:func:`seqkern.nn.convert`); so what
    torch.nn's does not have is an attribute of the class, and of an instance only where it is not
    the default.
    """

    gates: ClassVar[int]
    has_cells: ClassVar[bool] = False
    options: Options = PLAIN

    @property
    def cell(self) -> str:
        """Name of the cell in :func:`seqkern.functional.recurrent`."""
        raise NotImplementedError

    def forward(
        self,
        input: Tensor | PackedSequence,
        hx: State | None = None,
        *,
        lengths: Tensor | None = None,
        resets: Tensor | None = None,
        reset_to_initial: bool = False,
        return_cells: bool = False,
        return_layers: bool = False,
    ) -> tuple[Tensor | PackedSequence, State] | RecurrentOutput:
        """Run the layers over a batch of sequences.

        Parameters
        ----------
        input
            (T, N, D), (N, T, D) with ``batch_first``, (T, D) for one sequence without a batch, or
            a PackedSequence. T and N may be 0. Or integers (T, N), (N, T) or (T,): token ids, which
            stand for their one-hot encoding; ``input_size`` is then the size of the vocabulary.
        hx
            The initial state: h_0 (layers * directions, N, R), or (layers * directions, R) with
            unbatched input; for an LSTM the pair (h_0, c_0), where c_0 has H for R. Zeros if None.
        lengths
            (N,) int64, in [0, T], in any order: the steps of each sequence; () with unbatched
            input. Outputs past the end are zero, the final state is that after the last step, and
            input past the end is not read. Not with a PackedSequence, which has its own.
        resets
            (T, N) bool, (N, T) with ``batch_first``, (T,) unbatched: steps at which a new sequence
            begins. Before such a step the state is set to zeros, and gradients do not cross; the
            backward direction is cut at the same place, after such a step.
        reset_to_initial
            Resets set the initial state in place of zeros.
        return_cells
            Return the LSTM's cell states of all steps.
        return_layers
            Return the outputs of all layers.

        Returns
        -------
        output
            (T, N, directions * R), (N, T, directions * R), (T, directions * R), or a
            PackedSequence: h of the last layer after each step.
        hx
            The final state, of the shapes of the initial one.
        RecurrentOutput
            In place of the two, if ``return_cells`` or ``return_layers``.

        Raises
        ------
        TypeError
            If dtypes are unsupported or differ.
        ValueError
            If shapes or devices do not fit together, or arguments exclude each other.
        """
        layout = layout_of(input, self.input_size, self.batch_first)
        if isinstance(input, PackedSequence):
            if lengths is not None or resets is not None:
                raise ValueError("lengths and resets are for padded input, got a PackedSequence")
            input, lengths = input.data, layout.lengths
        elif lengths is not None:
            lengths = layout.take_lengths(lengths)
        if return_cells and not self.has_cells:
            raise ValueError(f"return_cells: {type(self).__name__} has no cell states")
        input = layout.take(input)
        if resets is not None:
            resets = layout.take(resets)

        h_0, c_0 = self._initial_states(hx, input.shape[1], layout)
        layers, cells, h_n, c_n = self._run(
            input, h_0, c_0, lengths, resets, reset_to_initial, return_cells
        )
        state: State = layout.give_state(_joined(h_n))
        if self.has_cells:
            state = state, layout.give_state(_joined(c_n))
        output = layout.give(layers[-1])
        if not (return_cells or return_layers):
            return output, state
        return RecurrentOutput(
            output,
            state,
            tuple(map(layout.give, cells)) if return_cells else None,
            (*map(layout.give, layers[:-1]), output) if return_layers else None,
        )

    def flatten_parameters(self) -> None:
        """Do nothing: kernels take the parameters as they are. For code written for torch."""

    def reset_parameters(self) -> None:
        """Draw parameters as torch.nn does, a head as a layer of its size; norms are identities."""
        bound = (self.hidden_size // self.options.heads) ** -0.5
        for name, parameter in self.named_parameters():
            if name.startswith("norm_c_bias"):
                nn.init.zeros_(parameter)
            elif name.startswith("norm_"):
                nn.init.ones_(parameter)
            else:
                nn.init.uniform_(parameter, -bound, bound)

    def extra_repr(self) -> str:
        """Return the arguments that are not default."""
        shown = super().extra_repr()
        return shown if self.options is PLAIN else f"{shown}, {self.options}"

    def _init_flat_weights(self) -> None:
        # torch.nn's would list what parametrizations compute, which cannot be deep-copied.
        self._flat_weights = [self._parameters.get(name) for name in self._flat_weights_names]
        self._flat_weight_refs = [None if w is None else weakref.ref(w) for w in self._flat_weights]

    # --- construction ----------------------------------------------------------------------------

    def _extend(self, options: Options) -> None:
        """Give a layer that torch.nn's constructor has made what it has beyond."""
        if options != PLAIN:
            self.options = options
        heads, rows = options.heads, self.gates * self.hidden_size
        if self.hidden_size % heads:
            raise ValueError(
                f"heads is {heads}, expected a divisor of hidden_size = {self.hidden_size}"
            )
        if heads > 1 and self.proj_size:
            raise ValueError(f"heads is {heads}, expected 1 with proj_size = {self.proj_size}")
        if options.zoneout_h and self.proj_size:
            raise ValueError(
                f"zoneout_h is {options.zoneout_h}, expected 0 with proj_size = {self.proj_size}"
            )
        if options.zoneout_c and not self.has_cells:
            raise ValueError(
                f"zoneout_c is {options.zoneout_c}, expected 0: there is no cell state"
            )

        shapes = self._extra_shapes()
        if heads > 1:
            shapes["weight_hh"] = (heads, rows // heads, self.hidden_size // heads)
        if not shapes:
            return
        like = next(self.parameters())
        for index, names in enumerate(self._all_weights):
            layer, direction = divmod(index, 2 if self.bidirectional else 1)
            for name, shape in shapes.items():
                full = f"{name}_l{layer}{'_reverse' if direction else ''}"
                setattr(self, full, nn.Parameter(like.new_empty(shape)))
                if full not in names:
                    names.append(full)
        self._flat_weights_names = [name for names in self._all_weights for name in names]
        self._init_flat_weights()
        self.reset_parameters()

    def _extra_shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the parameters of each layer and direction that torch.nn does not have."""
        if not self.options.layer_norm:
            return {}
        rows = (self.gates * self.hidden_size,)
        shapes: dict[str, tuple[int, ...]] = {"norm_ih": rows, "norm_hh": rows}
        if self.has_cells:
            shapes["norm_c"] = (self.hidden_size,)
            if self.bias:
                shapes["norm_c_bias"] = (self.hidden_size,)
        return shapes

    # --- a call ----------------------------------------------------------------------------------

    def _initial_states(
        self, hx: State | None, batch: int, layout: TimeMajor
    ) -> tuple[States, States]:
        """Return h_0 and c_0 of each layer and direction."""
        zeros = (None,) * len(self._all_weights)
        if hx is None:
            return zeros, zeros
        state_size = self.proj_size or self.hidden_size
        if not self.has_cells:
            return self._split("h_0", state_tuple(hx, False)[0], state_size, batch, layout), zeros
        h_0, c_0 = state_tuple(hx, True)
        return (
            self._split("h_0", h_0, state_size, batch, layout),
            self._split("c_0", c_0, self.hidden_size, batch, layout),
        )

    def _split(
        self, name: str, state: Tensor, size: int, batch: int, layout: TimeMajor
    ) -> tuple[Tensor, ...]:
        """Return the states (N, size) of each layer and direction."""
        count = len(self._all_weights)
        expected = (count, batch, size) if layout.batched else (count, size)
        if state.shape != expected:
            raise ValueError(
                f"{name} has shape {tuple(state.shape)}, expected {expected} = "
                f"(layers * directions, {'batch, ' if layout.batched else ''}hidden_size)"
            )
        return layout.take_state(state).unbind(0)

    def _run(
        self,
        input: Tensor,
        h_0: States,
        c_0: States,
        lengths: Tensor | None,
        resets: Tensor | None,
        reset_to_initial: bool,
        return_cells: bool,
    ) -> tuple[list[Tensor], list[Tensor], list[Tensor], list[Tensor]]:
        """Return outputs and cells of each layer, h_n and c_n of each layer and direction."""
        layers: list[Tensor] = []
        cells: list[Any] = []
        h_n: list[Tensor] = []
        c_n: list[Any] = []
        directions = (False, True) if self.bidirectional else (False,)
        ends = None if resets is None else _ends(resets, lengths)
        for layer in range(self.num_layers):
            if layer and self.dropout and self.training:
                input = nn.functional.dropout(input, self.dropout)
            token_mask = None
            if self.options.variational_dropout and self.training:
                input, token_mask = self._drop_features(input)
            results = []
            for reverse in directions:
                index = layer * len(directions) + reverse
                arguments = self._parameters_of(index)
                taken = input
                if self.options is not PLAIN:
                    taken = self._apply_options(input, arguments, token_mask, lengths)
                results.append(
                    recurrent(
                        self.cell,
                        taken,
                        h_0[index],
                        c_0[index],
                        lengths=lengths,
                        resets=ends if reverse else resets,
                        reset_to_initial=reset_to_initial,
                        reverse=reverse,
                        return_cells=return_cells,
                        **arguments,
                    )
                )
            outputs, h, c, steps = zip(*results, strict=True)
            input = _beside(outputs)
            layers.append(input)
            h_n += h
            c_n += c
            if return_cells:
                cells.append(_beside(steps))
        return layers, cells, h_n, c_n

    def _parameters_of(self, index: int) -> dict[str, Any]:
        """Return the parameters of a layer and direction by their names in functional.recurrent."""
        names = self._all_weights[index]
        place = names[0].removeprefix("weight_ih")
        arguments = [name.removesuffix(place) for name in names]
        return dict(zip(arguments, parameter_values(self, names), strict=True))

    def _drop_features(self, input: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return a layer's input (T, N, D) less some features, or the factors (N, V) of tokens."""
        like = self._parameters_of(0)["weight_ih"]
        probability, batch = self.options.variational_dropout, input.shape[1]
        if input.is_floating_point():
            return input * dropout_mask(probability, input, batch, input.shape[2]), None
        return input, dropout_mask(probability, like, batch, self.input_size)

    def _apply_options(
        self,
        input: Tensor,
        arguments: dict[str, Any],
        token_mask: Tensor | None,
        lengths: Tensor | None,
    ) -> Tensor:
        """Change the arguments of functional.recurrent as the options ask for; return its input."""
        options, weight_hh = self.options, arguments["weight_hh"]
        steps, batch = input.shape[:2]
        norm_ih = arguments.pop("norm_ih", None)
        if options.heads > 1 or norm_ih is not None or token_mask is not None:
            weight_ih = arguments.pop("weight_ih")
            input = project(input, weight_ih, norm_ih, token_mask, options.heads, lengths)
        if options.weight_drop and self.training:
            arguments["weight_hh"] = nn.functional.dropout(weight_hh, options.weight_drop)
        if options.recurrent_dropout and self.training:
            size = self.proj_size or self.hidden_size
            arguments["recurrent_mask"] = dropout_mask(
                options.recurrent_dropout, weight_hh, batch, size
            )
        for name in ("zoneout_h", "zoneout_c"):
            arguments[name] = zoneout_mask(
                getattr(options, name), self.training, weight_hh, steps, batch, self.hidden_size
            )
        arguments["recompute"] = options.recompute
        return input


def _joined(states: list[Tensor]) -> Tensor:
    """Return the states (N, H) of layers and directions as one tensor."""
    return torch.stack(states) if len(states) > 1 else states[0].unsqueeze(0)


def _beside(directions: tuple[Tensor, ...]) -> Tensor:
    """Return sequences (T, N, H) side by side."""
    return torch.cat(directions, dim=-1) if len(directions) > 1 else directions[0]


def _ends(resets: Tensor, lengths: Tensor | None) -> Tensor:
    """Return the last steps of the sequences whose first steps are given, (T, N).

    The end of the whole is none: what begins there, backward in time, is the initial state.
    """
    ends = nn.functional.pad(resets, (0, 0, 0, 1))[1:]
    return ends if lengths is None else ends & taken_steps(lengths - 1, resets.shape[0])
