"""RecurrentReference: what each option means, for every cell, and what is refused."""

from typing import Any

import numpy as np
import pytest
from numpy.random import Generator

from reference import CELLS, RecurrentReference, RecurrentResult
from reference_cases import PLAIN, Array, options_of, recurrent_arguments

pytestmark = pytest.mark.backends("cpu", reason="touches no kernels")

WITH_TIME = ("input", "resets", "zoneout_h", "zoneout_c")
WITH_SEQUENCES = (*WITH_TIME, "h_0", "c_0", "lengths", "recurrent_mask")


def run(cell: str, arguments: dict[str, Any]) -> RecurrentResult:
    return RecurrentReference(cell).forward(**arguments)


def gradients(cell: str, arguments: dict[str, Any]) -> dict[str, Array | None]:
    """Return the gradients of the sum of all results."""
    layer = RecurrentReference(cell)
    results = layer.forward(**arguments)
    return layer.backward(*[None if array is None else np.ones_like(array) for array in results])


def sequence(arguments: dict[str, Any], n: int, steps: slice) -> dict[str, Any]:
    """Return the arguments of some steps of one sequence, without lengths."""
    part = {name: value for name, value in arguments.items() if name != "lengths"}
    for name in part.keys() & set(WITH_TIME):
        part[name] = part[name][steps, n : n + 1]
    for name in part.keys() & (set(WITH_SEQUENCES) - set(WITH_TIME)):
        part[name] = part[name][n : n + 1]
    return part


def assert_close(actual: Array | None, expected: Array | None) -> None:
    """Check equality up to the rounding of another order of summation; None equals None."""
    if actual is None or expected is None:
        assert actual is expected
    else:
        np.testing.assert_allclose(actual, expected, rtol=1e-12, atol=1e-14)


def assert_all_close(actual: RecurrentResult, expected: RecurrentResult) -> None:
    for one, other in zip(actual, expected, strict=True):
        assert_close(one, other)


# --- lengths -------------------------------------------------------------------------------------


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_padded_sequence_gives_what_it_gives_alone(
    rng: Generator, cell: str, reverse: bool
) -> None:
    given = recurrent_arguments(rng, cell, (*PLAIN, "lengths", "resets", "zoneout_h"))
    given["reverse"] = reverse
    result = run(cell, given)
    assert sorted(given["lengths"]) == [0, 2, 4]
    for n, length in enumerate(given["lengths"]):
        alone = run(cell, sequence(given, n, slice(0, length)))
        assert_close(result.output[:length, n], alone.output[:, 0])
        assert not result.output[length:, n].any()
        assert_close(result.h_n[n], alone.h_n[0])
        if result.c_n is not None and result.cells is not None:
            assert alone.c_n is not None
            assert_close(result.c_n[n], alone.c_n[0])
            assert not result.cells[length:, n].any()


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_nan_padding_reaches_nothing(rng: Generator, cell: str, reverse: bool) -> None:
    options = (*PLAIN, "lengths", "zoneout_h", "zoneout_c", "recurrent_mask")
    given = recurrent_arguments(rng, cell, options) | {"reverse": reverse}
    padding = np.arange(4)[:, None] >= given["lengths"]
    padded = dict(given)
    for name in given.keys() & {"input", "zoneout_h", "zoneout_c"}:
        padded[name] = np.where(padding[:, :, None], np.nan, given[name])
    assert_all_close(run(cell, padded), run(cell, given))
    actual, expected = gradients(cell, padded), gradients(cell, given)
    for name in expected:
        assert_close(actual[name], expected[name])
    d_input = actual["d_input"]
    assert d_input is not None
    assert not d_input[padding].any()
    assert d_input[~padding].any()


def test_gradients_given_past_a_length_are_not_looked_at(rng: Generator) -> None:
    given = recurrent_arguments(rng, "lstm", (*PLAIN, "lengths"))
    layer = RecurrentReference("lstm")
    d_output, _, _, d_cells = (np.ones_like(array) for array in layer.forward(**given))
    expected = layer.backward(d_output, d_cells=d_cells)
    padding = np.arange(4)[:, None] >= given["lengths"]
    d_output[padding], d_cells[padding] = np.nan, np.nan
    actual = layer.backward(d_output, d_cells=d_cells)
    for name in expected:
        assert_close(actual[name], expected[name])


