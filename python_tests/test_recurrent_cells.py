"""seqkern.functional.recurrent with every cell, beside the float64 reference and torch's layers."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor

import seqkern.functional as F
from backend import on_cpu
from helpers import DTYPES, SLOW, error, examples, threads
from recurrent_cases import (
    FLOOR,
    NAMES,
    OPTIONS,
    PLAIN,
    Problem,
    allowed,
    assert_accurate,
    composite,
    differentiable,
    draw,
    reference,
    run,
    solve,
)
from seqkern.functional._recurrent_arguments import CELLS

SIZES = st.sampled_from([0, 1, 15, 16, 17, 33, 65, 100, 130])
USED = st.frozensets(st.sampled_from(["output", "h_n", "c_n", "cells"])).filter(
    lambda used: used & {"output", "h_n"}
)

# --- numbers -------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES[:1] if SLOW else DTYPES)
@pytest.mark.parametrize("cell", NAMES)
@examples(12)
@example((3, 13, 17, 130), frozenset(PLAIN), True, frozenset(["output", "h_n"]), False, 0)
@example((0, 6, 3, 5), frozenset(PLAIN), False, frozenset(["output", "h_n", "c_n"]), False, 1)
@example((2, 0, 3, 5), frozenset(PLAIN), False, frozenset(["output", "cells"]), False, 2)
@example((40, 7, 5, 16), frozenset(), True, frozenset(["output"]), True, 3)
@given(
    sizes=st.tuples(
        st.sampled_from([0, 1, 2, 3, 5]),
        st.sampled_from([0, 1, 5, 6, 7, 13]),
        SIZES,
        SIZES.filter(bool),
    ),
    options=st.frozensets(st.sampled_from(PLAIN)),
    reverse=st.booleans(),
    used=USED,
    views=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_results_and_gradients_match_the_reference(
    cell: str,
    dtype: torch.dtype,
    sizes: tuple[int, int, int, int],
    options: frozenset[str],
    reverse: bool,
    used: frozenset[str],
    views: bool,
    seed: int,
) -> None:
    problem = draw(cell, sizes, dtype, seed, options, reverse=reverse, used=used)
    assert_accurate(problem, run(problem, views=views))


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("cell", NAMES)
def test_composite_matches_the_reference(cell: str, reverse: bool) -> None:
    """It is the definition that second derivatives and transforms use."""
    problem = draw(cell, (5, 3, 4, 7), torch.float64, seed=1, reverse=reverse)
    expected = reference(problem)
    for name, tensor in composite(problem).items():
        assert error(tensor, expected[name]) < 1e-14, name


TORCH_LAYERS: dict[str, Callable[..., torch.nn.Module]] = {
    "rnn_tanh": torch.nn.RNN,
    "rnn_relu": lambda *sizes, **options: torch.nn.RNN(*sizes, nonlinearity="relu", **options),
    "gru": torch.nn.GRU,
    "lstm": torch.nn.LSTM,
}


def of_torch(problem: Problem) -> dict[str, Tensor]:
    """Solve it with torch's layer of this cell; for problems with all of `PLAIN`."""

    def function(input: Tensor, h_0: Tensor, c_0: Tensor | None = None, **weights: Tensor) -> Any:
        projected = weights["weight_hr"].shape[0] if "weight_hr" in weights else 0
        sizes = input.shape[2], (c_0 if c_0 is not None else h_0).shape[1]
        options = {"proj_size": projected} if projected else {}
        layer = TORCH_LAYERS[problem.cell](*sizes, dtype=input.dtype, **options)
        parameters = {f"{name}_l0": weight for name, weight in weights.items()}
        x = input.flip(0) if problem.reverse else input
        state = h_0[None] if c_0 is None else (h_0[None], c_0[None])
        output, final = torch.func.functional_call(layer, parameters, (x, state))
        final = (final,) if c_0 is None else final
        return output.flip(0) if problem.reverse else output, *(t[0] for t in final)

    return solve(function, problem, differentiable(problem))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(
    "sizes", [(20, 5, 16, 33), (7, 13, 100, 64), (35, 1, 8, 100)][: 1 if SLOW else 3]
)
@pytest.mark.parametrize("layer", [*TORCH_LAYERS, "lstm with projection"])
def test_errors_are_at_most_twice_those_of_torch(
    layer: str, sizes: tuple[int, int, int, int], reverse: bool, dtype: torch.dtype
) -> None:
    cell, _, projected = layer.partition(" with ")
    options = (*PLAIN, "weight_hr") if projected else PLAIN
    used = ("output", "h_n", "c_n")
    problem = draw(cell, sizes, dtype, seed=sum(sizes), options=options, reverse=reverse, used=used)
    expected, actual = reference(problem), run(problem)
    for name, of_peer in of_torch(problem).items():
        bound = max(2 * error(of_peer, expected[name]), FLOOR[dtype] * torch.finfo(dtype).eps)
        assert error(actual[name], expected[name]) <= bound, name


