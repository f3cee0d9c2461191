"""Registers, spills, stack and static shared memory of every CUDA kernel, and a check for spills.

    python bench/cuda_resources.py --out docs/results

Reads what ptxas said in the last `make test-cuda-build`, for the torch of the Python that runs it;
no GPU is needed. Writes cuda-resources.md. Fails if a kernel spills that is not in ALLOWED_SPILLS.
"""

import argparse
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from tables import table

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "build_backend"))

from seqkern_build.cuda import plan_cuda, toolkit_version  # noqa: E402
from seqkern_build.sources import read_sources  # noqa: E402

# Every kernel is hot but these: a pattern for the whole of "kernel<arguments>", and why it may
# spill. Double precision alone is reason enough: it is for gradient checks.
ALLOWED_SPILLS: dict[str, str] = {}

REGISTERS_OF_QUARTER = 16384  # a multiprocessor (8.0 to 9.0) has four parts of 16384 registers,
MOST_WARPS_OF_QUARTER = 16  # each for at most 16 warps; a thread's come by eights


@dataclass(frozen=True)
class Usage:
    """What a kernel takes on one architecture: of a thread, and shared memory of a block."""

    registers: int
    stack: int
    spill_stores: int
    spill_loads: int
    shared: int

    @property
    def warps(self) -> int:
        """How many warps a multiprocessor has registers for."""
        of_warp = 32 * 8 * -(-self.registers // 8)
        return 4 * min(REGISTERS_OF_QUARTER // of_warp, MOST_WARPS_OF_QUARTER)

    @property
    def spills(self) -> str:
        """Bytes stored and loaded."""
        stores, loads = self.spill_stores, self.spill_loads
        return f"{stores} + {loads}" if stores or loads else "0"


Kernels = dict[str, dict[str, Usage]]  # usage by architecture, by kernel

_ENTRY = re.compile(
    r"Compiling entry function '(?P<symbol>\w+)' for '(?P<arch>\w+)'\n"
    r".*Function properties for (?P=symbol)\n"
    r"\s*(?P<stack>\d+) bytes stack frame, (?P<stores>\d+) bytes spill stores, "
    r"(?P<loads>\d+) bytes spill loads\n"
    r".*Used (?P<registers>\d+) registers(?:.*?, (?P<shared>\d+) bytes smem)?"
)
_SPILL = re.compile(r", (?!0 bytes spill stores, 0 bytes spill loads)\d+ bytes spill stores")


def read_log(log: str) -> Kernels:
    """Read what `ptxas -v` says.

    Raises
    ------
    ValueError
        Where an entry cannot be read, or a function spills that is not a kernel: none must go
        unchecked.
    """
    entries = list(_ENTRY.finditer(log))
    if len(entries) != log.count("Compiling entry function"):
        raise ValueError("not every entry of the log of ptxas can be read")
    spilling = [entry for entry in entries if entry["stores"] != "0" or entry["loads"] != "0"]
    if len(spilling) != len(_SPILL.findall(log)):
        raise ValueError("a function that is not inlined in its kernels spills")
    symbols = [entry["symbol"] for entry in entries]
    names = subprocess.run(
        ["c++filt"], input="\n".join(symbols), capture_output=True, text=True, check=True
    )
    kernels: Kernels = {}
    for entry, name in zip(entries, names.stdout.splitlines(), strict=True):
        numbers = (entry[x] for x in ("registers", "stack", "stores", "loads", "shared"))
        usage = Usage(*(int(number or 0) for number in numbers))
        kernels.setdefault(short_name(name), {})[entry["arch"]] = usage
    return kernels


def short_name(demangled: str) -> str:
    """Leave of a kernel's signature its name and template arguments, without their namespaces."""
    name = re.sub(r"\(anonymous namespace\)::|\b(?:seqkern|cuda|math)::", "", demangled)
    name = name.removeprefix("void ")
    depth = 0
    for at, character in enumerate(name):
        depth += {"<": 1, ">": -1}.get(character, 0)
        if character == "(" and depth == 0:
            return name[:at]
    return name


def forbidden_spills(kernels: Kernels) -> list[str]:
    """Say what spills of kernels that are not allowed to."""
    return [
        f"{name}, {arch}: {usage.spills} bytes"
        for name, usages in kernels.items()
        for arch, usage in usages.items()
        if usage.spills != "0"
        and not any(re.fullmatch(pattern, name) for pattern in ALLOWED_SPILLS)
    ]


def joined(values: Sequence[object]) -> str:
    """Write values of architectures: one, if they are the same."""
    return " / ".join(map(str, values if len(set(values)) > 1 else values[:1]))


def kernel_table(kernels: Kernels) -> list[str]:
    """Return a row a kernel."""
    columns: list[Callable[[Usage], object]] = [
        lambda usage: usage.registers,
        lambda usage: usage.warps,
        lambda usage: usage.spills,
        lambda usage: usage.stack,
        lambda usage: usage.shared,
    ]
    rows = [
        [f"`{name}`", *(joined([column(usage) for usage in usages.values()]) for column in columns)]
        for name, usages in sorted(kernels.items())
    ]
    return table(["kernel", "registers", "warps", "spilled", "stack", "shared"], rows)


def family_table(families: dict[str, Kernels]) -> list[str]:
    """Return a row a kernel template, with the extremes of its instantiations."""
    rows = []
    for source, kernels in families.items():
        templates: dict[str, list[dict[str, Usage]]] = {}
        for name, usages in sorted(kernels.items()):
            templates.setdefault(name.partition("<")[0], []).append(usages)
        for template, members in templates.items():
            by_arch = [[usages[arch] for usages in members] for arch in members[0]]
            columns = [
                [max(usage.registers for usage in usages) for usages in by_arch],
                [min(usage.warps for usage in usages) for usages in by_arch],
                [sum(usage.spills != "0" for usage in usages) for usages in by_arch],
                [max(usage.stack for usage in usages) for usages in by_arch],
                [max(usage.shared for usage in usages) for usages in by_arch],
            ]
            title = f"{Path(source).name}: `{template}`"
            rows.append([title, str(len(members)), *map(joined, columns)])
    head = ["template", "kernels", "registers", "warps", "kernels that spill", "stack", "shared"]
    return table(head, rows)


def page(families: dict[str, Kernels], command: str, compiler: str) -> str:
    """Return the whole page."""
    architectures = next(iter(next(iter(families.values())).values()))
    exempt = "; ".join(f"`{pattern}`: {why}" for pattern, why in ALLOWED_SPILLS.items())
    lines = [
        "# Registers, spills and shared memory of the CUDA kernels",
        "",
        f"`{command}`, after `make test-cuda-build`",
        "",
        f"- {compiler}, `-O3`; {joined(list(architectures))}, one figure where they agree",
        "- registers of a thread; warps, of 64, that a multiprocessor has registers for; bytes "
        "that a thread spills (stored + loaded) and of its stack; bytes of static shared memory",
        f"- a spill fails CI; kernels that may: {exempt or 'none'}",
        "",
        "Most registers, stack and shared memory, and fewest warps, of each template's kernels:",
        "",
        *family_table(families),
        "",
    ]
    for source, kernels in families.items():
        lines += [f"## {source}", "", "<details>", "<summary>kernels</summary>", ""]
        lines += [*kernel_table(kernels), "", "</details>", ""]
    return "\n".join(lines)


def read_logs(folder: Path) -> dict[str, Kernels]:
    """Read the logs of all CUDA sources beside their objects in `folder`.

    Raises
    ------
    ValueError
        Where a log is missing or unreadable, or not every kernel is there for every architecture.
    """
    families = {}
    for source in read_sources(ROOT / "csrc/sources.txt")["cuda"]:
        log = (folder / source).with_suffix(".ptxas")
        if not log.exists():
            raise ValueError(f"no {log}: run `make test-cuda-build` first")
        families[source] = read_log(log.read_text())
    every = [frozenset(usages) for kernels in families.values() for usages in kernels.values()]
    if len(set(every)) != 1:
        raise ValueError("not every kernel is compiled for the same architectures")
    return families


def main(arguments: list[str]) -> int:
    """Print or write the page, and return 1 if there are spills that must not be."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, help="folder for the page; default: print only")
    parser.add_argument("--objects", type=Path, help="default: what setup.py built for this torch")
    options = parser.parse_args(arguments)

    built = f"build/torch-{torch.__version__}-{sys.implementation.cache_tag}"
    try:
        families = read_logs(options.objects or ROOT / built)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    command = shlex.join(["python", "bench/cuda_resources.py", *arguments])
    report = page(families, command, compiler())
    if options.out is None:
        print(report, end="")
    else:
        (options.out / "cuda-resources.md").write_text(report)
    spills = [line for kernels in families.values() for line in forbidden_spills(kernels)]
    for line in spills:
        print(f"spilled (stored + loaded): {line}", file=sys.stderr)
    return 1 if spills else 0


def compiler() -> str:
    """Name the nvcc that setup.py takes."""
    cuda = plan_cuda(torch.version.cuda, Path(torch.__file__).parent.parent, os.environ)
    version = None if isinstance(cuda, str) else toolkit_version(cuda.home)
    return "nvcc of CUDA {}.{}".format(*version) if version else "an unknown nvcc"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