def test_token_ids_past_a_length_are_not_looked_at(rng: Generator) -> None:
    given = recurrent_arguments(rng, "lstm", ("ids",)) | {"lengths": np.array([4, 1, 0])}
    expected = run("lstm", given)
    given["input"][1:, 1], given["input"][:, 2] = -1, 1000
    assert_all_close(run("lstm", given), expected)


@pytest.mark.parametrize("cell", CELLS)
def test_length_zero_returns_the_initial_state_and_its_gradient(rng: Generator, cell: str) -> None:
    given = recurrent_arguments(rng, cell) | {"lengths": np.zeros(3, dtype=np.int64)}
    assert_close(run(cell, given).h_n, given["h_0"])
    actual = gradients(cell, given)
    assert_close(actual["d_h_0"], np.ones((3, 3)))
    assert not np.any(actual["d_weight_hh"])
    if CELLS[cell].has_cell_state:
        assert_close(run(cell, given).c_n, given["c_0"])
        assert_close(actual["d_c_0"], np.ones((3, 3)))


@pytest.mark.parametrize("cell", CELLS)
def test_no_steps_and_no_sequences_are_allowed(rng: Generator, cell: str) -> None:
    given = recurrent_arguments(rng, cell, steps=0)
    assert_close(run(cell, given).h_n, given["h_0"])
    assert_close(gradients(cell, given)["d_h_0"], np.ones((3, 3)))
    empty = recurrent_arguments(rng, cell, sequences=0)
    assert run(cell, empty).output.shape == (4, 0, 3)
    assert not np.any(gradients(cell, empty)["d_weight_hh"])


# --- resets --------------------------------------------------------------------------------------


@pytest.mark.parametrize("to_initial", [False, True])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_resets_equal_running_the_pieces_apart(
    rng: Generator, cell: str, reverse: bool, to_initial: bool
) -> None:
    given = recurrent_arguments(rng, cell, sequences=1)
    given |= {"reverse": reverse, "reset_to_initial": to_initial}
    # The piece that a reset starts is [2, 4) forward and [0, 3) in reverse.
    resets = {"resets": np.arange(4)[:, None] == 2}
    first, second = slice(0, 2), slice(2, 4)
    if reverse:
        first, second = slice(3, 4), slice(0, 3)
    whole, head, tail = given | resets, sequence(given, 0, first), sequence(given, 0, second)
    if not to_initial:
        tail = {name: value for name, value in tail.items() if name not in ("h_0", "c_0")}

    result, parts = run(cell, whole), [run(cell, head), run(cell, tail)]
    assert_close(result.output[first], parts[0].output)
    assert_close(result.output[second], parts[1].output)
    assert_close(result.h_n, parts[1].h_n)
    assert_close(result.c_n, parts[1].c_n)

    layer, pieces = RecurrentReference(cell), [RecurrentReference(cell), RecurrentReference(cell)]
    layer.forward(**whole)
    actual = layer.backward(np.ones((4, 1, 3)))
    total: dict[str, Any] = {}
    for piece, arguments in zip(pieces, (head, tail), strict=True):
        steps = len(piece.forward(**arguments).output)
        for name, gradient in piece.backward(np.ones((steps, 1, 3))).items():
            if gradient is not None and name != "d_input":
                total[name] = total.get(name, 0.0) + gradient
    assert total.keys() >= {"d_h_0", "d_weight_ih", "d_weight_hh", "d_bias_ih", "d_bias_hh"}
    for name, expected in total.items():
        assert_close(actual[name], expected)


def test_reset_wins_over_the_initial_state_at_the_first_step(rng: Generator) -> None:
    given = recurrent_arguments(rng, "lstm") | {"resets": np.arange(4)[:, None] < [1, 1, 0]}
    result = run("lstm", given)
    expected = run("lstm", {k: v for k, v in given.items() if k not in ("h_0", "c_0", "resets")})
    assert_close(result.output[:, :2], expected.output[:, :2])
    assert np.abs(result.output[:, 2] - expected.output[:, 2]).max() > 1e-3
    actual = gradients("lstm", given)
    for name in ("d_h_0", "d_c_0"):
        gradient = actual[name]
        assert gradient is not None
        assert not gradient[:2].any()
        assert gradient[2].all()