@pytest.mark.parametrize("cell", NAMES)
def test_saturated_gates_give_finite_results_and_gradients(cell: str) -> None:
    problem = draw(cell, (4, 3, 5, 17), torch.float32, seed=2)
    if cell != "rnn_relu":  # whose state would grow without bounds
        problem.arguments["bias_ih"].mul_(1e4)
    expected = reference(problem)
    for name, tensor in run(problem).items():
        # Gradients may be 1e-80 in float64, which no relative error in float32 is small against.
        np.testing.assert_allclose(tensor.detach(), expected[name], 1e-4, 1e-6, err_msg=name)


@pytest.mark.parametrize("cell", NAMES)
def test_nan_spreads_as_in_the_reference(cell: str) -> None:
    """No more and no less: a wrong lane or a skipped row would show."""
    problem = draw(cell, (3, 7, 5, 65), torch.float32, seed=3)
    for name, poisoned in problem.arguments.items():
        element = poisoned.view(-1)[poisoned.numel() // 3]
        before = element.clone()
        element.fill_(torch.nan)
        expected, actual = reference(problem), run(problem)
        element.copy_(before)
        assert np.isnan(expected["output"]).any()
        for key, tensor in actual.items():
            isnan = np.isnan(expected[key])
            np.testing.assert_array_equal(torch.isnan(tensor), isnan, err_msg=f"{name}: {key}")


# --- arguments -----------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", NAMES)
def test_gradient_of_one_argument_alone_equals_its_gradient_among_all(cell: str) -> None:
    options = (
        (*PLAIN, "norm_hh", "norm_c", "norm_c_bias")
        if cell != "lstm"
        else (*PLAIN, "weight_hr", "norm_c", "norm_c_bias")
    )
    problem = draw(cell, (4, 3, 5, 17), torch.float32, seed=4, options=options)
    among_all = run(problem)
    for name in differentiable(problem):
        alone = run(problem, [name])
        assert [key for key in alone if key.startswith("d_")] == [f"d_{name}"]
        assert torch.equal(alone[f"d_{name}"], among_all[f"d_{name}"])


@pytest.mark.parametrize("cell", NAMES)
def test_state_of_none_is_zeros(cell: str) -> None:
    problem = draw(cell, (4, 3, 5, 17), torch.float32, seed=5)
    for name in ("h_0", "c_0"):
        if name in problem.arguments:
            problem.arguments[name].zero_()
    expected = run(problem)
    for name in ("h_0", "c_0"):
        problem.arguments.pop(name, None)
    actual = run(problem)
    assert "h_0" not in problem.arguments
    for name, tensor in actual.items():
        assert torch.equal(tensor, expected[name]), name


@pytest.mark.parametrize("cell", NAMES)
def test_input_without_weight_is_its_product(cell: str) -> None:
    problem = draw(cell, (4, 3, 5, 17), torch.float64, seed=6)
    expected = run(problem)
    weight = problem.arguments.pop("weight_ih")
    problem.arguments["input"] = problem.arguments["input"] @ weight.T
    actual = run(problem)
    expected.pop("d_weight_ih")
    d_input = actual.pop("d_input")
    torch.testing.assert_close(d_input @ weight, expected.pop("d_input"))
    torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize("cell", NAMES)
def test_heads_are_layers_of_their_own(cell: str) -> None:
    H = 17
    kind = CELLS[cell]
    options = (
        *PLAIN,
        "heads",
        "norm_hh",
        "norm_c",
        "norm_c_bias",
        "recurrent_mask",
        "zoneout_h",
        "zoneout_c",
    )
    problem = draw(cell, (4, 3, 5, H), torch.float64, seed=7, options=options)
    together = run(problem)
    for head in range(2):

        def part(name: str, tensor: Tensor, head: int = head) -> Tensor:
            if name == "weight_hh":
                return tensor[head]
            wide = name in ("input", "bias_ih", "bias_hh", "norm_hh")
            size = kind.gates * H if wide else H
            return tensor[..., head * size : (head + 1) * size]

        one = Problem(
            cell,
            {name: part(name, tensor) for name, tensor in problem.arguments.items()},
            {name: part(name, tensor) for name, tensor in problem.gradients.items()},
        )
        for name, tensor in run(one).items():
            expected = part(name.removeprefix("d_"), together[name])
            torch.testing.assert_close(tensor, expected, msg=lambda m, name=name: f"{name}: {m}")


# --- empty problems ------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", NAMES)
def test_no_steps_return_the_initial_state_and_its_gradient(cell: str) -> None:
    problem = draw(cell, (0, 3, 4, 5), torch.float32, seed=8)
    actual = run(problem)
    states = [("h_0", "h_n")] + ([("c_0", "c_n")] if CELLS[cell].has_cell_state else [])
    for initial, final in states:
        assert torch.equal(actual[final], problem.arguments[initial])
        assert actual[final].data_ptr() != problem.arguments[initial].data_ptr()
        assert torch.equal(actual[f"d_{initial}"], problem.gradients[final])
    assert actual["output"].shape == (0, 3, 5)
    assert not any(actual[name].any() for name in actual if "weight" in name or "bias" in name)


@pytest.mark.parametrize("cell", NAMES)
def test_empty_batch_gives_empty_results_and_zero_gradients(cell: str) -> None:
    actual = run(draw(cell, (3, 0, 4, 5), torch.float32, seed=9))
    assert actual["output"].shape == (3, 0, 5)
    assert actual["h_n"].shape == (0, 5)
    assert actual["d_input"].shape == (3, 0, 4)
    assert not any(actual[name].any() for name in actual if "weight" in name or "bias" in name)


@pytest.mark.parametrize("recompute", [0, 2])
@pytest.mark.parametrize("options", [PLAIN, OPTIONS], ids=["plain", "everything"])
@pytest.mark.parametrize("cell", NAMES)
def test_no_units_give_empty_results_and_zero_gradients(
    cell: str, options: tuple[str, ...], recompute: int
) -> None:
    problem = draw(cell, (3, 2, 4, 0), torch.float32, seed=12, options=options)
    actual, expected = run(problem, recompute=recompute), composite(problem)
    assert actual["output"].shape == (3, 2, 0)
    for name, tensor in actual.items():
        assert not tensor.any(), name
        assert torch.equal(tensor, expected[name]), name


# --- threads -------------------------------------------------------------------------------------

EVERYTHING = (*PLAIN, "norm_hh", "norm_c", "norm_c_bias", "lengths", "resets", "recurrent_mask")


@on_cpu
@pytest.mark.parametrize("options", [PLAIN, EVERYTHING], ids=["plain", "everything"])
@pytest.mark.parametrize("sizes", [(5, 20, 30, 100), (5, 9, 30, 300), (5, 1, 30, 64)])
@pytest.mark.parametrize("cell", NAMES)
def test_two_threads_are_accurate_and_repeat_bitwise(
    cell: str, sizes: tuple[int, int, int, int], options: tuple[str, ...]
) -> None:
    problem = draw(cell, sizes, torch.float32, seed=10, options=options)
    with threads(2):
        first = run(problem)
        assert_accurate(problem, first)
        for _ in range(4):
            again = run(problem)
            assert all(torch.equal(first[name], again[name]) for name in first)


# --- thin functions ------------------------------------------------------------------------------


def test_lstm_gru_and_rnn_are_the_cells_of_their_names() -> None:
    functions: dict[str, Callable[..., tuple[Tensor, ...]]] = {
        "lstm": F.lstm,
        "gru": F.gru,
        "rnn_tanh": F.rnn,
        "rnn_relu": lambda *arguments, **options: F.rnn(*arguments, nonlinearity="relu", **options),
    }
    for cell, function in functions.items():
        problem = draw(cell, (4, 3, 5, 17), torch.float32, seed=11, options=(*PLAIN, "lengths"))
        names = ("input", "h_0", "c_0", "weight_ih", "weight_hh", "bias_ih", "bias_hh")
        layer = [problem.arguments[name] for name in names if name in problem.arguments]
        lengths = problem.arguments["lengths"]
        actual = function(*layer, lengths=lengths, reverse=True)
        expected = F.recurrent(cell, **problem.arguments, reverse=True)
        assert len(actual) == (3 if cell == "lstm" else 2)
        for one, other in zip(actual, expected, strict=False):
            assert torch.equal(one, other)


def test_unknown_nonlinearity_is_refused() -> None:
    x = torch.zeros(1, 1, 1)
    with pytest.raises(ValueError, match=r"^nonlinearity is 'selu', expected 'tanh' or 'relu'"):
        F.rnn(x, None, x[0], x[0], nonlinearity="selu")


def test_options_a_cell_lacks_are_left_out_of_its_problems() -> None:
    assert allowed("mgu", ["norm_hh", "c_0", "h_0"]) == {"h_0"}
    assert allowed("lstm", ["heads", "weight_hr"]) == {"heads", "projected"}
