"""Each instruction set compiled in passes the tests of the numbers, in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import seqkern

pytestmark = pytest.mark.backends("cpu", reason="about the CPU kernels")

TESTS = [
    "test_recurrent.py::test_outputs_and_gradients_match_the_reference",
    "test_recurrent.py::test_sigmoid_and_tanh_are_accurate_everywhere",
    "test_recurrent.py::test_saturated_gates_give_exact_values_and_no_gradient",
    "test_recurrent.py::test_nan_and_infinity_spread_as_in_the_reference",
    "test_recurrent.py::test_two_threads_are_as_accurate_as_one",
    "test_softmax.py::test_loss_and_gradient_match_the_reference",
    "test_softmax.py::test_float32_is_at_most_twice_as_wrong_as_cross_entropy",
    "test_softmax.py::test_exp_and_log_are_accurate_everywhere",
    "test_softmax.py::test_nan_stays_in_its_row_and_reaches_the_loss",
    "test_softmax_options.py::test_loss_statistics_and_gradient_match_the_reference",
    "test_linear_softmax.py::test_loss_statistics_and_gradients_match_the_reference",
    "test_negative_sampling.py::test_loss_and_gradients_match_the_reference",
    "test_negative_sampling.py::test_dots_and_their_gradients_match_the_reference",
    "test_negative_sampling.py::test_log_sigmoid_and_its_slope_are_accurate_everywhere",
]
HERE = Path(__file__).parent
IN_USE = seqkern.build_info()["isa"]  # tested by this process itself


@pytest.mark.parametrize("isa", [i for i in seqkern.build_info()["isas_compiled"] if i != IN_USE])
def test_instruction_set_passes_the_tests_of_the_numbers(isa: str) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider"]
    result = subprocess.run(
        [*command, *(str(HERE / test) for test in TESTS)],
        cwd=HERE,
        env=os.environ | {"SEQKERN_ISA": isa},
        capture_output=True,
        text=True,
        timeout=600,
    )
    if "asks for more than this CPU has" in result.stdout:
        pytest.skip(f"this CPU has no {isa}")
    assert result.returncode == 0, result.stdout[-5000:]
    assert " passed" in result.stdout
    assert "skipped" not in result.stdout
