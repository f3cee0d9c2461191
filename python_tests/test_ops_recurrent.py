"""The recurrent ops, called directly, with every cell and option beside the float64 reference."""

from dataclasses import replace

import pytest
import torch

from backend import on_cuda
from helpers import KERNEL_DTYPES, SLOW, error, strided, to_array
from recurrent_cases import NAMES, OPTIONS, OUTPUTS, PLAIN, Problem, allowed, composite, draw
from recurrent_ops import backward, check, draw_options, everything, forward

SIZES = (5, 3, 2, 4)  # T, N, D, H

EVERY_OPTION = [(cell, option) for cell in NAMES for option in OPTIONS if allowed(cell, [option])]


@pytest.mark.parametrize("recompute", [0, 1, 3, 9])
@pytest.mark.parametrize("cell", NAMES)
def test_cell_without_options_matches_the_reference(cell: str, recompute: int) -> None:
    problem = draw(cell, SIZES, torch.float64, 0, ())
    check(problem, everything(problem, recompute), times=3)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(("cell", "option"), EVERY_OPTION)
def test_each_option_matches_the_reference(cell: str, option: str, reverse: bool) -> None:
    for options in ([option], [*PLAIN, option], [*PLAIN, option, "lengths"]):
        problem = draw(cell, SIZES, torch.float64, 0, options, reverse=reverse)
        check(problem, everything(problem), times=3)
        check(problem, everything(problem, recompute=2), times=3)


@pytest.mark.parametrize("number", range(12))
@pytest.mark.parametrize("cell", NAMES)
def test_options_together_match_the_reference(cell: str, number: int) -> None:
    problem = draw_options(cell, SIZES, torch.float64, number)
    check(problem, everything(problem, recompute=number % 4), times=3)


@pytest.mark.parametrize("number", range(4))
@pytest.mark.parametrize("dtype", [d for d in KERNEL_DTYPES if d != torch.float64], ids=str)
@pytest.mark.parametrize("cell", NAMES)
def test_other_dtypes_match_the_reference(cell: str, dtype: torch.dtype, number: int) -> None:
    problem = draw_options(cell, (4, 3, 5, 8), dtype, number)
    check(problem, everything(problem, recompute=number % 2 * 3), times=3)


@pytest.mark.parametrize(
    "sizes", [(0, 3, 2, 4), (4, 0, 2, 4), (0, 0, 2, 4), (3, 2, 0, 4), (1, 1, 1, 1)]
)
@pytest.mark.parametrize("cell", NAMES)
def test_sizes_of_zero_and_one(cell: str, sizes: tuple[int, int, int, int]) -> None:
    for seed in range(4):
        problem = draw_options(cell, sizes, torch.float64, seed)
        check(problem, everything(problem, recompute=seed % 3))


@pytest.mark.parametrize("shape", [(0, 12, 4), (2, 0, 0)])
def test_no_heads_or_no_units(shape: tuple[int, int, int]) -> None:
    arguments = {"input": torch.zeros(3, 2, 0), "weight_hh": torch.zeros(shape)}
    for name, tensor in everything(Problem("gru", arguments, {})).items():
        assert tensor.numel() == 0, name


@pytest.mark.parametrize("cell", NAMES)
def test_inference_gives_what_training_gives(cell: str) -> None:
    for seed in range(8):
        problem = draw_options(cell, SIZES, torch.float32, seed)
        *found, cells, kept = forward(problem, keep_cells=False, keep=False)
        assert (cells.numel(), kept.numel()) == (0, 0)
        for one, other in zip(found, forward(problem), strict=False):
            assert torch.equal(one, other)


def test_inference_projects_the_input_of_some_steps_at_a_time() -> None:
    """The sizes are such that the gates of all steps take more than 64 MiB."""
    problem = draw("lstm", (40, 13200, 3, 4), torch.float64, 0, (), reverse=True)
    expected = composite(problem)
    for name, found in zip(OUTPUTS[:3], forward(problem, keep=False), strict=False):
        assert error(found, to_array(expected[name])) <= 1e-13


@pytest.mark.parametrize("name", OUTPUTS)
@pytest.mark.parametrize("cell", NAMES)
def test_absent_gradients_count_as_zeros(cell: str, name: str) -> None:
    for seed in range(4):
        problem = draw_options(cell, SIZES, torch.float64, seed)
        gradients = {n: d for n, d in problem.gradients.items() if n == name}
        problem = replace(problem, gradients=gradients)
        check(problem, everything(problem), times=3)


