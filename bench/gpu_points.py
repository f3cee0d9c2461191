"""What gpu_bench.py measures: points, the most important first, so that any beginning is of use."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import product

import negative_sampling as sampling
import torch
from case import PEERS, Case, Run
from flashrnn_peer import is_installed, make_flashrnn
from losses import (
    COMPILED,
    LINEAR_PEERS,
    Sizes,
    installed_others,
    linear_flops,
    logits_loss,
    make_linear,
)
from recurrent import (
    GATES,
    flops_of,
    make_layer,
    new,
    one_pass,
    pass_name,
    random_input,
    token_case,
)
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from word_vectors import KINDS, training_case

import seqkern

# dtype, and whether products of float32 may be rounded to TF32.
PRECISIONS = {
    "bf16": (torch.bfloat16, False),
    "fp16": (torch.float16, False),
    "tf32": (torch.float32, True),
    "fp32": (torch.float32, False),
}
CELLS = ("LSTM", "GRU", "RNN")
PASSES = (False, True)  # with a backward pass?
HIDDEN_SIZES = (768, 512, 1024, 256, 2048, 128)
BATCHES = (16, 64, 1, 128)
STEPS = 256
TARGETS = {False: 1.0e-3, True: 3.0e-3}  # seconds, LSTM H = D = 768, N = 16, T = 1024
LOSS_ROWS = 8192
FLASHRNN = "FlashRNN"
COPY = "copy"  # a peer of the loss of logits: copies as many bytes as the loss must move

# Copies of a point's tensors are used in turn until they exceed the L2 cache (50 MB on an H100).
COLD_BYTES = 128 * 2**20
MOST_SETS = 4


@dataclass(frozen=True)
class Shape:
    """What a recurrent layer of the section "shapes" is besides one of the grid."""

    name: str
    steps: int = STEPS
    layers: int = 1
    bidirectional: bool = False
    lengths: bool = False  # of 1 to T steps; torch packs the sequences


SHAPES = (
    Shape("T=1024", steps=1024),
    Shape("two layers", layers=2),
    Shape("both directions", bidirectional=True),
    Shape("lengths", lengths=True),
    Shape("two layers, both directions", layers=2, bidirectional=True),
)

# Peers of the tuning points: kernels that seqkern.cuda.recurrent_kernel selects.
KERNELS: dict[str, tuple[str, dict[str, int]]] = {
    "chosen": ("", {}),
    "steps": ("steps", {}),
    **{
        f"{kernel}:{units}:{groups}": (kernel, {"units": units, "groups": groups})
        for kernel, of_block in (("grid", (8, 16)), ("cluster", (16, 32)))
        for units, groups in product(of_block, (1, 2, 4))
    },
}


@dataclass(frozen=True)
class Point:
    """A comparison on a GPU.

    Parameters
    ----------
    section
        The part of the report that it belongs to.
    case
        The work.
    precision
        A name of PRECISIONS.
    sets
        Copies of its tensors; as many calls are timed together.
    target
        Seconds that seqkern should reach.
    graph
        Whether calls are captured into a CUDA graph; they cannot be where a peer waits for the
        device.
    patience
        Seconds after which the point hangs. Some peers compile.
    layer
        Cell and pass (backward?) of what is one layer of one direction and equal lengths, of which
        there are predictions; its sizes are the case's.
    """

    section: str
    case: Case
    precision: str
    sets: int = 1
    target: float | None = None
    graph: bool = True
    patience: float = 25
    layer: tuple[str, bool] | None = None

    def __str__(self) -> str:
        return f"{self.section}: {self.case}"


@contextmanager
def precision_of(name: str) -> Iterator[None]:
    """Allow TF32 products or not, for both peers."""
    backends = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [backend.allow_tf32 for backend in backends]
    for backend in backends:
        backend.allow_tf32 = PRECISIONS[name][1]
    try:
        yield
    finally:
        for backend, allowed in zip(backends, before, strict=True):
            backend.allow_tf32 = allowed


def sets_for(bytes_of_call: float) -> int:
    """Return how many copies of a call's tensors are used in turn."""
    return min(MOST_SETS, max(1, round(COLD_BYTES / bytes_of_call)))


