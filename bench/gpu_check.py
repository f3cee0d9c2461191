"""Build, test, sanitize and time seqkern on this machine's GPU, and write one report.

    python bench/gpu_check.py --out docs/results
    python bench/gpu_check.py --out OUT --stages facts build benchmarks --only tuning
    python bench/gpu_check.py --out OUT --go-on --stages training --data PTB

`make gpu-check` runs it. It needs a GPU, the CUDA toolkit, and a torch with CUDA in the Python that
runs it; no network. All of it ends within --seconds: every stage has a limit, one that fails or
runs out of time is reported, and the next one runs. <gpu's name>/gpu-check.md, .json and .svg are
written after each stage; all that was printed is in build/gpu-check/log.txt. With --go-on, a later
run adds to the report of an earlier one. See docs/guides/gpu-check.md.
"""

import argparse
import importlib.util
import json
import os
import re
import shlex
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from gpu_facts import first_line
from gpu_report import read_lines, summary, unfinished, write
from gpu_stages import Record, Stage, printed, run_stages

ROOT = Path(__file__).resolve().parents[1]
BENCH = ROOT / "bench"
DEFAULT_STAGES = ("facts", "synchronisation", "build", "tests", "sanitizers", "benchmarks")
STAGES = (*DEFAULT_STAGES, "training")
# What pytest is given: first what only tensors on a device can show.
TESTS = {"device-tests": ["test_cuda.py"], "suite": [".", "--ignore=test_cuda.py"]}
TOOLS = ("memcheck", "racecheck", "synccheck")
START_UP_SECONDS = 15  # of a process that loads torch, under compute-sanitizer
SANITIZER_OPTIONS = {
    # Errors of calls of the CUDA API are torch's own to handle; its kernels' are not.
    "memcheck": ["--report-api-errors=no", "--padding=256"],
    "racecheck": ["--kernel-name", "kns=seqkern"],
    "synccheck": ["--kernel-name", "kns=seqkern"],
}

Command = Callable[[float], Sequence[str]]  # of the seconds that it may take


def find_sanitizer() -> str | None:
    """Return the path of compute-sanitizer: on PATH, or in the toolkit."""
    homes = [os.environ.get("CUDA_HOME"), "/usr/local/cuda"]
    nvcc = shutil.which("nvcc")
    folders = [*(f"{home}/bin" for home in homes if home), *([str(Path(nvcc).parent)] * bool(nvcc))]
    return shutil.which("compute-sanitizer") or shutil.which(
        "compute-sanitizer", path=os.pathsep.join(folders)
    )


