"""seqkern.functional.lstm against the float64 reference; torch.nn.LSTM sets the allowed error."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor

import seqkern.functional as F
from backend import on_cpu
from helpers import (
    DTYPES,
    LSTM_ARGUMENTS,
    LstmProblem,
    differentiate,
    error,
    examples,
    lstm_problem,
    lstm_reference,
    lstm_torch,
    strided,
    threads,
)

# Roundings of the result that are granted whatever torch achieves. float64 has no peer to beat.
FLOOR = {torch.float32: 16, torch.float64: 64, torch.bfloat16: 1}

covered_elsewhere = pytest.mark.backends(
    "cpu",
    "cuda",
    reason="slow, and done for every cell by test_recurrent_cells and test_ops_recurrent",
)

BOTH, ALL = (True, True), (True, True, True)
BOOLS = st.booleans()


def run(
    problem: LstmProblem, wanted: tuple[str, ...] = LSTM_ARGUMENTS, views: bool = False
) -> dict[str, Tensor]:
    """Outputs and wanted gradients of seqkern, named as the reference names them."""
    if views:
        problem = LstmProblem(
            tuple(t if t is None else strided(t) for t in problem.arguments),
            tuple(t if t is None else strided(t) for t in problem.gradients),
            problem.reverse,
        )
    arguments = {
        name: None if t is None else t.detach().requires_grad_(name in wanted)
        for name, t in zip(LSTM_ARGUMENTS, problem.arguments, strict=True)
    }
    outputs = F.lstm(**arguments, reverse=problem.reverse)
    leaves = {n: t for n, t in arguments.items() if t is not None and t.requires_grad}
    return differentiate(outputs, problem, list(leaves), list(leaves.values()))


def assert_accurate(problem: LstmProblem, actual: dict[str, Tensor]) -> None:
    """Check that no result errs more than twice as much as torch's, or by a few roundings."""
    expected = lstm_reference(problem)
    eps = torch.finfo(problem.dtype).eps
    assert problem.arguments[0] is not None
    measured = problem.dtype != torch.float64 and problem.arguments[0].numel() > 0
    peer = lstm_torch(problem) if measured else {}
    for name, tensor in actual.items():
        assert tensor.dtype == problem.dtype
        of_torch = error(peer[name], expected[name]) if peer else 0.0
        bound = max(2 * of_torch, FLOOR[problem.dtype] * eps)
        of_seqkern = error(tensor, expected[name])
        assert of_seqkern <= bound, f"{name}: error {of_seqkern:.2e}, of torch {of_torch:.2e}"


# --- numbers -------------------------------------------------------------------------------------


@covered_elsewhere
@pytest.mark.parametrize("dtype", DTYPES)
@examples(40)
@example(3, 13, 17, 130, True, BOTH, ALL, frozenset(LSTM_ARGUMENTS), False, 0)
@example(3, 7, 16, 65, False, BOTH, ALL, frozenset(LSTM_ARGUMENTS), True, 1)
@example(0, 6, 3, 5, False, BOTH, ALL, frozenset(LSTM_ARGUMENTS), False, 2)
@example(2, 0, 3, 5, False, BOTH, ALL, frozenset(LSTM_ARGUMENTS), False, 3)
@example(40, 7, 5, 16, True, BOTH, ALL, frozenset(LSTM_ARGUMENTS), False, 4)
@given(
    steps=st.sampled_from([0, 1, 2, 3, 5]),
    batch=st.sampled_from([0, 1, 5, 6, 7, 13]),
    input_size=st.sampled_from([0, 1, 3, 15, 16, 17, 64]),
    hidden_size=st.sampled_from([1, 15, 16, 17, 63, 64, 65, 100, 130]),
    reverse=BOOLS,
    biases=st.tuples(BOOLS, BOOLS),
    used=st.tuples(BOOLS, BOOLS, BOOLS).filter(any),
    wanted=st.frozensets(st.sampled_from(LSTM_ARGUMENTS[:5]), min_size=1),
    views=BOOLS,
    seed=st.integers(0, 2**32 - 1),
)
def test_outputs_and_gradients_match_the_reference(
    dtype: torch.dtype,
    steps: int,
    batch: int,
    input_size: int,
    hidden_size: int,
    reverse: bool,
    biases: tuple[bool, bool],
    used: tuple[bool, bool, bool],
    wanted: frozenset[str],
    views: bool,
    seed: int,
) -> None:
    sizes = (steps, batch, input_size, hidden_size)
    problem = lstm_problem(*sizes, dtype, seed, reverse=reverse, biases=biases, used=used)
    assert_accurate(problem, run(problem, (*wanted, "bias_ih"), views))


@pytest.mark.parametrize("name", LSTM_ARGUMENTS)
def test_gradient_of_one_argument_alone_equals_its_gradient_among_all(name: str) -> None:
    problem = lstm_problem(4, 3, 5, 17, torch.float32, seed=1)
    alone, among_all = run(problem, (name,)), run(problem)
    assert [key for key in alone if key.startswith("d_")] == [f"d_{name}"]
    assert torch.equal(alone[f"d_{name}"], among_all[f"d_{name}"])


