"""The op that trains word vectors, against the reference; its order of changes, and its checks."""

import functools
import itertools
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import seqkern
from backend import on_cpu
from helpers import error
from reference import WordVectors, numerical_gradient, philox
from word_vector_cases import ALL, OBJECTIVES, Case, Problem, Trained

EPS = torch.finfo(torch.float32).eps
WORKER = Path(__file__).with_name("word_vector_worker.py")
IN_USE = seqkern.build_info()["isa"]


def assert_equal(first: Trained, second: Trained) -> None:
    assert torch.equal(first.input, second.input)
    assert torch.equal(first.output, second.output)
    assert first.totals == second.totals


# --- the reference -------------------------------------------------------------------------------


@on_cpu
def test_philox_gives_the_published_numbers() -> None:
    """The known answers of the authors' library, Random123."""
    pi = [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344]
    for key, counter, expected in (
        (0, [0] * 4, "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        (2**64 - 1, [2**32 - 1] * 4, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        (0x299F31D0_A4093822, pi, "d16cfe09 94fdcceb 5001e420 24126ea1"),
    ):
        found = philox(key, np.array(counter, np.uint64))
        assert " ".join(f"{word:08x}" for word in found) == expected


@on_cpu
@pytest.mark.parametrize("subwords", [False, True])
@pytest.mark.parametrize("mean", [False, True])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_reference_steps_against_the_gradient(
    objective: str, mean: bool, subwords: bool
) -> None:
    """All changes of a round come from the same matrices, so they are rate times the gradient."""
    case = Case(objective, 5, 3, window=2, negatives=3, mean=mean, subwords=subwords, length=12)
    problem = Case(**{**vars(case), "deterministic": True, "rate": 1.0, "rate_step": 0.0}).draw()
    before = [m[:, :3].double().numpy().copy() for m in (problem.input, problem.output)]
    after = problem.reference()
    for i, (matrix, changed) in enumerate(zip(before, (after.input, after.output), strict=True)):

        def loss(i: int = i) -> float:
            moved = Problem.__new__(Problem)
            moved.__dict__.update(problem.__dict__)
            moved.input, moved.output = map(torch.from_numpy, before)
            return moved.reference().loss

        gradient = numerical_gradient(loss, matrix)
        assert np.abs(gradient).max() > 0.01
        np.testing.assert_allclose(matrix - changed, gradient, rtol=1e-5, atol=1e-7)


# --- numbers -------------------------------------------------------------------------------------


@functools.cache
def references(case: Case) -> tuple[WordVectors, WordVectors]:
    """Results of the reference in float64, and in float32."""
    problem = case.draw()
    return problem.reference(), problem.reference(np.float32)


def assert_as_accurate(
    found: Trained, case: Case, expected: WordVectors, rounded: WordVectors
) -> None:
    """At most twice the error of the reference in float32, or as far as rounding leads by chance.

    A row that changes n times is rounded n times: a random walk, of sqrt(n) roundings.
    """
    size = case.vector_size
    terms = expected.examples * (case.negatives + 1)  # or a path of about that many nodes
    for name in ("input", "output"):
        exact, actual = getattr(expected, name), getattr(found, name)
        assert not actual[:, size:].any(), f"{name} is padded with 0"
        of_reference = error(torch.from_numpy(getattr(rounded, name)), exact)
        by_chance = 2 * (4 + (terms / len(exact)) ** 0.5) * EPS
        assert error(actual[:, :size], exact) <= max(2 * of_reference, by_chance), name
    loss, examples, words = found.totals
    assert (examples, words) == (expected.examples, expected.words)
    # The losses of a chunk are summed in float32, in four lanes or more.
    by_chance = (4 + (terms / 4) ** 0.5) * EPS * expected.loss
    assert abs(loss - expected.loss) <= max(2 * abs(rounded.loss - expected.loss), by_chance)


@on_cpu
def test_the_cases_have_every_value() -> None:
    for name, values in {
        "objective": OBJECTIVES,
        "vocabulary": (2, 3, 20),
        "vector_size": (1, 15, 16, 17, 100, 300),
        "window": (1, 2, 5, 20),
        "negatives": (1, 5, 7, 8, 20),
        **dict.fromkeys(("mean", "exact", "keep", "subwords", "deterministic"), (False, True)),
    }.items():
        assert {getattr(case, name) for case in ALL} >= set(values)


@on_cpu
@pytest.mark.parametrize("case", ALL, ids=str)
def test_matrices_and_loss_match_the_reference(case: Case) -> None:
    expected, rounded = references(case)
    assert expected.examples > 0
    assert_as_accurate(case.draw().train(), case, expected, rounded)


@on_cpu
@pytest.mark.parametrize("isa", [isa for isa in ("portable", "avx2", "avx512") if isa != IN_USE])
def test_every_instruction_set_matches_the_reference(isa: str, tmp_path: Path) -> None:
    if isa not in seqkern.build_info()["isas_compiled"]:
        pytest.skip(f"{isa} is not compiled")
    result = subprocess.run(
        [sys.executable, str(WORKER), str(tmp_path / "found")],
        env=os.environ | {"SEQKERN_ISA": isa},
        capture_output=True,
        text=True,
        timeout=120,
    )
    if "asks for more than this CPU has" in result.stderr:
        pytest.skip(f"this CPU has no {isa}")
    assert result.returncode == 0, result.stderr
    found = torch.load(tmp_path / "found")
    assert found.pop("isa") == isa
    assert len(found["trained"]) == len(ALL)
    for case, trained in zip(ALL, found["trained"], strict=True):
        assert_as_accurate(Trained(*trained), case, *references(case))


@on_cpu
def test_saturated_dots_give_the_exact_loss_and_no_overflow() -> None:
    problem = Case(vocabulary=3, vector_size=2, rate=1e-6, rate_step=0.0, length=40).draw()
    problem.input *= 30.0
    problem.output *= 30.0
    expected, rounded = problem.reference(), problem.reference(np.float32)
    assert expected.loss / expected.examples > 50
    assert_as_accurate(problem.train(), problem.case, expected, rounded)


@on_cpu
def test_places_may_have_more_than_32_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a text of 17 GB, a file whose blocks are nowhere but for some words around place 2^32."""
    first = 2**32 - 100
    case = Case(keep=True, length=200, rate_step=-1e-12)
    problem = case.draw()
    problem.ids[0] = -1
    with (tmp_path / "ids").open("wb") as file:
        file.seek(4 * first)
        file.write(problem.ids.numpy().tobytes())
    ids = torch.from_file(str(tmp_path / "ids"), size=first + 200, dtype=torch.int32)
    found = problem.train(ids=ids, begin=first, end=first + 200)

    random = WordVectors._random
    monkeypatch.setattr(
        WordVectors,
        "_random",
        lambda self, blocks: random(self, [(first + place, block) for place, block in blocks]),
    )
    problem.case = replace(case, rate=case.rate + first * case.rate_step)
    expected, rounded = problem.reference(), problem.reference(np.float32)
    assert_as_accurate(found, case, expected, rounded)


@on_cpu
@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("deterministic", [False, True])
def test_a_word_without_context_changes_nothing(objective: str, deterministic: bool) -> None:
    problem = Case(objective, deterministic=deterministic).draw()
    found = problem.train(ids=torch.tensor([3, -1, -1, 4, -1], dtype=torch.int32), end=5)
    assert found.totals == [0, 0, 2]
    assert torch.equal(found.input, problem.input)
    assert torch.equal(found.output, problem.output)


# --- slices and workers --------------------------------------------------------------------------

LARGE = [
    Case(
        objective,
        vector_size=17,
        window=3,
        keep=rich,
        subwords=rich,
        length=13000,
        rate=0.01,
        rate_step=-5e-7,
    )
    for objective in OBJECTIVES
    for rich in (False, True)
]


@on_cpu
@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize("case", LARGE, ids=str)
def test_slices_of_whole_chunks_give_the_same_bits(case: Case, deterministic: bool) -> None:
    problem = case.draw()
    whole = problem.train(deterministic=deterministic)
    cuts = [0, 0, 2048, 2048, 6144, 12288, 13000, 13000]  # empty slices, too
    slices = list(itertools.pairwise(cuts))
    sliced = problem.train(slices, deterministic=deterministic)
    assert torch.equal(sliced.input, whole.input)
    assert torch.equal(sliced.output, whole.output)
    assert sliced.totals[1:] == whole.totals[1:]
    assert sliced.totals[0] == pytest.approx(whole.totals[0], rel=1e-12)
    assert_equal(problem.train(deterministic=deterministic), whole)


@on_cpu
@pytest.mark.parametrize("case", LARGE, ids=str)
def test_deterministic_training_has_the_same_bits_for_every_number_of_workers(case: Case) -> None:
    problem = case.draw()
    one = problem.train(deterministic=True, end=1500)
    assert not torch.equal(one.input, problem.train(end=1500).input)
    for workers in (2, 3, 8):
        assert_equal(problem.train(deterministic=True, workers=workers, end=1500), one)
    torch.use_deterministic_algorithms(True)
    try:
        assert_equal(problem.train(workers=2, end=1500), one)
    finally:
        torch.use_deterministic_algorithms(False)


@on_cpu
@pytest.mark.parametrize("case", LARGE, ids=str)
def test_workers_without_locks_train_on_the_same_examples(case: Case) -> None:
    problem = case.draw()
    one = problem.train()
    for workers in (0, 2, 5):
        found = problem.train(workers=workers)
        assert found.totals[1:] == one.totals[1:]
        assert found.totals[0] == pytest.approx(one.totals[0], rel=0.02)
        assert error(found.input, one.input.double().numpy()) < 0.3
        assert not found.input[:, 17:].any()


@on_cpu
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_changes_of_all_workers_are_added(objective: str) -> None:
    # At so low a rate, all changes are those at the first matrices, in whatever order. Words are
    # rare enough for a fair share of their changes to come after the last turn of their row.
    problem = Case(objective, vocabulary=2000, length=6 * 2048, rate=1e-4, rate_step=0).draw()
    before = problem.input.double(), problem.output.double()
    one, many = (problem.train(workers=workers) for workers in (1, 3))
    for name, start in zip(("input", "output"), before, strict=True):
        expected, found = (getattr(trained, name).double() - start for trained in (one, many))
        assert expected.abs().max() > 1e-4
        # Of two that write a row at the same time, one may lose its change; not so in most rows.
        rows = expected.norm(dim=1) > 0
        errors = (found - expected).norm(dim=1)[rows] / expected.norm(dim=1)[rows]
        assert errors.median() < 0.05


@on_cpu
def test_totals_are_added_to() -> None:
    problem = Case().draw()
    before = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    expected = (before + torch.tensor(problem.train().totals, dtype=torch.float64)).tolist()
    assert problem.train(totals=before).totals == expected


@on_cpu
def test_epoch_and_seed_change_what_is_drawn() -> None:
    problem = Case(length=400).draw()
    found = [problem.train(**changed) for changed in ({}, {"seed": 2}, {"epoch": 1})]
    assert len({trained.totals[0] for trained in found}) == 3


# --- checks --------------------------------------------------------------------------------------

NOISE, PATHS = Case(vocabulary=4, length=9), Case("sg hs", vocabulary=4, length=9)
SUBWORDS = Case(vocabulary=4, length=9, subwords=True, keep=True)


def ints(*values: int) -> Tensor:
    return torch.tensor(values, dtype=torch.int32)


BAD: dict[str, tuple[Case, dict[str, Any], type[Exception], str]] = {
    "input dtype": (NOISE, {"input": torch.zeros(4, 16).double()}, TypeError, "input has dtype"),
    "output dtype": (NOISE, {"output": torch.zeros(4, 16).half()}, TypeError, "output has dtype"),
    "ids dtype": (NOISE, {"ids": torch.zeros(9).long()}, TypeError, "ids has dtype Long, exp"),
    "totals dtype": (NOISE, {"totals": torch.zeros(3)}, TypeError, "totals has dtype Float"),
    "input rank": (NOISE, {"input": torch.zeros(64)}, ValueError, "input has shape [64], "),
    "ids rank": (NOISE, {"ids": torch.zeros(3, 3).int()}, ValueError, "ids has shape [3, 3]"),
    "totals size": (NOISE, {"totals": torch.zeros(2).double()}, ValueError, "expected [3]"),
    "row size": (NOISE, {"input": torch.zeros(4, 24)}, ValueError, "a multiple of 16 floats"),
    "empty rows": (NOISE, {"input": torch.zeros(4, 0)}, ValueError, "a multiple of 16 floats"),
    "row sizes": (NOISE, {"output": torch.zeros(4, 32)}, ValueError, "expected rows of 16 float"),
    "rows": (NOISE, {"input": torch.zeros(3, 16)}, ValueError, "expected at least 4 rows"),
    "rows and paths": (PATHS, {"input": torch.zeros(3, 16)}, ValueError, "expected at least 4"),
    "strides": (NOISE, {"input": torch.zeros(16, 16).t()}, ValueError, "expected a contiguous"),
    "order of places": (NOISE, {"begin": 5, "end": 4}, ValueError, "begin and end are 5 and 4"),
    "negative place": (NOISE, {"begin": -1}, ValueError, "begin and end are -1 and 9"),
    "place past the end": (NOISE, {"end": 10}, ValueError, "expected 0 <= begin <= end <= 9"),
    "vector size": (NOISE, {"vector_size": 17}, ValueError, "vector_size is 17, expected 1 to 16"),
    "no vector size": (NOISE, {"vector_size": 0}, ValueError, "vector_size is 0, expected 1 to"),
    "window": (NOISE, {"window": 0}, ValueError, "window is 0, expected 1"),
    "great window": (NOISE, {"window": 1 << 40}, ValueError, "window is 1099511627776, exp"),
    "negatives": (NOISE, {"negatives": 0}, ValueError, "negatives is 0, expected 1"),
    "many draws": (
        NOISE,
        {"window": 1 << 20, "negatives": 1 << 20},
        ValueError,
        "window and negatives are 1048576 and 1048576, expected a product",
    ),
    "epoch": (NOISE, {"epoch": 1 << 32}, ValueError, "epoch is 4294967296, expected 0 to 2^32"),
    "workers": (NOISE, {"workers": -1}, ValueError, "workers is -1, expected 0 to 4096"),
    "word": (NOISE, {"ids": ints(0, 1, 2, 4, -1, 3, 2, 1, 5)}, IndexError, "ids holds 4 at pos"),
    "neither": (NOISE, {"noise": None}, ValueError, "neither noise nor path is given"),
    "both": (PATHS, {"noise": torch.zeros(4, 2).int()}, ValueError, "noise and path are both"),
    "noise shape": (NOISE, {"noise": torch.zeros(5, 2).int()}, ValueError, "noise has shape [5,"),
    "alias": (
        NOISE,
        {"noise": ints(0, 1, 0, 1, 0, 4, 0, 1).view(4, 2)},
        IndexError,
        "noise holds the alias 4 at position 2, expected 0 to 3",
    ),
    "keep": (SUBWORDS, {"keep": ints(1, 2, 3)}, ValueError, "keep has shape [3], expected [4]"),
    "lonely path": (PATHS, {"path_labels": None}, ValueError, "path, path_labels and path_off"),
    "lonely subwords": (SUBWORDS, {"subword_offsets": None}, ValueError, "subwords and subword_o"),
    "offsets dtype": (SUBWORDS, {"subword_offsets": ints(0, 1)}, TypeError, "subword_offsets has"),
    "offsets": (
        SUBWORDS,
        {"subword_offsets": torch.tensor([0, 1, 2, 3, 4])},
        ValueError,
        "subword_offsets goes from 0 to 4, expected 0 to ",
    ),
    "empty list": (
        SUBWORDS,
        {"subwords": ints(0, 1, 2), "subword_offsets": torch.tensor([0, 1, 1, 2, 3])},
        ValueError,
        "subword_offsets has 1 and 1 at position 1, expected a step of 1 to ",
    ),
    "long list": (
        SUBWORDS,
        {
            "subwords": ints(0, 1, 2, 3, 4),
            "subword_offsets": torch.tensor([0, 2, 3, 4, 5]),
            "most_subwords": 1,
        },
        ValueError,
        "subword_offsets has 0 and 2 at position 0, expected a step of 1 to 1",
    ),
    "no elements": (
        SUBWORDS,
        {"subwords": ints(), "subword_offsets": torch.zeros(5).long()},
        ValueError,
        "subword_offsets has 0 and 0",
    ),
    "row past the end": (
        SUBWORDS,
        {"subwords": ints(0, 1, 2, 11), "subword_offsets": torch.arange(5)},
        IndexError,
        "subwords holds 11 at position 3, expected less than 11",
    ),
    "negative row": (
        SUBWORDS,
        {"subwords": ints(0, 1, -2, 3), "subword_offsets": torch.arange(5)},
        IndexError,
        "subwords holds -2 at position 2, expected 0 or more",
    ),
    "many subwords": (SUBWORDS, {"most_subwords": 1 << 50}, ValueError, "most_subwords is "),
    "node": (
        PATHS,
        {
            "path": ints(0, 1, 3, 2),
            "path_offsets": torch.arange(5),
            "path_labels": torch.ones(4).byte(),
        },
        IndexError,
        "path holds 3 at position 2, expected less than 3",
    ),
    "labels": (PATHS, {"path_labels": torch.ones(3).byte()}, ValueError, "path_labels has shape"),
    "no path": (
        PATHS,
        {"path": ints(), "path_labels": ints().byte(), "path_offsets": torch.zeros(5).long()},
        ValueError,
        "path_offsets has 0 and 0",
    ),
    "many nodes": (PATHS, {"most_nodes": -1}, ValueError, "most_nodes is -1"),
}


@on_cpu
@pytest.mark.parametrize("wrong", BAD)
def test_bad_arguments_raise_and_change_nothing(wrong: str) -> None:
    case, changed, kind, message = BAD[wrong]
    problem = case.draw()
    arguments = problem.arguments(**changed)
    before = {name: value.clone() for name, value in arguments.items() if torch.is_tensor(value)}
    with pytest.raises(kind) as raised:
        torch.ops.seqkern.train_word_vectors_(**arguments)
    assert message in str(raised.value)
    assert all(torch.equal(arguments[name], value) for name, value in before.items())


@on_cpu
def test_words_outside_the_places_may_be_anything() -> None:
    problem = Case(vocabulary=4, length=9).draw()
    ids = ints(9, 0, 1, 2, 1, 0, 1, 3, 2**31 - 1)
    found = problem.train(ids=ids, begin=1, end=8)
    ends = ints(-1, 0, 1, 2, 1, 0, 1, 3, -1)
    assert_equal(found, problem.train(ids=ends, begin=1, end=8))


@on_cpu
def test_a_lazy_clone_is_copied_before_it_changes() -> None:
    problem = Case().draw()
    arguments = problem.arguments()
    clones = {name: torch._lazy_clone(arguments[name]) for name in ("input", "output", "totals")}
    torch.ops.seqkern.train_word_vectors_(**{**arguments, **clones})
    assert torch.equal(arguments["input"], problem.input)
    assert not torch.equal(clones["input"], problem.input)
    assert not arguments["totals"].any()


def test_the_op_agrees_with_its_schema_and_fake_implementation() -> None:
    arguments = Case().draw().arguments()
    positional = [
        arguments.pop(name) for name in ("input", "output", "totals", "ids", "begin", "end")
    ]
    torch.library.opcheck(
        torch.ops.seqkern.train_word_vectors_,
        tuple(positional),
        arguments,
        test_utils=("test_schema", "test_faketensor"),
    )
