"""Write down what a step of the recurrent CUDA kernels is predicted to take, and where it goes.

    python bench/step_budget.py --out docs/results

Needs a seqkern built with CUDA, and no GPU: the prediction is the one that kernels are chosen by.
"""

import argparse
from itertools import product
from pathlib import Path

import torch
from tables import table

import seqkern.cuda
from seqkern.cuda import RecurrentPlan

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
PRODUCT_RATE = 600e6  # FLOP a microsecond, of bf16 products over all steps


def best(cell: str, precision: str, hidden_size: int, batch: int, backward: bool) -> RecurrentPlan:
    """Return the plan that is chosen on an H100, if it fits."""
    dtype, tf32 = PRECISIONS[precision]
    sizes = {"hidden_size": hidden_size, "batch": batch, "steps": STEPS}
    return seqkern.cuda.recurrent_plans(cell, dtype, **sizes, backward=backward, tf32=tf32)[0]


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
    products = 2 * steps * n * 4 * h * h / PRODUCT_RATE
    forward, backward = (best("lstm", "bf16", h, n, way).total * steps for way in (False, True))
    totals = (forward + products, forward + backward + 4 * products)
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