def test_gradients_of_expanded_tensors_match_the_reference() -> None:
    """A sum's gradient has strides of 0, and so have states that all sequences share."""
    problem = lstm_problem(4, 7, 5, 33, torch.float32, seed=2, used=(True, False, False))
    x, h_0, c_0, *rest = problem.present()
    ones = torch.ones(()).expand(4, 7, 33)
    problem = LstmProblem(
        (x, h_0[:1].expand(7, 33), c_0[:1].expand(7, 33), *rest), (ones, None, None)
    )
    assert_accurate(problem, run(problem))


@pytest.mark.parametrize("dtype", DTYPES)
def test_sigmoid_and_tanh_are_accurate_everywhere(dtype: torch.dtype) -> None:
    """A cell whose other gates are saturated shows one activation at a time."""
    eps = torch.finfo(dtype).eps
    grid = torch.cat([torch.linspace(-30, 30, 601), torch.logspace(-12, 2, 57)]).to(dtype)
    exact = grid.double()
    shut, open_ = torch.full_like(grid, -200), torch.full_like(grid, 200)
    zeros = torch.zeros_like(grid)

    def cell(i: Tensor, f: Tensor, g: Tensor, o: Tensor, c_0: Tensor) -> tuple[Tensor, Tensor]:
        bias, H = torch.cat([i, f, g, o]), len(grid)
        weight_ih, weight_hh = bias.new_zeros(4 * H, 1), bias.new_zeros(4 * H, H)
        x = bias.new_zeros(1, 1, 1)
        _, h, c = F.lstm(x, zeros[None], c_0[None], weight_ih, weight_hh, bias)
        return h[0], c[0]

    h, c = cell(i=open_, f=shut, g=grid, o=open_, c_0=zeros)
    np.testing.assert_allclose(c.double(), exact.tanh(), rtol=3 * eps, atol=0)
    np.testing.assert_allclose(h.double(), exact.tanh().tanh(), rtol=6 * eps, atol=0)
    _, c = cell(i=shut, f=grid, g=zeros, o=open_, c_0=torch.ones_like(grid))
    np.testing.assert_allclose(c.double(), exact.sigmoid(), rtol=3 * eps, atol=0)


# --- values at the edge of the number range ------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [1e4, 1e30, float("inf")])
def test_saturated_gates_give_exact_values_and_no_gradient(dtype: torch.dtype, size: float) -> None:
    H, c_0 = 19, 0.5
    gates = torch.tensor([[1.0, -1, 1, 1], [1, 1, -1, 1], [-1, 1, 1, 1], [1, 1, 1, -1]]) * size
    bias = gates.repeat_interleave(H, dim=1).to(dtype)  # a row a case
    for row, (c_n, h_n) in zip(
        bias,
        [(1.0, np.tanh(1.0)), (-0.5, np.tanh(-0.5)), (0.5, np.tanh(0.5)), (1.5, 0.0)],
        strict=True,
    ):
        arguments = [torch.zeros(1, 2, 3), torch.zeros(2, H), torch.full((2, H), c_0)]
        arguments += [torch.zeros(4 * H, 3), torch.zeros(4 * H, H)]
        arguments = [t.to(dtype) for t in arguments] + [row]
        for tensor in arguments:
            tensor.requires_grad_()
        _, h, c = F.lstm(*arguments)
        assert (c == c_n).all()
        np.testing.assert_allclose(h.detach().double(), h_n, rtol=2 * torch.finfo(dtype).eps)
        gradients = torch.autograd.grad([h.sum() + c.sum()], arguments)
        kept = (row[H] > 0) * (1 + (row[-1] > 0) * (1 - h_n**2))  # d c_0 = f (1 + o tanh'(c))
        np.testing.assert_allclose(gradients[2].double(), kept.double(), rtol=4e-2)
        assert not any(g.any() for g in (*gradients[:2], *gradients[3:]))