# --- zoneout -------------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", CELLS)
def test_zoneout_of_one_keeps_the_state_and_of_zero_changes_nothing(
    rng: Generator, cell: str
) -> None:
    given = recurrent_arguments(rng, cell)
    plain, names = run(cell, given), sorted({"zoneout_h", "zoneout_c"} & set(options_of(cell)))
    assert_all_close(run(cell, given | {name: np.zeros((4, 3, 3)) for name in names}), plain)
    kept = run(cell, given | {name: np.ones((4, 3, 3)) for name in names})
    assert_close(kept.output, np.broadcast_to(given["h_0"], (4, 3, 3)))
    assert_close(kept.h_n, given["h_0"])
    assert_close(kept.c_n, given.get("c_0"))


def test_new_hidden_state_is_of_the_cell_before_zoneout(rng: Generator) -> None:
    given = recurrent_arguments(rng, "lstm", steps=1)
    zoned = run("lstm", given | {"zoneout_c": np.ones((1, 3, 3))})
    np.testing.assert_array_equal(zoned.h_n, run("lstm", given).h_n)
    assert_close(zoned.c_n, given["c_0"])


def test_zoneout_keeps_the_state_that_a_reset_left(rng: Generator) -> None:
    given = recurrent_arguments(rng, "gru", steps=2)
    given |= {"resets": np.array([[False] * 3, [True] * 3]), "zoneout_h": np.ones((2, 3, 3))}
    assert not run("gru", given).h_n.any()
    assert_close(run("gru", given | {"reset_to_initial": True}).h_n, given["h_0"])


# --- heads ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", CELLS)
def test_heads_equal_separate_layers(rng: Generator, cell: str) -> None:
    options = set(options_of(cell)) - {"weight_hr", "ids"}
    given = recurrent_arguments(rng, cell, options, heads=2)
    result, actual = run(cell, given), gradients(cell, given)
    for k in range(2):
        parts = {
            name: np.split(value, 2, axis=-1)[k]
            for name, value in given.items()
            if isinstance(value, np.ndarray) and name not in ("lengths", "resets", "weight_hh")
        }
        apart = given | parts | {"weight_hh": given["weight_hh"][k]}
        for one, other in zip(result, run(cell, apart), strict=True):
            assert_close(None if one is None else np.split(one, 2, axis=-1)[k], other)
        for name, expected in gradients(cell, apart).items():
            gradient = actual[name]
            if gradient is not None and name == "d_weight_hh":
                gradient = gradient[k]
            elif gradient is not None:
                gradient = np.split(gradient, 2, axis=-1)[k]
            assert_close(gradient, expected)


# --- calls ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_final_state_is_that_of_the_last_step_taken(
    rng: Generator, cell: str, reverse: bool
) -> None:
    result = run(cell, recurrent_arguments(rng, cell) | {"reverse": reverse})
    last = 0 if reverse else -1
    assert_close(result.output[last], result.h_n)
    assert (result.cells is None) == (result.c_n is None) == (not CELLS[cell].has_cell_state)
    if result.cells is not None:
        assert_close(result.cells[last], result.c_n)


@pytest.mark.parametrize("cell", CELLS)
def test_absent_state_and_biases_are_zeros(rng: Generator, cell: str) -> None:
    absent = recurrent_arguments(rng, cell, ())
    sizes = {
        "h_0": (3, 3),
        "bias_ih": (3 * CELLS[cell].gates,),
        "bias_hh": (3 * CELLS[cell].gates,),
    }
    if CELLS[cell].has_cell_state:
        sizes["c_0"] = (3, 3)
    zeros = {name: np.zeros(size) for name, size in sizes.items()}
    assert_all_close(run(cell, absent), run(cell, absent | zeros))
    without, given = gradients(cell, absent), gradients(cell, absent | zeros)
    assert all(without[f"d_{name}"] is None for name in sizes)
    assert_close(without["d_weight_hh"], given["d_weight_hh"])


