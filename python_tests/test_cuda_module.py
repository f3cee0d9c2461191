"""The choice of a recurrent kernel by argument."""

import os

import pytest

import seqkern.cuda

VARIABLE = "SEQKERN_RECURRENT_KERNEL"


@pytest.mark.parametrize(
    ("kernel", "units", "groups", "text"),
    [
        ("steps", None, None, "steps"),
        ("grid", None, None, "grid"),
        ("grid", 8, None, "grid:8"),
        ("grid", None, 4, "grid::4"),
        ("cluster", 32, 2, "cluster:32:2"),
    ],
)
def test_kernel_is_chosen_within_the_block(
    kernel: str, units: int | None, groups: int | None, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    with seqkern.cuda.recurrent_kernel(kernel, units=units, groups=groups):
        assert os.environ[VARIABLE] == text
        with pytest.raises(ZeroDivisionError), seqkern.cuda.recurrent_kernel("steps"):
            raise ZeroDivisionError
        assert os.environ[VARIABLE] == text
    assert VARIABLE not in os.environ


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kernel": "warp"}, "kernel is 'warp', expected 'steps', 'grid' or 'cluster'"),
        ({"kernel": "grid", "units": 32}, "units is 32, expected 8 or 16 for 'grid'"),
        ({"kernel": "steps", "units": 8}, "units is 8, expected none for 'steps'"),
        ({"kernel": "grid", "groups": 0}, "groups is 0, expected 1 or more"),
        ({"kernel": "steps", "groups": 1}, "groups is 1, expected 1 or more, and none for 'steps'"),
    ],
)
def test_bad_arguments_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"), seqkern.cuda.recurrent_kernel(**arguments):
        pass
