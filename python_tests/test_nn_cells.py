"""RNNCell, LSTMCell and GRUCell of seqkern.nn beside torch.nn's with the same parameters."""

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.utils import parametrizations

import seqkern.nn
from backend import not_on_host
from nn_layers import states

N, D, H = 3, 4, 17

KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "rnn_tanh": ("RNNCell", {}),
    "rnn_relu": ("RNNCell", {"nonlinearity": "relu"}),
    "lstm": ("LSTMCell", {}),
    "gru": ("GRUCell", {}),
}

each_kind = pytest.mark.parametrize("kind", KINDS)


def pair(kind: str, *sizes: int, **options: Any) -> tuple[Any, Any]:
    """Make a cell of seqkern and one of torch with the same parameters."""
    name, fixed = KINDS[kind]
    ours, theirs = (getattr(m, name)(*sizes, **fixed, **options) for m in (seqkern.nn, torch.nn))
    ours.load_state_dict(theirs.state_dict(), strict=True)
    return ours, theirs


def draw(kind: str, *batch: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Any]:
    """Draw an input and a state."""
    h, c = torch.randn(2, *batch, H, dtype=dtype)
    return torch.randn(*batch, D, dtype=dtype), (h, c) if kind == "lstm" else h


def results(cell: Any, x: Tensor, hx: Any) -> list[Tensor]:
    """Return states after three steps, and gradients of everything."""
    leaves = [t.detach().requires_grad_() for t in (x, *(() if hx is None else states(hx)))]
    state = None if hx is None else (leaves[1] if isinstance(hx, Tensor) else tuple(leaves[1:]))
    for factor in (1, 2, 3):
        state = cell(factor * leaves[0], state)
    outputs = states(state)
    loss = torch.stack([output.square().sum() for output in outputs]).sum()
    return [*outputs, *torch.autograd.grad(loss, [*leaves, *cell.parameters()])]


@pytest.mark.parametrize("with_state", [False, True], ids=["zeros", "state"])
@pytest.mark.parametrize("batch", [(N,), (1,), (0,), ()], ids=str)
@pytest.mark.parametrize("options", [{}, {"bias": False}, {"dtype": torch.float64}], ids=str)
@each_kind
def test_cell_equals_torch(
    kind: str, options: dict[str, Any], batch: tuple[int, ...], with_state: bool
) -> None:
    ours, theirs = pair(kind, D, H, **options)
    x, hx = draw(kind, *batch, dtype=options.get("dtype", torch.float32))
    hx = hx if with_state else None
    for actual, expected in zip(results(ours, x, hx), results(theirs, x, hx), strict=True):
        torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize("sizes", [(D, 0), (0, H)], ids=str)
@each_kind
def test_no_units_or_features_are_as_torchs(kind: str, sizes: tuple[int, int]) -> None:
    ours, theirs = pair(kind, *sizes)
    x = torch.randn(N, sizes[0])
    for actual, expected in zip(results(ours, x, None), results(theirs, x, None), strict=True):
        torch.testing.assert_close(actual, expected)


@each_kind
def test_parameters_are_torchs_in_name_order_and_initial_value(kind: str) -> None:
    name, fixed = KINDS[kind]
    found = []
    for module in (seqkern.nn, torch.nn):
        torch.manual_seed(1)
        found.append(dict(getattr(module, name)(D, H, **fixed).named_parameters()))
    assert list(found[0]) == list(found[1])
    assert all(torch.equal(found[0][key], found[1][key]) for key in found[0])


@each_kind
def test_repr_is_torchs(kind: str) -> None:
    ours, theirs = pair(kind, D, H, bias=False)
    assert repr(ours) == repr(theirs)


@each_kind
def test_copies_and_parametrized_cells_compute_the_same(kind: str) -> None:
    ours, theirs = pair(kind, D, H)
    x, hx = draw(kind, N)
    expected = states(theirs(x, hx))
    for copied in (copy.deepcopy(ours), pickle.loads(pickle.dumps(ours))):
        torch.testing.assert_close(states(copied(x, hx)), expected)
    parametrizations.weight_norm(ours, "weight_hh")
    torch.testing.assert_close(states(ours(x, hx)), expected)


@each_kind
def test_a_step_of_a_cell_is_a_step_of_the_layer(kind: str) -> None:
    cell, _ = pair(kind, D, H)
    name, fixed = KINDS[kind]
    layer = getattr(seqkern.nn, name.removesuffix("Cell"))(D, H, **fixed)
    layer.load_state_dict({f"{key}_l0": value for key, value in cell.state_dict().items()})
    x, hx = torch.randn(5, N, D), None
    for x_t in x:
        hx = cell(x_t, hx)
    _, final = layer(x)
    torch.testing.assert_close(states(hx), tuple(state[0] for state in states(final)))


@not_on_host
@each_kind
def test_compiled_cell_equals_eager_for_all_batches_with_one_graph(kind: str) -> None:
    cell, _ = pair(kind, D, H)
    torch.compiler.reset()
    compiled = torch.compile(cell, fullgraph=True, dynamic=True, backend="aot_eager")
    for index, batch in enumerate((3, 5, 2)):
        x, hx = draw(kind, batch)
        with torch.compiler.set_stance("fail_on_recompile" if index else "default"):
            actual = compiled(x, hx)
        torch.testing.assert_close(states(actual), states(cell(x, hx)))


X = torch.zeros(N, D)


@pytest.mark.parametrize(
    ("kind", "x", "hx", "message"),
    [
        ("gru", torch.zeros(1, N, D), None, r"^input has shape \(1, 3, 4\), expected \(batch, 4\)"),
        ("gru", torch.zeros(N, D + 1), None, r"^input has shape \(3, 5\)"),
        ("gru", X, torch.zeros(N + 1, H), r"^h_0 has shape \(4, 17\), expected \(3, 17\)"),
        ("rnn_relu", X, torch.zeros(H), r"^h_0 has shape \(17,\), expected \(3, 17\)"),
        ("rnn_tanh", X[0], torch.zeros(N, H), r"^h_0 has shape \(3, 17\), expected \(17,\)"),
        ("gru", X, (torch.zeros(N, H),), "^hx is of type tuple, expected the tensor h_0"),
        ("lstm", X, torch.zeros(N, H), "^hx is a tensor, expected the two"),
        ("lstm", X, (torch.zeros(N, H),), "^hx is 1 tensors, expected the two"),
        ("lstm", X, (torch.zeros(N, H), torch.zeros(N, 2)), r"^c_0 has shape \(3, 2\)"),
    ],
)
def test_bad_inputs_are_refused(kind: str, x: Tensor, hx: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pair(kind, D, H)[0](x, hx)


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="^nonlinearity is 'selu'"):
        seqkern.nn.RNNCell(D, H, nonlinearity="selu")
    with pytest.raises(TypeError, match="dtype"):
        seqkern.nn.GRUCell(D, H)(X.double())
    unchecked = seqkern.nn.convert(torch.nn.RNNCell(D, H, nonlinearity="selu"))
    with pytest.raises(ValueError, match="^cell is 'rnn_selu', expected one of 'rnn_tanh'"):
        unchecked(X)
    for module in (torch.nn, seqkern.nn):
        with pytest.raises(RuntimeError, match="negative dimension"):
            module.GRUCell(D, -1)