@pytest.mark.parametrize("cell", CELLS)
def test_backward_again_gives_the_same_and_arguments_stay(rng: Generator, cell: str) -> None:
    options = set(options_of(cell)) - {"weight_hr", "heads", "ids", "projected_input"}
    given = recurrent_arguments(rng, cell, options)
    before = {name: np.copy(value) for name, value in given.items()}
    layer = RecurrentReference(cell)
    d_output = np.ones_like(layer.forward(**given).output)
    first, second = layer.backward(d_output), layer.backward(d_output)
    assert sum(gradient is not None for gradient in first.values()) >= 8
    for name in first:
        np.testing.assert_array_equal(first[name], second[name])
    for name, value in before.items():
        np.testing.assert_array_equal(given[name], value)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("cell", sorted(CELLS.keys() - {"rnn_relu"}))
def test_gates_saturate_without_a_warning(rng: Generator, cell: str) -> None:
    given = recurrent_arguments(rng, cell)
    given["bias_ih"] *= 1e5
    assert np.isfinite(run(cell, given).output).all()
    assert all(np.isfinite(g).all() for g in gradients(cell, given).values() if g is not None)


# --- refused -------------------------------------------------------------------------------------

ONES = np.ones((4, 3, 3))
REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "shape": ("gru", {"h_0": np.ones((1, 3))}, r"^h_0: given shape \(1, 3\), expected \(3, 3\)"),
    "rows": ("gru", {"weight_hh": np.ones((8, 3))}, r"^weight_hh: given 8 rows, expected a multi"),
    "columns": ("gru", {"weight_hh": np.ones((9, 2))}, r"^weight_hh: given 2 columns, expected 3"),
    "heads": ("gru", {"weight_hh": np.ones((2, 9, 3))}, r"^weight_ih: given, expected none with"),
    "length": ("gru", {"lengths": np.array([1, 5, 0])}, r"^lengths: given 5, expected 0 to 4"),
    "cell": ("gru", {"c_0": np.ones((3, 3))}, r"^c_0: given, expected none with gru"),
    "zoneout": ("mgu", {"zoneout_c": ONES}, r"^zoneout_c: given, expected none with mgu"),
    "norm": ("mgu", {"norm_hh": np.ones(6)}, r"^norm_hh: given, expected none with mgu"),
    "norm bias": ("lstm", {"norm_c_bias": np.ones(3)}, r"^norm_c_bias: .* none without norm_c"),
    "projected": ("gru", {"weight_hr": np.ones((3, 3))}, r"^weight_hr: given, .* none with gru"),
    "projected zoneout": (
        "lstm",
        {"weight_hr": np.ones((3, 3)), "zoneout_h": ONES},
        r"^weight_hr: given, expected none with zoneout_h",
    ),
    "peepholes": ("lstm", {"weight_cell": np.ones((3, 3))}, r"^weight_cell: given, expected none"),
    "no peepholes": ("lstm_peephole", {"weight_cell": None}, r"^weight_cell: absent, expected an"),
    "ids": (
        "gru",
        {"input": np.zeros((4, 3), dtype=np.int64), "weight_ih": None},
        r"^weight_ih: given None, expected an array where input holds token ids",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_arguments_that_do_not_fit_are_refused(rng: Generator, case: str) -> None:
    cell, change, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        run(cell, recurrent_arguments(rng, cell) | change)


def test_other_dtypes_are_refused(rng: Generator) -> None:
    given = recurrent_arguments(rng, "gru")
    for name, dtype, message in (
        ("weight_hh", np.float32, r"^weight_hh: given float32, expected a float64 array"),
        ("lengths", np.int32, r"^lengths: given int32, expected int64"),
        ("resets", np.int64, r"^resets: given int64, expected bool"),
    ):
        array = given.get(name, np.ones((4, 3) if name == "resets" else 3)).astype(dtype)
        with pytest.raises(TypeError, match=message):
            run("gru", given | {name: array})


def test_missing_weight_and_unknown_cell_and_token_are_refused(rng: Generator) -> None:
    given = recurrent_arguments(rng, "gru", ("ids",))
    with pytest.raises(TypeError, match=r"^weight_hh: given None, expected an array"):
        run("gru", given | {"weight_hh": None})
    with pytest.raises(IndexError, match=r"^input: given 2, expected 0 to 1"):
        run("gru", given | {"input": np.full((4, 3), 2)})
    with pytest.raises(ValueError, match=r"^cell: given 'sru', expected one of rnn_tanh, "):
        RecurrentReference("sru")