@pytest.mark.parametrize("name", LSTM_ARGUMENTS)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_and_infinity_spread_as_in_the_reference(name: str, value: float) -> None:
    """No more and no less: a wrong lane or a skipped row would show."""
    problem = lstm_problem(3, 7, 5, 65, torch.float32, seed=3)
    poisoned = problem.arguments[LSTM_ARGUMENTS.index(name)]
    assert poisoned is not None
    poisoned.view(-1)[poisoned.numel() // 3] = value
    with np.errstate(invalid="ignore"):
        expected = lstm_reference(problem)
    actual = run(problem)
    assert np.isnan(expected["output"]).any() == np.isnan(value)
    for key, tensor in actual.items():
        np.testing.assert_array_equal(torch.isnan(tensor), np.isnan(expected[key]), err_msg=key)


# --- empty problems ------------------------------------------------------------------------------


def test_no_steps_return_the_initial_state_and_its_gradient() -> None:
    problem = lstm_problem(0, 3, 4, 5, torch.float32, seed=4)
    _, h_0, c_0, *_ = problem.arguments
    _, d_h_n, d_c_n = problem.gradients
    actual = run(problem)
    assert actual["output"].shape == (0, 3, 5)
    for key, expected in {"h_n": h_0, "c_n": c_0, "d_h_0": d_h_n, "d_c_0": d_c_n}.items():
        assert expected is not None
        assert torch.equal(actual[key], expected)
    for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
        assert not actual[f"d_{name}"].any()


def test_final_states_of_no_steps_are_tensors_of_their_own() -> None:
    arguments = lstm_problem(0, 3, 4, 5, torch.float32, seed=5).present()
    _, h_n, c_n = F.lstm(*arguments)
    h_n.zero_(), c_n.zero_()
    assert arguments[1].any()
    assert arguments[2].any()


def test_empty_batch_gives_empty_outputs_and_zero_weight_gradients() -> None:
    actual = run(lstm_problem(3, 0, 4, 5, torch.float32, seed=6))
    shapes = {"output": (3, 0, 5), "h_n": (0, 5), "c_n": (0, 5), "d_input": (3, 0, 4)}
    assert {key: tuple(actual[key].shape) for key in shapes} == shapes
    for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
        assert not actual[f"d_{name}"].any()


# --- threads and memory --------------------------------------------------------------------------

# Shared by sequences, and by hidden units (W_hh above half a megabyte, or one sequence).
SHARED = [(5, 20, 30, 100), (5, 20, 30, 200), (5, 1, 30, 64), (5, 9, 3, 17)]


@on_cpu
@pytest.mark.parametrize("sizes", SHARED)
@pytest.mark.parametrize("reverse", [False, True])
def test_two_threads_are_as_accurate_as_one(
    sizes: tuple[int, int, int, int], reverse: bool
) -> None:
    problem = lstm_problem(*sizes, torch.float32, seed=7, reverse=reverse)
    with threads(2):
        assert_accurate(problem, run(problem))


@on_cpu
@pytest.mark.parametrize("reverse", [False, True])
def test_gradients_of_more_steps_than_one_product_takes(reverse: bool) -> None:
    problem = lstm_problem(41, 64, 8, 512, torch.float32, seed=7, reverse=reverse)
    assert 41 * 64 * 4 * 512 * 4 > 2**24  # bytes of gradients: products of 21 and of 20 steps
    assert_accurate(problem, run(problem))


@covered_elsewhere
@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("sizes", SHARED)
def test_repeated_runs_are_bitwise_equal(sizes: tuple[int, int, int, int], count: int) -> None:
    problem = lstm_problem(*sizes, torch.float32, seed=8)
    with threads(count):
        first = run(problem)
        for _ in range(4):
            again = run(problem)
            assert all(torch.equal(first[key], again[key]) for key in first)


def test_calls_from_two_python_threads_do_not_disturb_each_other() -> None:
    problems = [lstm_problem(5, 6, 7, 40, torch.float32, seed=9 + i) for i in range(8)]
    alone = [run(problem) for problem in problems]
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(run, problems * 4))
    for expected, actual in zip(alone * 4, together, strict=True):
        assert all(torch.equal(expected[key], actual[key]) for key in expected)


def test_results_are_tensors_like_any_other() -> None:
    output, _, _ = F.lstm(
        torch.ones(200, 3, 5), None, None, torch.ones(160, 5), torch.ones(160, 40)
    )
    values = output.clone()
    assert torch.equal(output.clone().share_memory_(), values)
    assert torch.equal(output.resize_(300, 3, 40)[:200], values)
    assert np.array_equal(output.numpy()[:200], values.numpy())


def test_results_outlive_the_thread_that_made_them() -> None:
    problem = lstm_problem(50, 6, 7, 100, torch.float32, seed=9)
    with ThreadPoolExecutor(1) as pool:
        found = pool.submit(run, problem).result()
    again = run(problem)
    assert all(torch.equal(found[key], again[key]) for key in found)


def test_gradients_share_no_memory() -> None:
    """Who scales all gradients in place must scale each of them once."""
    found = run(lstm_problem(3, 2, 4, 5, torch.float32, seed=10))
    pointers = [tensor.untyped_storage().data_ptr() for tensor in found.values()]
    assert len(set(pointers)) == len(pointers)


def test_inference_keeps_nothing_and_equals_training() -> None:
    problem = lstm_problem(40, 3, 4, 17, torch.float32, seed=11)
    arguments = [t.requires_grad_() for t in problem.present()]
    training = F.lstm(*arguments)
    with torch.no_grad():
        inference = F.lstm(*arguments)
    for one, other in zip(training, inference, strict=True):
        assert one.requires_grad
        assert not other.requires_grad
        assert torch.equal(one, other)
    with torch.no_grad():
        _, _, _, cells, kept = torch.ops.seqkern.recurrent_forward(
            "lstm", *arguments, *[None] * 10, False, False, False, False
        )
    assert cells.numel() == kept.numel() == 0


@pytest.mark.parametrize("changed", ["weight_hh", "output"])
def test_backward_after_a_change_in_place_is_refused(changed: str) -> None:
    arguments = lstm_problem(3, 2, 4, 5, torch.float32, seed=12).present()
    arguments[0].requires_grad_()
    output, _, _ = F.lstm(*arguments)
    loss = output.sum()
    (arguments[4] if changed == "weight_hh" else output).mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()