@pytest.mark.parametrize("cell", NAMES)
def test_gradients_that_are_not_wanted_are_empty(cell: str) -> None:
    for seed in range(4):
        problem = draw_options(cell, SIZES, torch.float64, seed)
        results = forward(problem)
        every = backward(problem, results)
        for wanted in ((True, False), (False, True), (False, False)):
            found = backward(problem, results, of_input=wanted[0], of_weights=wanted[1])
            for name, d in found.items():
                there = {"d_input": wanted[0], "d_h_0": True, "d_c_0": True}.get(name, wanted[1])
                assert torch.equal(d, every[name] if there else d.new_empty(0)), name


@pytest.mark.parametrize("cell", NAMES)
def test_arguments_need_not_be_contiguous(cell: str) -> None:
    for seed in range(4):
        problem = draw_options(cell, SIZES, torch.float64, seed)
        arguments = {name: strided(tensor) for name, tensor in problem.arguments.items()}
        gradients = {name: strided(tensor) for name, tensor in problem.gradients.items()}
        views = replace(problem, arguments=arguments, gradients=gradients)
        expected = everything(problem)
        for name, tensor in everything(views).items():
            assert torch.equal(tensor, expected[name]), name


@pytest.mark.parametrize("cell", NAMES)
def test_arguments_are_left_alone_and_results_have_memory_of_their_own(cell: str) -> None:
    for seed in range(8):
        problem = draw_options(cell, SIZES, torch.float64, seed)
        results = forward(problem)
        given = [*problem.arguments.values(), *problem.gradients.values(), *results]
        before = [tensor.clone() for tensor in given]
        found = backward(problem, results)
        for tensor, copy in zip(given, before, strict=True):
            torch.testing.assert_close(tensor, copy, rtol=0, atol=0, equal_nan=True)
        storages = [t.untyped_storage().data_ptr() for t in (*given, *found.values()) if t.numel()]
        assert len(set(storages)) == len(storages)


@on_cuda
@pytest.mark.parametrize("reverse", [False, True])
def test_lengths_out_of_range_stay_within_the_tensors(reverse: bool) -> None:
    """They mean none and all steps: a device cannot tell of them in time."""
    problem = draw("lstm", (4, 2, 3, 5), torch.float64, 0, reverse=reverse)
    lengths = torch.tensor([0, 4]), torch.tensor([-(1 << 62), 1 << 62])
    expected, found = (
        everything(replace(problem, arguments=problem.arguments | {"lengths": tensor}))
        for tensor in lengths
    )
    for name, tensor in found.items():
        assert torch.equal(tensor, expected[name]), name


@pytest.mark.parametrize("hidden", [1, 33, 257] if SLOW else [1, 31, 32, 33, 255, 256, 257, 1000])
@pytest.mark.parametrize("cell", NAMES)
def test_layer_norms_of_rows_around_the_size_of_a_block(cell: str, hidden: int) -> None:
    sizes = (2, 2, 3, hidden) if SLOW else (3, 5, 4, hidden)
    for options in (["norm_hh"], ["norm_c"], ["norm_hh", "norm_c"]):
        problem = draw(cell, sizes, torch.float64, hidden, [*PLAIN, *options])
        check(problem, everything(problem))


@on_cuda
@pytest.mark.parametrize("dtype", KERNEL_DTYPES, ids=str)
@pytest.mark.parametrize("cell", NAMES)
def test_every_element_of_every_result_is_written(cell: str, dtype: torch.dtype) -> None:
    """Torch fills new memory with NaN under deterministic algorithms."""
    torch.use_deterministic_algorithms(True)
    try:
        for seed in (2, 5)[: 1 if SLOW else 2]:
            problem = draw_options(cell, (3, 3, 5, 33), dtype, seed)
            *found, _ = forward(problem, keep=False)
            found += [t for n in (0, 2) for t in everything(problem, n).values()]
            assert all(tensor.isfinite().all() for tensor in found)
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("dtype", KERNEL_DTYPES[:1] if SLOW else KERNEL_DTYPES, ids=str)
@pytest.mark.parametrize("cell", NAMES)
def test_five_runs_give_the_same_bits(cell: str, dtype: torch.dtype) -> None:
    problem = draw_options(cell, (3, 3, 5, 33), dtype, 2)
    first = everything(problem)
    for _ in range(4):
        for name, tensor in everything(problem).items():
            torch.testing.assert_close(tensor, first[name], rtol=0, atol=0, equal_nan=True)
