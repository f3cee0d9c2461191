"""What grid.py measures, section by section, and what each is held against."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from typing import Literal

from case import Case
from interference import measure_interference, slow_down
from memory import measure_with_memory
from recurrent import (
    CELLS,
    DTYPES,
    KEEP,
    layer_case,
    lengths_case,
    precision_case,
    recompute_case,
    stream_case,
    token_case,
)
from timing import Result, measure

PASSES = (False, True)  # with a backward pass?
RECOMPUTED_STEPS = (1, 16, 64)  # at a time


@dataclass(frozen=True)
class Comparison:
    """A number that each result of a section yields.

    Parameters
    ----------
    label
        Short, for the head of a column.
    ratio
        The number.
    target
        What it should reach; None: it is only reported.
    at_most
        Whether less is better.
    where
        Sizes that a result must have to be meant.
    """

    label: str
    ratio: Callable[[Result], float]
    target: float | None = None
    at_most: bool = False
    where: Mapping[str, int] = field(default_factory=dict)

    def means(self, result: Result) -> bool:
        """Whether this is a comparison of the result's sizes."""
        return all(result.sizes[key] == value for key, value in self.where.items())

    def misses(self, result: Result) -> bool:
        """Whether the result falls short of the target."""
        if self.target is None:
            return False
        ratio = self.ratio(result)
        return ratio > self.target if self.at_most else ratio < self.target


@dataclass(frozen=True)
class Section:
    """A part of the report that can be measured by itself.

    Parameters
    ----------
    name
        For ``--only``.
    title, text
        What is compared.
    peers
        Those whose times are shown.
    comparisons
        The first one is the section's own; see :class:`Comparison`.
    cases
        Makes the cases: all, or a few tiny ones.
    measure
        Measures one, given seconds.
    layout
        A row a result; or tables over N and H, where the results are too many for that; or a row
        a peer, with memory, where there is one result.
    gflops
        Whether to show them.
    """

    name: str
    title: str
    text: str
    peers: tuple[str, ...]
    comparisons: tuple[Comparison, ...]
    cases: Callable[[bool], list[Case]]
    measure: Callable[[Case, float], Result] = measure
    layout: Literal["results", "grid", "peers"] = "results"
    gflops: bool = False


def ratio(over: str, under: str) -> Callable[[Result], float]:
    """Return the function that compares two peers' medians."""
    return lambda result: result.ratio(over, under)


def layer_cases(quick: bool, cell: str) -> list[Case]:
    """Return the grid of one cell."""
    batches, steps, hidden_sizes = (
        ((1, 3), (2, 7), (4, 5))
        if quick
        else ((1, 20, 64, 128), (7, 35, 100), (64, 100, 128, 256, 512, 650, 1024))
    )
    return [
        layer_case(cell, {"N": n, "T": t, "D": 16 if t == 7 else h, "H": h}, backward)
        for backward, n, t, h in product(PASSES, batches, steps, hidden_sizes)
    ]


def precision_cases(quick: bool, case: Callable[..., Case]) -> list[Case]:
    """Return a part of the grid, for each cell."""
    batches, steps, hidden_sizes = (
        ((1, 3), 2, (4, 5)) if quick else ((1, 20, 128), 35, (64, 100, 128, 256, 512, 650, 1024))
    )
    return [
        case(cell, {"N": n, "T": steps, "D": h, "H": h}, backward)
        for cell, backward, n, h in product(CELLS, PASSES, batches, hidden_sizes)
    ]


def stream_cases(quick: bool) -> list[Case]:
    """Return layers and cells."""
    hidden_sizes = (4,) if quick else (64, 128, 256, 512, 1024)
    modules = [cell + suffix for suffix in ("", "Cell") for cell in CELLS]
    return [stream_case(module, h) for module, h in product(modules, hidden_sizes)]


def token_cases(quick: bool) -> list[Case]:
    """Return two vocabularies."""
    batch, steps, vocabularies, hidden_sizes = (
        (2, 3, (100, 10000), (4,)) if quick else (20, 35, (100, 10000), (128, 256))
    )
    return [
        token_case(cell, {"N": batch, "T": steps, "V": v, "H": h}, backward)
        for cell, v, backward, h in product(CELLS, vocabularies, PASSES, hidden_sizes)
    ]


def lengths_cases(quick: bool) -> list[Case]:
    """Return batches of mixed lengths and of full ones."""
    batches, hidden_sizes = (((3, 4),), (4,)) if quick else (((20, 35), (64, 100)), (128, 256, 512))
    return [
        lengths_case(cell, {"N": n, "T": t, "D": h, "H": h}, full, backward)
        for cell, backward, full, (n, t), h in product(
            ("LSTM", "GRU"), PASSES, (False, True), batches, hidden_sizes
        )
    ]


def recompute_cases(quick: bool) -> list[Case]:
    """Return one long sequence; a tiny one would not show in a process's memory."""
    batch, steps, hidden_size = (16, 200, 64) if quick else (32, 512, 256)
    sizes = {"N": batch, "T": steps, "D": hidden_size, "H": hidden_size}
    return [recompute_case(sizes, RECOMPUTED_STEPS)]


