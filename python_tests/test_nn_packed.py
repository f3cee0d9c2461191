"""Sequences of different lengths: PackedSequence as torch takes it, `lengths`, and `resets`."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from backend import on_cpu
from nn_layers import (
    KINDS,
    assert_close,
    assert_same,
    draw,
    draw_state,
    make,
    pair,
    results,
    states,
)

T, N, D, H = 6, 5, 4, 7
LENGTHS = torch.tensor([4, 6, 1, 3, 6])
F64 = torch.float64

each_kind = pytest.mark.parametrize("kind", KINDS)
each_depth = pytest.mark.parametrize(
    "options", [{}, {"num_layers": 2, "bidirectional": True}], ids=["one", "two both ways"]
)


def one_by_one(layer: Any, x: Tensor, hx: Any, lengths: Tensor, padding: Tensor) -> Any:
    """Run each sequence (T, N, D) by itself; return padded outputs and final states."""
    outputs, finals = [], []
    for n, length in enumerate(lengths.tolist()):
        given = [state[:, n : n + 1] for state in states(hx)]
        state = tuple(given) if len(given) == 2 else given[0]
        output, hn = layer(x[:length, n : n + 1], state) if length else (padding[:0, :1], state)
        outputs.append(torch.cat([output, padding[length:, :1]]))
        finals.append(states(hn))
    merged = tuple(torch.cat(parts, dim=1) for parts in zip(*finals, strict=True))
    return torch.cat(outputs, dim=1), merged if len(merged) == 2 else merged[0]


# --- PackedSequence ------------------------------------------------------------------------------


@pytest.mark.parametrize("with_state", [False, True], ids=["zeros", "state"])
@pytest.mark.parametrize("enforce_sorted", [True, False])
@each_depth
@each_kind
def test_packed_sequences_give_torchs_results_and_gradients(
    kind: str, options: dict[str, Any], enforce_sorted: bool, with_state: bool
) -> None:
    ours, theirs = pair(kind, D, H, **options)
    x, hx = draw(theirs, T, N)
    lengths = LENGTHS.sort(descending=True)[0] if enforce_sorted else LENGTHS
    packed = pack_padded_sequence(x, lengths, enforce_sorted=enforce_sorted)
    assert_same(ours, theirs, packed, hx if with_state else None)


@pytest.mark.parametrize("enforce_sorted", [True, False])
def test_packed_output_unpacks_as_torchs(enforce_sorted: bool) -> None:
    ours, theirs = pair("lstm", D, H, batch_first=True)
    lengths = LENGTHS.sort(descending=True)[0] if enforce_sorted else LENGTHS
    packed = pack_padded_sequence(
        torch.randn(N, T, D), lengths, batch_first=True, enforce_sorted=enforce_sorted
    )
    actual, expected = ours(packed)[0], theirs(packed)[0]
    assert isinstance(actual, PackedSequence)
    torch.testing.assert_close(actual, expected)
    padded = pad_packed_sequence(actual, batch_first=True)
    torch.testing.assert_close(padded, pad_packed_sequence(expected, batch_first=True))


def test_packed_inner_states_are_packed() -> None:
    layer = make("lstm", D, H, num_layers=2)
    packed = pack_padded_sequence(torch.randn(T, N, D), LENGTHS, enforce_sorted=False)
    result = layer(packed, return_cells=True, return_layers=True)
    padded, _ = pad_packed_sequence(packed)
    expected = layer(padded, lengths=LENGTHS, return_cells=True, return_layers=True)
    for name in ("cells", "layers"):
        for found, wanted in zip(getattr(result, name), getattr(expected, name), strict=True):
            torch.testing.assert_close(pad_packed_sequence(found)[0], wanted)


def test_packed_token_ids_are_packed_one_hot_vectors() -> None:
    layer, ids = make("gru", D, H, dtype=F64), torch.randint(D, (T, N))
    one_hot = torch.nn.functional.one_hot(ids, D).double()

    def run(x: Tensor) -> dict[str, Tensor]:
        found = results(layer, pack_padded_sequence(x, LENGTHS, enforce_sorted=False))
        return {name: t for name, t in found.items() if name != "d x"}

    assert_close(run(ids), run(one_hot))


def test_lengths_and_resets_of_a_packed_sequence_are_refused() -> None:
    layer = make("gru", D, H)
    packed = pack_padded_sequence(torch.randn(T, N, D), LENGTHS, enforce_sorted=False)
    for name, value in {"lengths": LENGTHS, "resets": torch.zeros(T, N, dtype=torch.bool)}.items():
        with pytest.raises(ValueError, match=r"^lengths and resets .* got a PackedSequence"):
            layer(packed, **{name: value})


# --- lengths -------------------------------------------------------------------------------------


@each_depth
@each_kind
def test_lengths_give_each_sequence_by_itself_and_no_look_at_padding(
    kind: str, options: dict[str, Any]
) -> None:
    layer = make(kind, D, H, dtype=F64, **options)
    lengths = torch.tensor([4, 0, 6, 1, 3])
    x, hx = draw(layer, T, N)
    beyond = torch.arange(T).unsqueeze(1) >= lengths
    x[beyond] = torch.nan
    padding = layer(torch.zeros(T, 1, D, dtype=F64))[0].detach() * 0

    def both(function: Any) -> list[Tensor]:
        given = [t.clone().requires_grad_() for t in (x, *states(hx))]
        output, hn = function(given[0], tuple(given[1:]) if len(given) == 3 else given[1])
        loss = output.square().sum() + sum(state.sin().sum() for state in states(hn))
        return [output, *states(hn), *torch.autograd.grad(loss, [*given, *layer.parameters()])]

    actual = both(lambda x, hx: layer(x, hx, lengths=lengths))
    expected = both(lambda x, hx: one_by_one(layer, x, hx, lengths, padding))
    for found, wanted in zip(actual, expected, strict=True):
        torch.testing.assert_close(found, wanted)
    assert not actual[0][beyond].any()
    assert not actual[1 + len(states(hx))][beyond].any()


@each_kind
def test_full_lengths_change_nothing(kind: str) -> None:
    layer = make(kind, D, H, num_layers=2, bidirectional=True)
    x, hx = draw(layer, T, N)
    assert_close(results(layer, x, hx, lengths=torch.full((N,), T)), results(layer, x, hx))


@each_kind
def test_lengths_of_other_layouts(kind: str) -> None:
    layer = make(kind, D, H, bidirectional=True)
    x, hx = draw(layer, T, N)
    output, hn = layer(x, hx, lengths=LENGTHS)
    single = [state[:, 0] for state in states(hx)]
    found, final = layer(
        x[:, 0], tuple(single) if len(single) == 2 else single[0], lengths=LENGTHS[0]
    )
    torch.testing.assert_close(found, output[:, 0])
    torch.testing.assert_close(states(final), tuple(state[:, 0] for state in states(hn)))
    layer.batch_first = True
    found, final = layer(x.transpose(0, 1), hx, lengths=LENGTHS)
    torch.testing.assert_close(found, output.transpose(0, 1))
    torch.testing.assert_close(final, hn)


@pytest.mark.parametrize(
    ("lengths", "expected", "message"),
    [
        (torch.ones(N + 1, dtype=torch.int64), ValueError, "^lengths"),
        (torch.ones(N), TypeError, "^lengths has dtype"),
        pytest.param(torch.full((N,), T + 1), ValueError, "^lengths", marks=on_cpu),
        pytest.param(torch.full((N,), -1), ValueError, "^lengths", marks=on_cpu),
    ],
)
def test_bad_lengths_are_refused(lengths: Tensor, expected: type[Exception], message: str) -> None:
    with pytest.raises(expected, match=message):
        make("lstm", D, H)(torch.randn(T, N, D), lengths=lengths)


# --- resets --------------------------------------------------------------------------------------


def pieces(layer: Any, x: Tensor, hx: Any, starts: list[int], to_initial: bool) -> Any:
    """Run the stretches of one sequence (T, 1, D) that begin at `starts` as sequences."""
    ends = [*starts[1:], x.shape[0]]
    forward, final = [], []
    for index, (start, end) in enumerate(zip(starts, ends, strict=True)):
        begin = hx if to_initial or index == 0 else None
        output, hn = layer(x[start:end], begin)
        forward.append(output)
        final.append(states(hn))
    return torch.cat(forward), final[-1]


@pytest.mark.parametrize("to_initial", [False, True], ids=["zeros", "initial"])
@each_kind
def test_resets_cut_a_sequence_into_independent_ones(kind: str, to_initial: bool) -> None:
    layer = make(kind, D, H, num_layers=2, dtype=F64)
    x, hx = draw(layer, T, 1)
    resets = torch.zeros(T, 1, dtype=torch.bool)
    resets[[2, 5]] = True
    parameters = list(layer.parameters())
    output, hn = layer(x, hx, resets=resets, reset_to_initial=to_initial)
    expected, final = pieces(layer, x, hx, [0, 2, 5], to_initial)
    torch.testing.assert_close(output, expected)
    torch.testing.assert_close(states(hn), final)
    torch.testing.assert_close(
        torch.autograd.grad(output.square().sum(), parameters),
        torch.autograd.grad(expected.square().sum(), parameters),
    )


@pytest.mark.parametrize("to_initial", [False, True], ids=["zeros", "initial"])
@each_kind
def test_resets_cut_both_directions_at_the_same_places(kind: str, to_initial: bool) -> None:
    layer = make(kind, D, H, bidirectional=True, dtype=F64)
    x, hx = draw(layer, T, 1)
    resets = torch.zeros(T, 1, dtype=torch.bool)
    resets[[2, 5]] = True
    output, _ = layer(x, hx if to_initial else None, resets=resets, reset_to_initial=to_initial)
    expected, _ = pieces(layer, x, hx if to_initial else None, [0, 2, 5], to_initial)
    torch.testing.assert_close(output, expected)


@each_kind
def test_no_gradient_crosses_a_reset(kind: str) -> None:
    layer = make(kind, D, H, num_layers=2, bidirectional=True)
    x, hx = draw(layer, T, N)
    resets = torch.zeros(T, N, dtype=torch.bool)
    resets[3, 1] = True
    x.requires_grad_()
    (gradient,) = torch.autograd.grad(layer(x, hx, resets=resets)[0][3:, 1].sum(), x)
    assert not gradient[:3, 1].any()
    assert gradient[3:, 1].all()
    (gradient,) = torch.autograd.grad(layer(x, hx, resets=resets)[0][:3, 1].sum(), x)
    assert not gradient[3:, 1].any()
    assert gradient[:3, 1].all()


def test_resets_of_other_layouts() -> None:
    layer = make("lstm", D, H, bidirectional=True)
    x, resets = torch.randn(T, N, D), torch.rand(T, N) < 0.3
    output, _ = layer(x, resets=resets)
    torch.testing.assert_close(layer(x[:, 0], resets=resets[:, 0])[0], output[:, 0])
    layer.batch_first = True
    found, _ = layer(x.transpose(0, 1), resets=resets.T)
    torch.testing.assert_close(found, output.transpose(0, 1))


def test_resets_and_lengths_together_give_the_pieces() -> None:
    layer = make("gru", D, H, bidirectional=True, dtype=F64)
    x, hx = torch.randn(T, 2, D, dtype=F64), draw_state(layer, 2)
    resets = torch.zeros(T, 2, dtype=torch.bool)
    resets[2, 0] = resets[4, 1] = True
    output, _ = layer(x, hx, lengths=torch.tensor([4, 3]), resets=resets, reset_to_initial=True)
    expected, _ = pieces(layer, x[:4, :1], hx[:, :1], [0, 2], True)
    torch.testing.assert_close(output[:4, :1], expected)
    torch.testing.assert_close(output[:3, 1:], layer(x[:3, 1:], hx[:, 1:])[0])


def test_resets_past_the_end_are_not_looked_at() -> None:
    layer = make("gru", D, H, bidirectional=True)
    x, hx = draw(layer, T, N)
    resets = torch.arange(T).unsqueeze(1) >= LENGTHS
    expected = layer(x, hx, lengths=LENGTHS)
    torch.testing.assert_close(layer(x, hx, lengths=LENGTHS, resets=resets), expected)
