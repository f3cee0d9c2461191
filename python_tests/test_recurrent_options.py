"""The options of seqkern.functional.recurrent: numbers beside the reference, and their meaning."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import seqkern.functional as F
from backend import on_cpu
from helpers import DTYPES, error, examples, generator, normal
from recurrent_cases import (
    NAMES,
    OPTIONS,
    PLAIN,
    Problem,
    allowed,
    assert_accurate,
    draw,
    reference,
    run,
)
from seqkern.functional._recurrent_arguments import CELLS

MASKS = ("recurrent_mask", "zoneout_h", "zoneout_c")
BEYOND = [option for option in OPTIONS if option not in PLAIN]

# --- numbers -------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cell", NAMES)
@examples(25)
@given(
    sizes=st.tuples(
        st.sampled_from([0, 1, 2, 3, 6]),
        st.sampled_from([0, 1, 2, 7]),
        st.sampled_from([0, 1, 17, 64]),
        st.sampled_from([1, 2, 15, 16, 17, 33, 65, 100, 130]),
    ),
    options=st.frozensets(st.sampled_from(OPTIONS)),
    reverse=st.booleans(),
    reset_to_initial=st.booleans(),
    used=st.frozensets(st.sampled_from(["output", "h_n", "c_n", "cells"])).filter(
        lambda used: used & {"output", "h_n"}
    ),
    views=st.booleans(),
    recompute=st.sampled_from([0, 0, 1, 2, 4, 100]),
    seed=st.integers(0, 2**32 - 1),
)
def test_options_together_match_the_reference(
    cell: str,
    dtype: torch.dtype,
    sizes: tuple[int, int, int, int],
    options: frozenset[str],
    reverse: bool,
    reset_to_initial: bool,
    used: frozenset[str],
    views: bool,
    recompute: int,
    seed: int,
) -> None:
    flags = {"reverse": reverse, "reset_to_initial": reset_to_initial}
    problem = draw(cell, sizes, dtype, seed, options, used=used, **flags)
    assert_accurate(problem, run(problem, views=views, recompute=recompute))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(
    ("cell", "option"),
    [(cell, option) for cell in NAMES for option in BEYOND if option in allowed(cell, [option])],
)
def test_each_option_alone_matches_the_reference(
    cell: str, option: str, reverse: bool, dtype: torch.dtype
) -> None:
    options = (*PLAIN, option)
    problem = draw(cell, (7, 9, 5, 33), dtype, seed=1, options=options, reverse=reverse)
    assert_accurate(problem, run(problem))


@pytest.mark.parametrize("cell", NAMES)
def test_masks_that_require_gradients_get_them(cell: str) -> None:
    options = (*PLAIN, *MASKS, "lengths", "resets")
    problem = draw(cell, (5, 4, 3, 7), torch.float64, seed=2, options=options)
    expected = reference(problem)
    for name in allowed(cell, MASKS):
        found = run(problem, [name])
        assert set(found) == {*(key for key in found if not key.startswith("d_")), f"d_{name}"}
        assert error(found[f"d_{name}"], expected[f"d_{name}"]) < 1e-14


@pytest.mark.parametrize("recompute", [0, 4])
@pytest.mark.parametrize("cell", ["lstm", "lstm_peephole"])
def test_projection_may_be_wider_than_the_layer(cell: str, recompute: int) -> None:
    T, N, D, H, R = 6, 5, 3, 4, 1000
    options = (*PLAIN, "weight_hr", "lengths")
    problem = draw(cell, (T, N, D, H), torch.float32, 15, options, used=["c_n"])
    random = generator(16)
    wide = {
        "h_0": normal((N, R), torch.float32, random),
        "weight_hh": normal((4 * H, R), torch.float32, random) * R**-0.5,
        "weight_hr": normal((R, H), torch.float32, random) * H**-0.5,
    }
    output = {"output": normal((T, N, R), torch.float32, random)}
    problem = replace(
        problem, arguments=problem.arguments | wide, gradients=problem.gradients | output
    )
    unknown = {
        name: t * torch.nan if t.is_floating_point() else t for name, t in problem.arguments.items()
    }
    run(replace(problem, arguments=unknown))  # leaves NaN in the kernels' working memory
    assert_accurate(problem, run(problem, recompute=recompute))


# --- lengths -------------------------------------------------------------------------------------


def with_lengths(cell: str, *, reverse: bool = False) -> Problem:
    """Return a problem of lengths from 0 to T, whose input is NaN past them."""
    options = (*PLAIN, "lengths")
    problem = draw(cell, (5, 6, 3, 17), torch.float32, 3, options, reverse=reverse)
    lengths = torch.tensor([3, 0, 5, 1, 4, 0])
    x = normal_like(problem.arguments["input"])
    x[torch.arange(5)[:, None] >= lengths] = torch.nan
    return replace(problem, arguments=problem.arguments | {"input": x, "lengths": lengths})


def normal_like(tensor: Tensor) -> Tensor:
    """Draw normal numbers."""
    return torch.randn(tensor.shape, generator=generator(4), dtype=tensor.dtype)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("cell", NAMES)
def test_each_sequence_is_as_if_it_were_alone_and_cut_at_its_length(
    cell: str, reverse: bool
) -> None:
    problem = with_lengths(cell, reverse=reverse)
    together = run(problem)
    for n, length in enumerate(problem.arguments["lengths"].tolist()):
        per_sequence = {"input": 1, "h_0": 0, "c_0": 0}
        arguments = {
            name: tensor.narrow(per_sequence[name], n, 1) if name in per_sequence else tensor
            for name, tensor in problem.arguments.items()
            if name != "lengths"
        }
        arguments["input"] = arguments["input"][:length]
        alone = F.recurrent(
            cell, **arguments, reverse=reverse, return_cells="cells" in problem.gradients
        )
        torch.testing.assert_close(together["output"][:length, n : n + 1], alone.output)
        torch.testing.assert_close(together["h_n"][n : n + 1], alone.h_n)
        if CELLS[cell].has_cell_state:
            torch.testing.assert_close(together["c_n"][n : n + 1], alone.c_n)
            torch.testing.assert_close(together["cells"][:length, n : n + 1], alone.cells)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("cell", NAMES)
def test_nothing_past_the_lengths_is_looked_at_or_written_to(cell: str, reverse: bool) -> None:
    problem = with_lengths(cell, reverse=reverse)
    past = torch.arange(5)[:, None] >= problem.arguments["lengths"]
    nan = run(problem)
    x = torch.where(past[:, :, None], 1.0, problem.arguments["input"])
    gradients = {
        name: torch.where(past[:, :, None], torch.nan, g) if g.dim() == 3 else g
        for name, g in problem.gradients.items()
    }
    other = run(replace(problem, arguments=problem.arguments | {"input": x}, gradients=gradients))
    for name, tensor in nan.items():
        assert torch.equal(tensor, other[name]), name
        if tensor.dim() == 3:
            assert not tensor[past].any(), name


@pytest.mark.parametrize("cell", NAMES)
def test_length_of_zero_returns_the_initial_state_and_its_gradient(cell: str) -> None:
    problem = with_lengths(cell)
    actual = run(problem)
    none = problem.arguments["lengths"] == 0
    assert none.any()
    states = [("h_0", "h_n")] + ([("c_0", "c_n")] if CELLS[cell].has_cell_state else [])
    for initial, final in states:
        assert torch.equal(actual[final][none], problem.arguments[initial][none])
        assert torch.equal(actual[f"d_{initial}"][none], problem.gradients[final][none])


@on_cpu
@pytest.mark.parametrize("length", [-1, 6])
@pytest.mark.parametrize("masked", [False, True])
def test_length_out_of_range_is_refused(length: int, masked: bool) -> None:
    arguments = draw("gru", (5, 2, 3, 4), torch.float32, seed=5).arguments
    if masked:  # and thus by way of the composite
        arguments["recurrent_mask"] = torch.ones(2, 4, requires_grad=True)
    with pytest.raises(ValueError, match=rf"^lengths\[1\] is {length}, expected 0 to T = 5"):
        F.recurrent("gru", **arguments, lengths=torch.tensor([5, length]))


# --- resets --------------------------------------------------------------------------------------


@pytest.mark.parametrize("reset_to_initial", [False, True])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("cell", NAMES)
def test_a_reset_begins_a_new_sequence(cell: str, reverse: bool, reset_to_initial: bool) -> None:
    flags = {"reverse": reverse, "reset_to_initial": reset_to_initial}
    problem = draw(cell, (6, 3, 4, 17), torch.float32, seed=6, used=["output", "h_n"], **flags)
    resets = torch.zeros(6, 3, dtype=torch.bool)
    resets[2] = True
    together = run(replace(problem, arguments=problem.arguments | {"resets": resets}))

    # With reverse the step of the reset is the first of the lower part: steps 2, 1, 0.
    cut = 3 if reverse else 2
    fresh = {} if reset_to_initial else {"h_0": None, "c_0": None}
    low, high = problem.arguments["input"][:cut], problem.arguments["input"][cut:]
    parts = {}
    for name, part in (("low", low), ("high", high)):
        state = {} if (name == "high") == reverse else fresh
        arguments = problem.arguments | {"input": part} | state
        parts[name] = F.recurrent(cell, **arguments, reverse=reverse)
    expected = torch.cat([parts["low"].output, parts["high"].output])
    torch.testing.assert_close(together["output"], expected)
    torch.testing.assert_close(together["h_n"], parts["low" if reverse else "high"].h_n)


@pytest.mark.parametrize("recompute", [0, 2])
@pytest.mark.parametrize("cell", NAMES)
def test_gradients_do_not_cross_a_reset(cell: str, recompute: int) -> None:
    problem = draw(cell, (6, 3, 4, 17), torch.float32, seed=7, used=["h_n"])
    resets = torch.zeros(6, 3, dtype=torch.bool)
    resets[3, 1] = True
    arguments = problem.arguments | {"resets": resets}
    found = run(replace(problem, arguments=arguments), recompute=recompute)
    assert not found["d_input"][:3, 1].any()
    assert found["d_input"][:3, [0, 2]].any(-1).all()
    assert found["d_input"][3:].any(-1).all()
    assert not found["d_h_0"][1].any()
    initial = replace(problem, arguments=arguments, reset_to_initial=True)
    found = run(initial, recompute=recompute)
    assert not found["d_input"][:3, 1].any()
    assert found["d_h_0"][1].any()


# --- cell states, recomputation, zoneout ---------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cell", ["lstm", "lstm_peephole"])
def test_cell_states_of_all_steps_are_in_the_dtype_of_sums(cell: str, dtype: torch.dtype) -> None:
    problem = draw(cell, (5, 3, 4, 17), dtype, seed=10)
    with torch.no_grad():
        inference = F.recurrent(cell, **problem.arguments, return_cells=True)
    assert inference.cells is not None
    assert inference.cells.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert inference.c_n is not None
    assert torch.equal(inference.cells[-1].to(dtype), inference.c_n)
    assert torch.equal(run(problem)["cells"], inference.cells)
    assert F.recurrent(cell, **problem.arguments).cells is None


@pytest.mark.parametrize("options", [PLAIN, (*PLAIN, *BEYOND)], ids=["plain", "everything"])
@pytest.mark.parametrize("cell", NAMES)
def test_recomputed_gradients_equal_those_of_kept_gates(
    cell: str, options: tuple[str, ...]
) -> None:
    problem = draw(cell, (7, 3, 4, 33), torch.float32, seed=11, options=options)
    expected = run(problem)
    for every in (1, 2, 3, 7, 50):
        torch.testing.assert_close(run(problem, recompute=every), expected)


@pytest.mark.parametrize("cell", NAMES)
def test_recomputation_keeps_no_gates(cell: str) -> None:
    """What autograd saves is the arguments, the output and the cell states, of T steps each."""
    problem = draw(cell, (50, 3, 4, 16), torch.float32, seed=12)
    arguments = {name: t.requires_grad_() for name, t in problem.arguments.items()}

    def saved(recompute: int) -> int:
        sizes: dict[int, int] = {}

        def pack(tensor: Tensor) -> Tensor:
            sizes[tensor.data_ptr()] = tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            F.recurrent(cell, **arguments, recompute=recompute)
        return sum(sizes.values()) - sum(t.numel() for t in arguments.values())

    states = 2 if CELLS[cell].has_cell_state else 1
    assert saved(recompute=5) == states * 50 * 3 * 16
    assert saved(recompute=0) >= (states + CELLS[cell].gates) * 50 * 3 * 16


@pytest.mark.parametrize("cell", NAMES)
def test_zoneout_of_one_keeps_the_state_and_of_zero_does_nothing(cell: str) -> None:
    options = allowed(cell, (*PLAIN, "zoneout_h", "zoneout_c"))
    problem = draw(cell, (5, 3, 4, 17), torch.float32, seed=13, options=options)
    factors = [name for name in problem.arguments if name.startswith("zoneout")]
    for name in factors:
        problem.arguments[name].fill_(1)
    result = F.recurrent(cell, **problem.arguments)
    torch.testing.assert_close(result.h_n, problem.arguments["h_0"])
    if result.c_n is not None:
        torch.testing.assert_close(result.c_n, problem.arguments["c_0"])
    for name in factors:
        problem.arguments[name].fill_(0)
    zero = F.recurrent(cell, **problem.arguments)
    for name in factors:
        del problem.arguments[name]
    torch.testing.assert_close(zero, F.recurrent(cell, **problem.arguments))


def test_recurrent_mask_of_ones_does_nothing_and_of_zeros_cuts_the_recurrence() -> None:
    problem = draw("lstm", (5, 3, 4, 17), torch.float32, seed=14)
    plain = F.recurrent("lstm", **problem.arguments)
    ones = F.recurrent("lstm", **problem.arguments, recurrent_mask=torch.ones(3, 17))
    torch.testing.assert_close(ones, plain)
    zeros = F.recurrent("lstm", **problem.arguments, recurrent_mask=torch.zeros(3, 17))
    cut = problem.arguments | {"weight_hh": torch.zeros(68, 17)}
    torch.testing.assert_close(zeros, F.recurrent("lstm", **cut))


@pytest.mark.parametrize("cell", NAMES)
def test_inference_equals_training(cell: str) -> None:
    problem = draw(cell, (5, 3, 4, 17), torch.float32, seed=15, options=(*PLAIN, *BEYOND))
    training = run(problem, ["input"])
    with torch.no_grad():
        inference = F.recurrent(cell, **problem.arguments, return_cells=CELLS[cell].has_cell_state)
    for name, tensor in inference._asdict().items():
        if tensor is not None:
            assert not tensor.requires_grad
            assert torch.equal(tensor, training[name]), name
