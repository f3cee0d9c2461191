"""RecurrentReference: gradients of every cell with every option, against central differences."""

from collections.abc import Iterable

import pytest
from numpy.random import Generator

from reference import CELLS, RecurrentReference
from reference_cases import OPTIONS, PLAIN, assert_gradients, options_of, recurrent_arguments

pytestmark = pytest.mark.backends("cpu", reason="touches no kernels")

NOT_DIFFERENTIABLE = {"lengths", "resets", "reset_to_initial", "reverse"}

COMBINATIONS = {
    "lengths in reverse": ("lengths", "reverse"),
    "resets to the initial state, lengths": ("lengths", "resets", "reset_to_initial"),
    "resets to the initial state, reverse": ("resets", "reset_to_initial", "reverse"),
    "resets and zoneout": ("resets", "zoneout_h", "zoneout_c"),
    "heads and norms": ("heads", "norm_hh", "norm_c", "norm_c_bias"),
    "heads, lengths and masks": ("heads", "lengths", "recurrent_mask", "zoneout_h", "zoneout_c"),
    "projection and masks": ("weight_hr", "recurrent_mask", "zoneout_c"),
    "projection and norms": ("weight_hr", "norm_hh", "norm_c"),
    "token ids and lengths": ("ids", "lengths"),
    "all but projection and heads": tuple(set(OPTIONS) - {"weight_hr", "heads", "projected_input"}),
    "all but zoneout of h and heads": tuple(set(OPTIONS) - {"zoneout_h", "heads", "ids"}),
    "all but projection": tuple(set(OPTIONS) - {"weight_hr", "ids"}),
}


def check_gradients(rng: Generator, cell: str, options: Iterable[str]) -> None:
    """Check the gradients of all arguments, from a loss on all results."""
    arguments = recurrent_arguments(rng, cell, options, steps=3)
    layer = RecurrentReference(cell)
    results = [array for array in layer.forward(**arguments) if array is not None]
    weights = [rng.normal(size=array.shape) for array in results]

    def loss() -> float:
        arrays = [array for array in layer.forward(**arguments) if array is not None]
        return float(sum((a * w).sum() for a, w in zip(arrays, weights, strict=True)))

    gradients = layer.backward(*weights)
    expected = set(arguments) - NOT_DIFFERENTIABLE - ({"input"} if "ids" in options else set())
    given = {name for name, gradient in gradients.items() if gradient is not None}
    assert given == {f"d_{name}" for name in expected}
    # A layer norm of values near zero bends within the usual step of 1e-5.
    pairs = [(g, arguments[name[2:]]) for name, g in gradients.items() if g is not None]
    assert_gradients(loss, pairs, step=1e-6)


@pytest.mark.parametrize("cell", CELLS)
def test_gradients_without_options(rng: Generator, cell: str) -> None:
    check_gradients(rng, cell, ())


@pytest.mark.parametrize("cell", CELLS)
def test_gradients_with_initial_state_and_biases(rng: Generator, cell: str) -> None:
    check_gradients(rng, cell, PLAIN)


EVERY_OPTION = [(cell, option) for cell in CELLS for option in options_of(cell)]


@pytest.mark.parametrize(("cell", "option"), EVERY_OPTION)
def test_gradients_with_one_option(rng: Generator, cell: str, option: str) -> None:
    needed = {"norm_c_bias": ["norm_c"], "reset_to_initial": ["resets"]}.get(option, [])
    check_gradients(rng, cell, [*PLAIN, option, *needed])


EVERY_COMBINATION = [
    (cell, name)
    for cell in CELLS
    for name, options in COMBINATIONS.items()
    if "weight_hr" not in options or "weight_hr" in options_of(cell)
]


@pytest.mark.parametrize(("cell", "combination"), EVERY_COMBINATION)
def test_gradients_with_options_combined(rng: Generator, cell: str, combination: str) -> None:
    check_gradients(rng, cell, [*PLAIN, *COMBINATIONS[combination]])