def interference_cases(quick: bool) -> list[Case]:
    """Return small, middling and large steps."""
    triples = [(2, 3, 4)] if quick else [(20, 35, 100), (64, 35, 256), (20, 35, 650)]
    return [
        layer_case(cell, {"N": n, "T": t, "D": h, "H": h}, backward)
        for cell, backward, (n, t, h) in product(CELLS, PASSES, triples)
    ]


def grid_section(cell: str, target: float) -> Section:
    """Return the section of a cell beside torch."""
    return Section(
        name=cell.lower(),
        title=f"{cell} beside torch.nn.{cell}",
        text="One layer, one direction, float32. `forward` runs under no_grad in eval mode; "
        "`forward + backward` yields the gradients of input and parameters.",
        peers=("seqkern", "torch"),
        comparisons=(Comparison("speed-up", ratio("torch", "seqkern"), target),),
        cases=partial(layer_cases, cell=cell),
        layout="grid",
        gflops=True,
    )


SECTIONS = [
    grid_section("LSTM", 1.5),
    grid_section("GRU", 4.0),
    grid_section("RNN", 3.0),
    Section(
        name="bf16",
        title="bfloat16 beside float32",
        text="Parameters and input in bfloat16 against float32, both in seqkern.",
        peers=("bfloat16", "float32"),
        comparisons=(Comparison("speed-up", ratio("float32", "bfloat16"), 1.5),),
        cases=partial(precision_cases, case=precision_case),
        layout="grid",
        gflops=True,
    ),
    Section(
        name="bf16-torch",
        title="bfloat16 beside torch.nn",
        text="Parameters and input in bfloat16.",
        peers=("seqkern", "torch"),
        comparisons=(Comparison("speed-up", ratio("torch", "seqkern"), 1.0),),
        cases=partial(precision_cases, case=partial(layer_case, dtype=DTYPES["bfloat16"])),
        layout="grid",
        gflops=True,
    ),
    Section(
        name="stream",
        title="Streaming inference",
        text="One sequence, one step a call, the state handed on from call to call; a layer "
        "(LSTM) beside torch.nn's layer, a cell (LSTMCell) beside torch.nn's cell. Times are of "
        "one call.",
        peers=("seqkern", "torch"),
        comparisons=(Comparison("speed-up", ratio("torch", "seqkern"), 2.0),),
        cases=stream_cases,
        gflops=True,
    ),
    Section(
        name="tokens",
        title="Token ids beside one-hot encodings",
        text="seqkern's layer takes the ids; torch's takes `one_hot(ids, V).to(float32)`, which is "
        "part of its time. Gradients of the parameters.",
        peers=("seqkern", "torch"),
        comparisons=(
            Comparison("speed-up at V=100", ratio("torch", "seqkern"), 3.0, where={"V": 100}),
            Comparison("speed-up at V=10000", ratio("torch", "seqkern"), 20.0, where={"V": 10000}),
        ),
        cases=token_cases,
    ),
    Section(
        name="lengths",
        title="lengths= beside padded and packed batches",
        text="`lengths`: seqkern's layer with `lengths=`; `padded`: the same without; "
        "`torch packed`: pack_padded_sequence, torch.nn's layer and pad_packed_sequence. Lengths "
        "are uniform in 1 to T, or all T.",
        peers=("lengths", "padded", "torch packed"),
        comparisons=(
            Comparison("lengths / padded", ratio("lengths", "padded"), 1.1, at_most=True),
            Comparison("torch packed / lengths", ratio("torch packed", "lengths")),
        ),
        cases=lengths_cases,
    ),
    Section(
        name="recompute",
        title="Keeping gates, and computing them again",
        text=f"A training pass. `{KEEP}`: all steps' gates are kept for the backward pass; "
        "`recompute m`: they are computed again, m steps at a time. Memory is the growth of the "
        "peak resident memory by one pass in a fresh process, working memory included.",
        peers=(KEEP, *(f"recompute {steps}" for steps in RECOMPUTED_STEPS), "torch"),
        comparisons=(
            Comparison("recompute 16 / keep gates, time", ratio("recompute 16", KEEP)),
            Comparison(
                "recompute 16 / keep gates, memory",
                lambda result: result.memory["recompute 16"] / result.memory[KEEP],
            ),
        ),
        cases=recompute_cases,
        measure=measure_with_memory,
        layout="peers",
    ),
    Section(
        name="interference",
        title="Beside a busy loop",
        text="Each peer's mean time while another process keeps a core busy, in units of its mean "
        "time without; then seqkern's number in units of torch's.",
        peers=("seqkern", "seqkern, busy", "torch", "torch, busy"),
        comparisons=(
            Comparison(
                "seqkern's slow-down / torch's",
                lambda result: slow_down(result, "seqkern") / slow_down(result, "torch"),
                1.5,
                at_most=True,
            ),
            Comparison("seqkern's slow-down", lambda result: slow_down(result, "seqkern")),
            Comparison("torch's slow-down", lambda result: slow_down(result, "torch")),
        ),
        cases=interference_cases,
        measure=measure_interference,
    ),
]
