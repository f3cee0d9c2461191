"""Estimates and published figures in the report of gpu_check.py, beside what was measured."""

from collections.abc import Iterator, Mapping, Sequence
from statistics import geometric_mean
from typing import TYPE_CHECKING, Any

from tables import milliseconds, table

if TYPE_CHECKING:
    from gpu_report import Row

# Microseconds that the waiting of a step was estimated at, before anything was measured.
ESTIMATED_WAITS = {
    "grid barrier": "0.6 to 1.5",
    "atomic barrier": "–",
    "polled": "0.3 to 0.45",
    "cluster barrier": "0.12 to 0.25",
}

# Milliseconds of an LSTM of H = 768, N = 16, T = 1024, forward and with a backward pass.
PUBLISHED = [
    ("cuDNN", "fp16", 2.01, 5.19, "with the product of the input, as here"),
    ("FlashRNN, fused", "bf16", 4.87, 13.6, "without the product of the input"),
    ("haste", "fp32", 18.4, 43.9, ""),
]


def synchronisation(lines: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return microseconds a step of each way to hand on data, over its bytes, and estimates."""
    sizes = sorted({line["bytes"] for line in lines})
    places: dict[tuple[str, int, int], dict[int, str]] = {}
    for line in lines:
        spread = 100 * (line["greatest"] - line["least"]) / line["us"]
        text = f"{line['us']:.2f} ({spread:.0f} %)" + ("" if line["right"] else " **wrong**")
        text += f", {line['estimate']:.2f}" if line["estimate"] >= 0 else ""
        place = line["way"], line["cluster"], line["blocks"]
        places.setdefault(place, {})[line["bytes"]] = text
    rows = []
    for (way, cluster, blocks), texts in sorted(places.items()):
        name = f"{way}, {cluster} blocks" if cluster > 1 else way
        found = [texts.get(size, "–") for size in sizes]
        rows.append([name, str(blocks), ESTIMATED_WAITS[way], *found])
    heads = [f"{size / 1024:g} KiB" if size else "none" for size in sizes]
    return table(["", "blocks", "waiting, estimated", *heads], rows) if rows else ["Not measured."]


def expectations(rows: Sequence["Row"]) -> Iterator[tuple["Row", str, str, float]]:
    """Yield each time of which there is a prediction: row, peer, kernel, microseconds predicted."""
    for row in rows:
        chosen = next(iter(row.predicted), "")
        for peer in row.result.times:
            kernel = chosen if peer in ("seqkern", "chosen") else peer
            if kernel in row.predicted:
                yield row, peer, kernel, row.predicted[kernel]


def outcomes(rows: Sequence["Row"]) -> list[str]:
    """Return by how much predictions are off, for each pass and way of the kernels."""
    ratios: dict[tuple[str, str, str], list[float]] = {}
    for row, peer, kernel, predicted in expectations(rows):
        _, precision, *_, of_pass = row.result.group.split(", ")
        way = " and ".join(one.partition(":")[0] for one in kernel.split(" and "))
        ratios.setdefault((way, precision, of_pass), []).append(row.step(peer) / predicted)
    lines = [
        [
            *of,
            str(len(found)),
            f"{geometric_mean(found):.2f}",
            f"{min(found):.2f}",
            f"{max(found):.2f}",
        ]
        for of, found in sorted(ratios.items())
    ]
    head = ["kernel", "", "", "times", "measured / predicted, mean", "least", "greatest"]
    return table(head, lines) if lines else ["Nothing was predicted."]


def predictions(rows: Sequence["Row"]) -> list[str]:
    """Return a row for each time of which there is a prediction."""
    lines = [
        [
            row.result.group,
            row.result.name,
            kernel + (", chosen" if peer in ("seqkern", "chosen") else ""),
            f"{predicted:.2f}",
            f"{row.step(peer):.2f}",
            f"{row.step(peer) / predicted:.2f}",
        ]
        for row, peer, kernel, predicted in expectations(rows)
    ]
    head = ["", "size", "kernel", "predicted", "measured", "measured / predicted"]
    return table(head, lines) if lines else ["Nothing was predicted."]


def published(rows: Sequence["Row"]) -> list[str]:
    """Return figures of others for an LSTM, beside what was measured here at its size."""
    sizes = {"N": 16, "T": 1024, "D": 768, "H": 768}
    here: dict[tuple[str, bool, str], str] = {}
    for row in rows:
        backward = row.result.group.endswith("backward")
        if row.result.group.startswith("LSTM, ") and dict(row.result.sizes) == sizes:
            for peer, timing in row.result.times.items():
                here.setdefault((row.precision, backward, peer), milliseconds(timing.median))
    lines = []
    for name, precision, forward, both, note in PUBLISHED:
        found = [
            " / ".join(here.get((precision, way, peer), "–") for way in (False, True))
            for peer in ("seqkern", "torch")
        ]
        lines.append([name, precision, f"{forward} / {both}", *found, note])
    head = ["", "", "published, ms", "seqkern here, ms", "torch here, ms", ""]
    return table(head, lines)
