"""nvcc, keeping what ptxas says of each kernel (registers, spills) in a file beside the object.

    python nvcc_log.py NVCC ARGUMENTS...

The build system runs it in nvcc's place, so that an object and its `.ptxas` are of one compilation.
Where ccache is installed, nvcc runs through it (ccache keeps the messages as well).
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path


def main(command: list[str]) -> int:
    """Run `command`, an nvcc with its arguments, and return its exit status."""
    launcher = [ccache] if (ccache := shutil.which("ccache")) else []
    # By its content: each environment has an nvcc of its own.
    environment = os.environ | {"CCACHE_COMPILERCHECK": "content"}
    command = [*launcher, *command, "-Xptxas=-v"]
    answer = subprocess.run(command, stderr=subprocess.PIPE, text=True, env=environment)
    if answer.returncode != 0 or "-o" not in command:
        sys.stderr.write(answer.stderr)
    else:
        Path(command[command.index("-o") + 1]).with_suffix(".ptxas").write_text(answer.stderr)
    return answer.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
