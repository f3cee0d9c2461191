"""Write down what a step of the recurrent CUDA kernels is predicted to take, and where it goes.

    python bench/step_budget.py --out docs/results

Needs a seqkern built with CUDA, and no GPU: the prediction is the one that kernels are chosen by.
"""

import argparse
from collections.abc import Mapping
from itertools import product
from pathlib import Path

import torch
from tables import table

import seqkern.cuda
from seqkern.cuda import H100, Device, RecurrentPlan

CELLS = ("lstm", "gru", "rnn_tanh")
PRECISIONS = {
    "bf16": (torch.bfloat16, False),
    "tf32": (torch.float32, True),
    "fp32": (torch.float32, False),
}
HIDDEN_SIZES = (128, 256, 512, 768, 1024, 2048)
BATCHES = (1, 16, 64, 128)
STEPS = 256
PARTS = ("exchange", "gather", "weights", "matrix", "cell")
INTRODUCTION = """\
Nothing here is measured: these are the estimates of `csrc/cuda/recurrent_plan.cu`, by which a
kernel is chosen, in microseconds of a step in a long sequence. Of the recurrence alone: products
over all steps come besides. Parts are added as if none ran beside another.

kernel: its name, hidden units of a block, groups of sequences. shared: shared memory of a block.
exchange: until what a block hands on can be read by the others; gather: reading that; weights:
those that are not in registers; matrix: multiplying; cell: sums over warps, barriers and the cell
itself."""
WEIGHED = """\
By this prediction the target is missed. Also weighed, by the same rates, and not built: blocks of
32 units (backward 2.0 us a step instead of 1.77: half the gathering, but weights no longer in
registers); the depth of the backward product split over clusters of 4, whose partial sums go
through shared memory (1.5 us: a quarter of the gathering, and a cluster barrier more). What part of
the sum is hidden behind the rest decides, and that takes a GPU to tell."""
# FLOP a microsecond, of products over all steps.
PRODUCT_RATES = {"bf16": 600e6, "tf32": 300e6, "fp32": 50e6}


def plans(
    cell: str,
    precision: str,
    hidden_size: int,
    batch: int,
    backward: bool,
    steps: int = STEPS,
    device: Device = H100,
) -> list[RecurrentPlan]:
    """Return the plans that may fit a device; the first that fits is chosen."""
    dtype, tf32 = PRECISIONS[precision]
    sizes = {"hidden_size": hidden_size, "batch": batch, "steps": steps}
    options = {"backward": backward, "tf32": tf32, "device": device}
    return seqkern.cuda.recurrent_plans(cell, dtype, **sizes, **options)


def best(cell: str, precision: str, hidden_size: int, batch: int, backward: bool) -> RecurrentPlan:
    """Return the plan that is chosen on an H100, if it fits."""
    return plans(cell, precision, hidden_size, batch, backward)[0]


def products(gates: int, precision: str, hidden_size: int, batch: int, backward: bool) -> float:
    """Return the microseconds of a step's share of the products over all steps, of a layer D = H.

    Forward there is one, backward two more and that of the gradient of W_hh.
    """
    flops = 2 * batch * gates * hidden_size**2
    return (4 if backward else 1) * flops / PRODUCT_RATES[precision]


def predictions(
    cell: str, gates: int, precision: str, sizes: Mapping[str, int], backward: bool, device: Device
) -> dict[str, float]:
    """Return the microseconds of a step of a layer on each kernel that may fit, best first.

    With a backward pass, those of both passes; a name that is not a kernel's stands for two.
    """
    of = (cell, precision, sizes["H"], sizes["N"])
    rest = products(gates, *of[1:], backward)
    forward = {plan.kernel: plan.total for plan in plans(*of, False, sizes["T"], device)}
    if not backward:
        return {kernel: total + rest for kernel, total in forward.items()}
    back = {plan.kernel: plan.total for plan in plans(*of, True, sizes["T"], device)}
    first, second = next(iter(forward)), next(iter(back))
    name = first if first == second else f"{first} and {second}"
    both = {kernel: forward[kernel] + total for kernel, total in back.items() if kernel in forward}
    found = {name: forward[first] + back[second], **both}
    return {kernel: total + rest for kernel, total in found.items()}


def rows_of(cell: str, precision: str) -> list[list[str]]:
    """Return a row a size and pass."""
    rows = []
    for h, n, backward in product(HIDDEN_SIZES, BATCHES, (False, True)):
        plan = best(cell, precision, h, n, backward)
        parts = [f"{getattr(plan, part):.2f}" for part in PARTS]
        way = "backward" if backward else "forward"
        shared = f"{plan.shared_bytes / 1024:.0f}"
        rows.append([f"H={h} N={n} {way}", plan.kernel, shared, *parts, f"{plan.total:.2f}"])
    return rows


def target() -> list[str]:
    """Return the table of the LSTM of H = D = 768, N = 16, T = 1024 in bf16."""
    h, n, steps, wanted = 768, 16, 1024, (1.0, 3.0)
    forward, backward = (best("lstm", "bf16", h, n, way).total for way in (False, True))
    rest = [products(4, "bf16", h, n, way) for way in (False, True)]
    totals = (steps * (forward + rest[0]), steps * (forward + backward + rest[1]))
    names = ("forward", "forward and backward")
    rows = [
        [name, f"{total / 1e3:.2f}", f"{most:.1f}"]
        for name, total, most in zip(names, totals, wanted, strict=True)
    ]
    head = [f"LSTM, H=D={h} N={n} T={steps}, bf16", "predicted, ms", "target, ms"]
    return table(head, rows)


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    out = parser.parse_args().out
    lines = [
        "# Predicted time of a recurrent step on an H100",
        "",
        f"`python bench/step_budget.py --out {out}`. {INTRODUCTION}",
        "",
        "## The target",
        "",
        *target(),
        "",
        WEIGHED,
    ]
    for cell, precision in product(CELLS, PRECISIONS):
        head = ["size", "kernel", "shared, KiB", *PARTS, "sum"]
        lines += ["", f"## {cell}, {precision}", "", *table(head, rows_of(cell, precision))]
    out.mkdir(parents=True, exist_ok=True)
    (out / "cuda-step-budget.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
