"""What grid.py measured, in Markdown."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import geometric_mean
from typing import Any

from sections import SECTIONS, Comparison, Section
from tables import by_group, grid_table, table, timing_text
from timing import FEWEST_ROUNDS, WARM_UP_RUNS, Result, machine_of, versions_of

WORST_SHOWN = 5


@dataclass(frozen=True)
class Measured:
    """A section's results, and when and where they were measured."""

    section: Section
    facts: Mapping[str, Any]
    results: Sequence[Result]

    def of(self, comparison: Comparison) -> list[Result]:
        """Return the results that a comparison means, worst first."""
        meant = [result for result in self.results if comparison.means(result)]
        return sorted(meant, key=comparison.ratio, reverse=comparison.at_most)


def measured_sections(store: Mapping[str, Any]) -> list[Measured]:
    """Read what grid.py stores, in the order of SECTIONS."""
    return [
        Measured(
            section,
            store[section.name]["facts"],
            [Result.from_row(row) for row in store[section.name]["results"]],
        )
        for section in SECTIONS
        if section.name in store
    ]


def target_text(comparison: Comparison) -> str:
    """Return the target, and on which side of it a result should be."""
    if comparison.target is None:
        return "–"
    return f"{'≤' if comparison.at_most else '≥'} {comparison.target:g}"


def summary(sections: Sequence[Measured]) -> list[str]:
    """Return a row a comparison."""
    head = ["section", "what", "target", "geometric mean", "worst", "at", "points short of it"]
    rows = []
    for measured in sections:
        for comparison in measured.section.comparisons:
            results = measured.of(comparison)
            short = sum(comparison.misses(result) for result in results)
            rows.append(
                [
                    f"[{measured.section.name}](#{anchor(measured.section.title)})",
                    comparison.label,
                    target_text(comparison),
                    f"{geometric_mean(map(comparison.ratio, results)):.2f}",
                    f"{comparison.ratio(results[0]):.2f}",
                    f"{results[0].group}, {results[0].name}",
                    "–" if comparison.target is None else f"{short} of {len(results)}",
                ]
            )
    return table(head, rows)


def anchor(title: str) -> str:
    """Return the link target of a heading, as GitHub makes it."""
    kept = (c for c in title.lower() if c.isalnum() or c in " -_")
    return "".join(kept).replace(" ", "-")


def grid_body(measured: Measured) -> list[str]:
    """Return tables over N and H for each group, and the worst points."""
    (comparison,) = measured.section.comparisons
    peers = measured.section.peers

    def ratio_text(results: list[Result]) -> str:
        return f"{geometric_mean(map(comparison.ratio, results)):.2f}"

    def gflops_text(results: list[Result]) -> str:
        means = (geometric_mean(result.gflops(peer) for result in results) for peer in peers)
        return " / ".join(f"{mean:.3g}" for mean in means)

    lines = []
    for name, group in by_group(measured.results).items():
        steps = sorted({result.sizes["T"] for result in group})
        lines += [
            f"### {name}",
            "",
            f"Geometric mean {ratio_text(group)}, worst {min(map(comparison.ratio, group)):.2f}, "
            f"best {max(map(comparison.ratio, group)):.2f}. {comparison.label.capitalize()}, "
            f"geometric mean over T = {', '.join(map(str, steps))}:",
            "",
            *grid_table(group, ratio_text),
            "",
            f"GFLOP/s, {' / '.join(peers)}, likewise:",
            "",
            *grid_table(group, gflops_text),
            "",
        ]
    worst = measured.of(comparison)[:WORST_SHOWN]
    return [*lines, "Worst points:", "", *results_table(measured.section, worst)]


def results_table(section: Section, results: Sequence[Result]) -> list[str]:
    """Return a table with a row a result."""
    head = ["", "size", *(f"{peer}, ms" for peer in section.peers)]
    head += [comparison.label for comparison in section.comparisons]
    head += [f"{peer}, GFLOP/s" for peer in section.peers] if section.gflops else []
    rows = []
    for result in results:
        row = [result.group, result.name]
        row += [timing_text(result.times[peer]) for peer in section.peers]
        row += [
            f"{comparison.ratio(result):.2f}" if comparison.means(result) else ""
            for comparison in section.comparisons
        ]
        row += [f"{result.gflops(peer):.3g}" for peer in section.peers] if section.gflops else []
        rows.append(row)
    return table(head, rows)


def peers_body(measured: Measured) -> list[str]:
    """Return a table with a row a peer for each result."""
    peers = measured.section.peers
    lines = []
    for result in measured.results:
        rows = [
            [
                peer,
                timing_text(result.times[peer]),
                f"{result.ratio(peer, peers[0]):.2f}",
                f"{result.memory[peer] / 2**20:.0f}",
                f"{result.memory[peer] / result.memory[peers[0]]:.2f}",
            ]
            for peer in peers
        ]
        lines += [f"{result.group}, {result.name}:", ""]
        head = ["", "ms", f"time / {peers[0]}", "memory, MiB", f"memory / {peers[0]}"]
        lines += table(head, rows)
    return lines


def body(measured: Measured) -> list[str]:
    """Return a section's tables."""
    if measured.section.layout == "grid":
        return grid_body(measured)
    if measured.section.layout == "peers":
        return peers_body(measured)
    return results_table(measured.section, measured.results)


def machines(sections: Sequence[Measured]) -> list[str]:
    """Return a line for each machine and set of versions, with its sections if there are more."""
    found: dict[str, list[str]] = {}
    for measured in sections:
        line = f"{machine_of(measured.facts)}; {versions_of(measured.facts)}"
        found.setdefault(line, []).append(measured.section.name)
    if len(found) == 1:
        return [f"- {line}" for line in found]
    return [f"- {', '.join(names)}: {line}" for line, names in found.items()]


def markdown(store: Mapping[str, Any], plot: str | None) -> str:
    """Return the whole report.

    Parameters
    ----------
    store
        What grid.py stores: facts and results by section.
    plot
        The plot's file name, if there is one.
    """
    sections = measured_sections(store)
    lines = [
        "# Recurrent layers on the CPU",
        "",
        "`python bench/grid.py --out docs/results` measures everything here; `--only` measures "
        "sections of it. Every figure is in the .json beside this page; what bounds them, and what "
        "was tried, in `docs/results/recurrent-cpu-tried.md`.",
        "",
        *machines(sections),
        "- all peers of a point in one process, with equal weights and inputs, in turns run by run "
        f"(A B B A): at most {WARM_UP_RUNS} runs of warm-up, then at least {FEWEST_ROUNDS} runs "
        "each, more where the time given allows",
        "- times are medians, with the distance of the quartiles in percent",
        "- D = H, but D = 16 where T = 7, unless a table says otherwise; GFLOP/s count the "
        "products only",
        "",
        *summary(sections),
        "",
    ]
    if plot:
        lines += [
            f"![Speed-up over torch.nn by cell and pass, over H, for each N]({plot})",
            "",
            "Points are geometric means over T, bars reach from the least to the greatest.",
            "",
        ]
    for measured in sections:
        facts = measured.facts
        lines += [
            f"## {measured.section.title}",
            "",
            measured.section.text,
            "",
            f"`{facts['command']}`, {facts['date']}; load average before "
            f"{facts['load_average_before']}",
            "",
            *body(measured),
            "",
        ]
    return "\n".join(lines)