def layer_point(
    section: str,
    cell: str,
    precision: str,
    sizes: Sizes,
    backward: bool,
    make: Callable[..., Run] = make_layer,
    peers: tuple[str, ...] = PEERS,
    target: float | None = None,
) -> Point:
    """One layer, one direction; ``make`` takes a peer and what ``make_layer`` takes."""
    dtype = PRECISIONS[precision][0]
    make = partial(make, cell=cell, sizes=sizes, backward=backward, dtype=dtype)
    group = f"{cell}, {precision}, {pass_name(backward)}"
    case = Case(group, sizes, make, flops_of(cell, sizes, backward), peers)
    features = sizes["D"] + sizes["H"]
    elements = features * (sizes["T"] * sizes["N"] + GATES[cell] * sizes["H"])
    sets = sets_for(elements * dtype.itemsize)
    return Point(section, case, precision, sets, target, layer=(cell, backward))


def layer_sizes(steps: int, batch: int, hidden_size: int) -> Sizes:
    """Return the sizes of a layer with D = H."""
    return {"N": batch, "T": steps, "D": hidden_size, "H": hidden_size}


def target_points(tiny: bool) -> list[Point]:
    """Return the LSTM of the published figures."""
    sizes = layer_sizes(3, 2, 4) if tiny else layer_sizes(1024, 16, 768)
    return [
        layer_point("targets", "LSTM", precision, sizes, backward, target=TARGETS[backward])
        for precision, backward in product(("bf16", "fp16"), PASSES)
    ]