def pytest_command(junit: Path, device: str, files: Sequence[str]) -> list[str]:
    """Return pytest's command; in parallel and with a limit a test, where there are plugins."""
    command = [sys.executable, "-m", "pytest", "-q", "-rfE", f"--junitxml={junit}"]
    command += [f"--backend={device}"]
    if importlib.util.find_spec("xdist"):
        command += ["-n", str(max(1, min(8, (os.cpu_count() or 1) // 2)))]
    if importlib.util.find_spec("pytest_timeout"):
        command += ["--timeout=60", "--timeout-method=thread"]
    return [*command, *files]


@dataclass(frozen=True)
class Check:
    """One run, as asked for.

    Parameters
    ----------
    device
        "cuda", or "cpu" for a dry run: on the seqkern that is installed, and tiny sizes.
    seconds, seconds_per_point, only, data
        As on the command line.
    work
        Folder of the installed extension, of the log and of what stages write.
    """

    device: str
    seconds: float
    seconds_per_point: float = 0.06
    only: Sequence[str] = ()
    work: Path = ROOT / "build/gpu-check"
    data: Path | None = None

    @property
    def log(self) -> Path:
        """All that was printed."""
        return self.work / "log.txt"

    @property
    def results(self) -> Path:
        """All that the report is made of."""
        return self.work / "results.json"

    def clear(self) -> None:
        """Remove what an earlier run left, but for the extension."""
        shutil.rmtree(self.work / "training", ignore_errors=True)
        for pattern in ("*.json", "*.jsonl", "*.txt", "*.xml"):
            for file in self.work.glob(pattern):
                file.unlink()

    def stages(self, chosen: Sequence[str] = DEFAULT_STAGES) -> list[Stage]:
        """Return the chosen stages, in order; facts are always wanted."""
        everything = {
            "facts": [self.facts()],
            "synchronisation": [self.synchronisation()] if self.device == "cuda" else [],
            "build": [self.build()] if self.device == "cuda" else [],
            "tests": [self.tests(name) for name in TESTS],
            "sanitizers": [
                self.sanitizer(t) for t in (TOOLS if self.device == "cuda" else TOOLS[:1])
            ],
            "benchmarks": [self.benchmarks()],
            "training": [self.training()],
        }
        return [s for name in everything if name in ("facts", *chosen) for s in everything[name]]

    def script(self, name: str, *arguments: object) -> list[str]:
        """Return the command of a script beside this one."""
        device = f"--device={self.device}"
        return [sys.executable, str(BENCH / name), device, *map(str, arguments)]

    def stage(self, name: str, command: Command, limit: float, least: float, **more: Any) -> Stage:
        """Return a stage that uses the extension just built."""
        found = [str(self.work / "site"), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
        variables = {
            "PYTHONPATH": os.pathsep.join(folder for folder in found if folder),
            "PYTHONUNBUFFERED": "1",
            **more.pop("environment", {}),
        }
        needs = ("facts", "build")
        return Stage(name, command, limit, least, needs, environment=variables, **more)

    def facts(self) -> Stage:
        """Describe the machine."""
        out = self.work / "facts.json"
        return Stage("facts", lambda _: self.script("gpu_facts.py", "--out", out), 60)

    def synchronisation(self) -> Stage:
        """Time how blocks of a kernel hand on data; it takes no extension."""
        script = [sys.executable, str(BENCH / "gpu_synchronisation.py")]
        command = [*script, "--out", str(self.work / "synchronisation.jsonl")]
        return Stage("synchronisation", lambda _: command, 40, least=20, needs=("facts",))

    def build(self) -> Stage:
        """Build the extension into a folder of its own, for this GPU alone."""

        def command(_: float) -> list[str]:
            facts = json.loads((self.work / "facts.json").read_text())
            architecture = facts["capability"] + ("a" if float(facts["capability"]) >= 9 else "")
            architecture = os.environ.get("TORCH_CUDA_ARCH_LIST", architecture)
            pip = [sys.executable, "-m", "pip", "install", "--no-index", "--no-build-isolation"]
            pip += ["--no-deps", "--upgrade", "--target", str(self.work / "site"), str(ROOT)]
            return ["env", "SEQKERN_CUDA=1", f"TORCH_CUDA_ARCH_LIST={architecture}", *pip]

        return Stage("build", command, 220, needs=("facts",), folder=ROOT)

    def tests(self, name: str) -> Stage:
        """Run a part of the tests on the device's kernels."""
        return self.stage(
            name,
            lambda _: pytest_command(self.junit(name), self.device, TESTS[name]),
            limit=110,
            least=30,
            folder=ROOT / "python_tests",
            environment={"OMP_NUM_THREADS": "2"},
        )

    def junit(self, name: str) -> Path:
        """Return where pytest writes the results of a part."""
        return self.work / f"{name}.xml"

    def sanitizer(self, tool: str) -> Stage:
        """Run a tool of compute-sanitizer over every op; a dry run does without the tool."""
        path = find_sanitizer()
        dry = self.device == "cpu"

        def command(seconds: float) -> list[str]:
            runs = self.script("gpu_sanitize.py", "--seconds", max(seconds - START_UP_SECONDS, 1))
            head = [str(path), "--tool", tool, "--error-exitcode=9", "--print-limit=20"]
            return runs if dry else [*head, *SANITIZER_OPTIONS[tool], *runs]

        return self.stage(
            tool,
            command,
            limit=60,
            least=30,
            missing="" if path or dry else "the toolkit has no compute-sanitizer",
            # Each tensor in memory of its own, so that what is past its end is nobody's.
            environment={"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"},
        )

    def benchmarks(self) -> Stage:
        """Time what there is time for; where a kernel takes the process down, the next goes on."""

        def command(seconds: float) -> list[str]:
            arguments = ["--results", self.work / "points.jsonl", "--seconds", max(seconds - 5, 1)]
            arguments += ["--seconds-per-point", self.seconds_per_point, "--only", *self.only]
            return self.script("gpu_bench.py", *arguments)

        return self.stage("benchmarks", command, self.seconds, least=90, goes_on=True)

    def training(self) -> Stage:
        """Train language models, in what time is left."""

        def command(seconds: float) -> list[str]:
            arguments = ["--data", self.data, "--out", self.work / "training.json"]
            return self.script("gpu_training.py", *arguments, "--seconds", max(seconds - 5, 1))

        missing = ""
        if self.data is None:
            missing = "no --data: a folder with the texts of PTB"
        elif not self.data.is_dir():
            missing = f"--data {self.data.name} is no folder"
        # By default cuDNN may round to TF32, and nothing else may: here all may.
        alike = {"TORCH_ALLOW_TF32_CUBLAS_OVERRIDE": "1"}
        return self.stage(
            "training", command, self.seconds, least=60, missing=missing, environment=alike
        )

    def found(self, record: Record) -> dict[str, Any]:
        """Return what a stage left."""
        if record.outcome == "not run":
            return {}
        if record.name == "facts":
            file = self.work / "facts.json"
            return {"facts": json.loads(file.read_text())} if file.exists() else {}
        if record.name == "synchronisation":
            return {"synchronisation": read_lines(self.work / "synchronisation.jsonl")}
        if record.name in TESTS:
            return {"tests": {record.name: junit_results(self.junit(record.name))}}
        if record.name in TOOLS:
            return {"sanitizers": {record.name: sanitizer_results(printed(self.log))}}
        if record.name == "training":
            file = self.work / "training.json"
            return {"training": json.loads(file.read_text())} if file.exists() else {}
        if record.name == "benchmarks":
            return benchmark_results(read_lines(self.work / "points.jsonl"))
        return {}


def junit_results(file: Path) -> dict[str, Any]:
    """Return the counts of a JUnit file, why tests were skipped, and what failed."""
    if not file.exists():
        return {"passed": "no results were written", "failed": "?", "skipped": "?", "failures": []}
    cases = list(ElementTree.parse(file).getroot().iter("testcase"))
    failures = [
        {
            "test": f"{case.get('classname')}::{case.get('name')}",
            "message": (case[0].get("message") or case[0].text or "").strip()[:300],
        }
        for case in cases
        if len(case) and case[0].tag in ("failure", "error")
    ]
    skips = [case.find("skipped") for case in cases]
    reasons = Counter(skip.get("message", "") for skip in skips if skip is not None)
    skipped = reasons.total()
    return {
        "passed": len(cases) - len(failures) - skipped,
        "failed": len(failures),
        "skipped": skipped,
        "reasons": dict(reasons),
        "failures": failures,
    }


def sanitizer_results(text: str) -> dict[str, Any]:
    """Return the summary of compute-sanitizer, and how many of the runs were made."""
    ran = re.search(r"^ran (\d+ of \d+)$", text, re.MULTILINE)
    return {
        "summary": re.findall(r"^=+ (\w+ SUMMARY: .*)$", text, re.MULTILINE),
        "covered": ran[1] if ran else None,
    }


def benchmark_results(lines: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what gpu_bench.py wrote."""
    heads = {
        key: line[key] for line in lines for key in ("build", "planned", "after") if key in line
    }
    rows = [line for line in lines if "end" in line]
    return {**heads, "rows": rows, "unfinished": unfinished(lines)}


def main(arguments: list[str]) -> int:
    """Run the stages, and write the report after each."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--out", type=Path, default=ROOT / "docs/results", help="folder of the report"
    )
    parser.add_argument("--seconds", type=float, default=560, help="of everything (default 560)")
    parser.add_argument("--seconds-per-point", type=float, default=0.06, help="as gpu_bench.py")
    parser.add_argument(
        "--stages", nargs="*", choices=STAGES, default=DEFAULT_STAGES, help="(default: the first 6)"
    )
    parser.add_argument(
        "--go-on",
        action="store_true",
        help="keep what earlier stages found, the points measured and the models trained",
    )
    parser.add_argument("--only", nargs="*", default=[], help="points, as gpu_bench.py")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu: a dry run")
    parser.add_argument("--work", type=Path, default=Check.work, help="folder of all else")
    parser.add_argument("--data", type=Path, help="folder of PTB, for the stage training")
    options = parser.parse_args(arguments)

    check = Check(
        options.device,
        options.seconds,
        options.seconds_per_point,
        options.only,
        options.work.resolve(),
        options.data,
    )
    check.work.mkdir(parents=True, exist_ok=True)
    if not options.go_on:
        check.clear()
    data: dict[str, Any] = {
        **{key: {} for key in ("facts", "build", "after", "tests", "sanitizers")},
        "planned": 0,
        **{key: [] for key in ("synchronisation", "training", "unfinished", "stages", "rows")},
        "commands": [],
        **(json.loads(check.results.read_text()) if check.results.exists() else {}),
        "device": options.device,
    }
    data["commands"].append(
        {
            "command": shlex.join(["python", "bench/gpu_check.py", *arguments]),
            "date": time.strftime("%Y-%m-%d", time.gmtime()),
            "commit": first_line("git", "-C", str(ROOT), "describe", "--always", "--dirty"),
        }
    )
    failed = False
    for record in run_stages(check.stages(options.stages), options.seconds, check.log):
        print(f"{record.name}: {record.outcome}, {record.seconds:.0f} s", flush=True)
        failed |= record.outcome in ("failed", "out of time")
        data["stages"].append(asdict(record))
        for key, value in check.found(record).items():
            data[key] = {**data[key], **value} if key in ("tests", "sanitizers") else value
        if not data["facts"]:
            print(*record.tail, sep="\n")
            return 1
        check.results.write_text(json.dumps(data))
        page = write(data, options.out)
    print(*summary(data), f"{page} and {page.with_suffix('.json').name} were written", sep="\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
