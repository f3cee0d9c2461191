"""The softmax loss over two processes that share a vocabulary: results are those of one process."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed

from softmax_cases import fused, reference, scaled_error
from softmax_worker import CLASSES, cases

pytestmark = [
    pytest.mark.backends("cpu", reason="its processes run the CPU kernels"),
    pytest.mark.skipif(
        not torch.distributed.is_available() or not torch.distributed.is_gloo_available(),
        reason="this torch is built without gloo",
    ),
]

WORKER = Path(__file__).with_name("softmax_worker.py")
CASES = cases()
TOLERANCE = {torch.float64: 1e-14, torch.float32: 2e-6}
DISTRIBUTED = ("d_logits", "d_weight", "d_bias")  # each process has those of its classes


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each process finds."""
    folder = tmp_path_factory.mktemp("shards")
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    result = subprocess.run(
        [*launch, str(WORKER), str(folder)], capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 0, result.stderr
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


@pytest.mark.parametrize("name", CASES)
def test_two_processes_find_what_one_does(found: list[dict[str, Any]], name: str) -> None:
    problem, _ = CASES[name]
    first, second = (of[name] for of in found)
    expected, of_one = reference(problem), fused(problem)
    for key, array in expected.arrays.items():
        if key in DISTRIBUTED:
            actual = torch.cat([first[key], second[key]], -1 if key == "d_logits" else 0)
        else:
            assert torch.equal(first[key], second[key]), key
            actual = first[key]
        assert actual.dtype == of_one[key].dtype
        assert scaled_error(actual, array, expected.scales[key]) < TOLERANCE[problem.dtype], key
    assert torch.equal(first["argmax"], second["argmax"])
    assert torch.equal(first["argmax"], of_one["argmax"])


def test_all_classes_of_the_first_process_may_be_masked(found: list[dict[str, Any]]) -> None:
    names = [name for name in CASES if "masked" in name]
    assert len(names) == 2
    for name in names:
        first = found[0][name]
        assert not first["d_logits" if "logits" in name else "d_bias"].any()
        assert (first["argmax"][first["argmax"] >= 0] >= CLASSES // 2).all()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("classes", "ValueError: logits has 10 classes, expected 11 as the shard [0, 11) has"),
        ("probabilities", "ValueError: target holds probabilities, expected class indices where"),
        ("target", "IndexError: target holds 23 at position 0, expected 0 <= target < V = 23"),
        ("second derivative", "NotImplementedError: a loss over a split vocabulary has no second"),
        ("gradient of class weights", "NotImplementedError: "),
    ],
)
def test_what_a_split_vocabulary_cannot_do_is_refused(
    found: list[dict[str, Any]], wrong: str, message: str
) -> None:
    assert found[0]["refusals"][wrong].startswith(message)