def make_logits(peer: str, sizes: Sizes, backward: bool) -> Run:
    """Make logits in bfloat16, and targets; the backward pass yields the gradient of the logits."""
    torch.manual_seed(0)
    logits = torch.randn(sizes["N"], sizes["V"], dtype=torch.bfloat16).mul_(3)
    target = torch.randint(sizes["V"], (sizes["N"],))
    if peer == COPY:
        # Forward and backward read logits and write as much; forward alone writes nothing.
        source = logits if backward else logits.view(-1)[: logits.numel() // 2]
        copied = torch.empty_like(source)

        def copy() -> None:
            copied.copy_(source)

        return copy
    loss = logits_loss(peer)
    if not backward:
        return lambda: loss(logits, target)
    logits.requires_grad_()
    return lambda: torch.autograd.grad(loss(logits, target), logits)


def logits_points(tiny: bool) -> list[Point]:
    """Return the loss of logits over vocabularies."""
    vocabularies = (50_257, 131_072, 32_000, 10_000, 1_000)
    points = []
    for backward, classes in product(reversed(PASSES), (10,) if tiny else vocabularies):
        sizes = {"N": 3 if tiny else LOSS_ROWS, "V": classes}
        make = partial(make_logits, sizes=sizes, backward=backward)
        case = Case(f"bf16, {pass_name(backward)}", sizes, make, peers=(*PEERS, COPY))
        moved = sizes["N"] * classes * 2 * (2 if backward else 1)
        points.append(Point("logits", case, "bf16", sets_for(moved)))
    return points


def make_linear_loss(peer: str, sizes: Sizes) -> Run:
    """Make the loss of a linear layer in bfloat16; its logits exceed the cache."""
    return make_linear(peer, sizes, torch.bfloat16)


def linear_points(
    tiny: bool, section: str = "linear", peers: tuple[str, ...] = LINEAR_PEERS, graph: bool = True
) -> list[Point]:
    """Return the loss of a linear layer, forward + backward; a dry run compiles nothing."""
    if tiny:
        peers = tuple(peer for peer in peers if peer != COMPILED)
    points = []
    large = ((1024, 50_257), (4096, 128_256), (2048, 50_257), (650, 10_000))
    for hidden_size, classes in ((8, 64),) if tiny else large:
        sizes = {"N": 16 if tiny else LOSS_ROWS, "H": hidden_size, "V": classes}
        make = partial(make_linear_loss, sizes=sizes)
        case = Case("bf16, forward + backward", sizes, make, linear_flops(sizes), peers)
        points.append(Point(section, case, "bf16", graph=graph, patience=90))
    return points


def other_points(tiny: bool) -> list[Point]:
    """Return the same beside other packages, some of which wait for the device."""
    others = installed_others()
    return linear_points(tiny, "others", (*PEERS, *others), graph=False) if others else []


def word_points(tiny: bool) -> list[Point]:
    """Return the training of word vectors beside the CPU's, which is called and not captured."""
    words, vocabularies = (100, (20,)) if tiny else (1 << 21, (71_291, 1_000_000))
    sizes = [(classes, 100) for classes in vocabularies]
    if not tiny:
        sizes.append((vocabularies[0], 300))
    return [
        Point("words", training_case(kind, words, *of), "fp32", graph=False, patience=90)
        for of, kind in product(sizes, KINDS)
    ]


def make_with_kernel(peer: str, **arguments: object) -> Run:
    """Make seqkern's layer on a kernel of KERNELS, or torch's layer."""
    run = make_layer("torch" if peer == "torch" else "seqkern", **arguments)
    if peer == "torch":
        return run
    kernel, options = KERNELS[peer]

    if not kernel:
        return run

    def with_kernel() -> object:
        with seqkern.cuda.recurrent_kernel(kernel, **options):
            return run()

    return with_kernel


def tuning_points(tiny: bool) -> list[Point]:
    """Return layers on each recurrent kernel; one that the device cannot run is left out."""
    pairs = [(n, h) for h in (768, 256, 512, 1024, 2048) for n in (16, *((1, 128) * (h == 768)))]
    return [
        layer_point(
            "tuning",
            cell,
            precision,
            layer_sizes(3, 2, 4) if tiny else layer_sizes(STEPS, n, h),
            backward,
            make_with_kernel,
            (*KERNELS, "torch"),
        )
        for (n, h), precision, cell, backward in product(
            [(2, 4)] if tiny else pairs, ("bf16", "tf32"), ("LSTM", "GRU"), PASSES
        )
    ]


def ranked_sizes(tiny: bool) -> list[tuple[int, int]]:
    """Return N and H of the grid, the most important first."""
    if tiny:
        return [(3, 4)]
    places = product(enumerate(BATCHES), enumerate(HIDDEN_SIZES))
    ranked = sorted(places, key=lambda place: place[0][0] + place[1][0])
    return [(batch, hidden_size) for (_, batch), (_, hidden_size) in ranked]


def layer_points(tiny: bool) -> list[Point]:
    """Return the grid of layers, size by size."""
    return [
        layer_point("layers", cell, precision, layer_sizes(2 if tiny else STEPS, n, h), backward)
        for (n, h), precision, cell, backward in product(
            ranked_sizes(tiny), PRECISIONS, CELLS, PASSES
        )
    ]


def make_shape(
    peer: str, cell: str, sizes: Sizes, backward: bool, dtype: torch.dtype, shape: Shape
) -> Run:
    """Make layers of a shape, and a padded input; the longest sequence comes first."""
    steps, hidden_size = sizes["T"], sizes["H"]
    options = {"num_layers": shape.layers, "bidirectional": shape.bidirectional}
    layer = new(peer, cell, sizes["D"], hidden_size, dtype=dtype, **options)
    x = random_input(sizes, dtype, backward)
    on_host = torch.randint(1, steps + 1, (sizes["N"],), device="cpu").sort(descending=True)[0]
    on_host[0] = steps
    on_device = on_host.to(x.device)

    def output() -> Tensor:
        if not shape.lengths:
            return layer(x)[0]
        if peer == "seqkern":
            return layer(x, lengths=on_device)[0]
        packed = layer(pack_padded_sequence(x, on_host))[0]  # which takes lengths on the host
        return pad_packed_sequence(packed, total_length=steps)[0]

    of_output = {**sizes, "H": hidden_size * (2 if shape.bidirectional else 1)}
    return one_pass(output, layer, [x], of_output, backward)


def shape_points(tiny: bool) -> list[Point]:
    """Return the sizes of the grid in other shapes, size by size."""
    points = []
    for (n, h), shape, precision, cell, backward in product(
        ranked_sizes(tiny), SHAPES, PRECISIONS, CELLS, PASSES
    ):
        sizes = layer_sizes(3 if tiny else shape.steps, n, h)
        dtype = PRECISIONS[precision][0]
        of = {"cell": cell, "sizes": sizes, "backward": backward, "dtype": dtype, "shape": shape}
        group = f"{cell}, {precision}, {shape.name}, {pass_name(backward)}"
        times = shape.layers * (2 if shape.bidirectional else 1)
        case = Case(
            group, sizes, partial(make_shape, **of), times * flops_of(cell, sizes, backward)
        )
        plain = times == 1 and not shape.lengths
        moved = 2 * times * h * (sizes["T"] * n + GATES[cell] * h) * dtype.itemsize
        points.append(
            Point(
                "shapes",
                case,
                precision,
                sets_for(moved),
                graph=not shape.lengths,  # packing copies lengths from the host
                layer=(cell, backward) if plain else None,
            )
        )
    return points


def make_beside_flashrnn(peer: str, **arguments: object) -> Run:
    """Make a layer of seqkern or torch, or FlashRNN's."""
    if peer == FLASHRNN:
        return make_flashrnn(**arguments)
    return make_layer(peer, **arguments)


def flashrnn_points(tiny: bool) -> list[Point]:
    """Return layers beside FlashRNN, where it is installed; it compiles each cell and size."""
    if not is_installed():
        return []
    precision, pairs = ("fp32", [(3, 4)]) if tiny else ("bf16", [(16, 768), (16, 512), (64, 768)])
    sizes = [layer_sizes(3 if tiny else 1024, n, h) for n, h in pairs]
    points = [
        layer_point("FlashRNN", cell, precision, of, way, make_beside_flashrnn, (*PEERS, FLASHRNN))
        for of, cell, way in product(sizes, CELLS, PASSES)
    ]
    # Its calls allocate and synchronise as they like; and it compiles several times a size.
    return [replace(point, graph=False, patience=300, layer=None) for point in points]


def token_points(tiny: bool) -> list[Point]:
    """Return layers on token ids beside torch's on one-hot encodings."""
    n, t, v, h = (2, 3, 100, 4) if tiny else (64, 35, 10_000, 512)
    sizes = {"N": n, "T": t, "V": v, "H": h}
    return [
        Point("tokens", token_case(cell, sizes, backward), "tf32")
        for cell, backward in product(("LSTM", "GRU"), PASSES)
    ]


def make_sampling(peer: str, sizes: Sizes, sparse: bool) -> Run:
    """Make the loss of negative sampling of hidden states; its words are drawn on the device."""
    return sampling.make(peer, sizes, sparse)


def sampling_points(tiny: bool) -> list[Point]:
    """Return the loss of negative sampling, forward + backward."""
    found = []
    for sparse, v, b in product((True, False), (50,) if tiny else (10_000, 1_000_000), (100, 4096)):
        sizes = {"B": 3 if tiny else b, "V": v}
        make = partial(make_sampling, sizes=sizes, sparse=sparse)
        group = f"fp32, {'sparse' if sparse else 'dense'}, forward + backward"
        found.append(Point("negative sampling", Case(group, sizes, make), "fp32"))
    return found[:2] if tiny else found


SECTIONS: Mapping[str, Callable[[bool], list[Point]]] = {
    "targets": target_points,
    "logits": logits_points,
    "linear": linear_points,
    "others": other_points,
    "words": word_points,
    "tuning": tuning_points,
    "tokens": token_points,
    "negative sampling": sampling_points,
    "layers": layer_points,
    "shapes": shape_points,
    "FlashRNN": flashrnn_points,
}


def points(tiny: bool = False, only: Sequence[str] = ()) -> list[Point]:
    """Return all points, or those whose name contains one of the texts."""
    found = [point for section in SECTIONS.values() for point in section(tiny)]
    return [point for point in found if not only or any(text in str(point) for text in only)]
