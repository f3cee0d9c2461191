"""What the tests of the command line share."""

import pytest

from seqkern.cli import main


def error_line(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> str:
    """Run a command that must fail; return its message, checked to be one line."""
    capsys.readouterr()
    assert main(arguments) == 2
    output = capsys.readouterr()
    assert output.err.startswith("seqkern: error: ")
    assert output.err.count("\n") == 1
    return output.err.removeprefix("seqkern: error: ").rstrip()
