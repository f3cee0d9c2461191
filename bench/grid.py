"""Measure recurrent layers on the CPU over a grid of sizes, and write docs/results/recurrent-cpu.

    python bench/grid.py --out docs/results
    python bench/grid.py --out docs/results --only gru,rnn   # the rest of the files stays
    python bench/grid.py --out docs/results --only ""        # write the page and the plot again

The sections and their targets are in sections.py, the work itself in recurrent.py. Files are
written after every section: recurrent-cpu.json (all figures), recurrent-cpu.md, recurrent-cpu.svg.
All sections take about 20 minutes. Needs matplotlib.
"""

import argparse
import json
import shlex
import sys
from pathlib import Path
from typing import Any

import torch
from grid_report import markdown, measured_sections
from plot import save_plot
from sections import SECTIONS, Section
from timing import environment

PLOTTED = ("lstm", "gru", "rnn")


def measure_section(section: Section, quick: bool, seconds: float) -> list[dict[str, Any]]:
    """Measure every case of a section."""
    rows = []
    cases = section.cases(quick)
    for number, case in enumerate(cases, start=1):
        result = section.measure(case, seconds)
        ratios = (
            f"{comparison.label} {comparison.ratio(result):.2f}"
            for comparison in section.comparisons
            if comparison.means(result)
        )
        progress = f"{section.name} {number}/{len(cases)} {case}: {', '.join(ratios)}"
        print(progress, file=sys.stderr, flush=True)
        rows.append(result.row())
    return rows


def json_text(store: dict[str, Any]) -> str:
    """Return JSON with a line a result."""
    sections = []
    for name, section in store.items():
        rows = ",\n".join(json.dumps(row) for row in section["results"])
        facts = json.dumps(section["facts"])
        sections.append(f'{json.dumps(name)}: {{"facts": {facts}, "results": [\n{rows}\n]}}')
    return "{" + ",\n".join(sections) + "}\n"


def write(store: dict[str, Any], folder: Path, stem: str) -> None:
    """Write the three files."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{stem}.json").write_text(json_text(store))
    plotted = [one for one in measured_sections(store) if one.section.name in PLOTTED]
    if plotted:
        save_plot(plotted, folder / f"{stem}.svg")
    (folder / f"{stem}.md").write_text(markdown(store, f"{stem}.svg" if plotted else None))


def main(arguments: list[str]) -> None:
    """Measure and write."""
    names = [section.name for section in SECTIONS]
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of the three files")
    parser.add_argument(
        "--only",
        default=",".join(names),
        help="sections, with commas between (default: %(default)s)",
    )
    parser.add_argument("--threads", type=int, default=2, help="of every peer (default 2)")
    parser.add_argument(
        "--seconds-per-point", type=float, default=0.3, help="at the least 5 runs (default 0.3)"
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="tiny sizes, to see that everything runs; writes recurrent-cpu-quick.*",
    )
    options = parser.parse_args(arguments)
    chosen = options.only.split(",") if options.only else []
    unknown = [name for name in chosen if name not in names]
    if unknown:
        parser.error(f"no section {', '.join(unknown)}; there are {', '.join(names)}")

    torch.set_num_threads(options.threads)
    stem = "recurrent-cpu-quick" if options.quick else "recurrent-cpu"
    file = options.out / f"{stem}.json"
    store: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    command = shlex.join(["python", "bench/grid.py", *arguments])
    for section in SECTIONS:
        if section.name in chosen:
            facts = {"command": command, **environment()}
            results = measure_section(section, options.quick, options.seconds_per_point)
            store[section.name] = {"facts": facts, "results": results}
            write(store, options.out, stem)
    if not chosen:
        if not store:
            parser.error(f"nothing has been measured into {file}")
        write(store, options.out, stem)
    print(file.with_suffix(".md").read_text())


if __name__ == "__main__":
    main(sys.argv[1:])
