"""The time of one kernel as a tree: work, datasheet rates, calibration, and how they combine."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..cost import Cost
from ..device import Device, Gpu, Systolic
from ..kernels import KernelGroup, Work
from ..kernels.attention import FusedAttention, pair_count
from ..kernels.collective import Collective
from ..kernels.gemm import Gemm
from ..kernels.moe import ExpertLayer, touched_experts
from ..kernels.pointwise import Pointwise
from ..outcome import Case
from ..structs import FLOP_PER_FMA, STORED_BYTE, Number
from ..timing import StepTime, family_of, fit_of
from ..timing.calibration import Fitted, keys_of
from ..timing.datasheet import array_padding, operand_dtype
from ..timing.parameter import facts_of, value_of
from .node import Citations, Node, SourceKind, computed, constant, described, summed

MODELS = {
    "GemmParameters": "the fastest tile and split of K; tiles run in waves over the compute units (timing/gemm.py)",
    "QuantisedGemmParameters": "the product, and the kernel that quantises its input (timing/quantised_gemm.py)",
    "MoeParameters": "tiles of every expert's rows in waves, and passes over the tokens (timing/moe.py)",
    "PrefillAttentionParameters": "query tiles, the longest first, over the units (timing/prefill_attention.py)",
    "DecodeAttentionParameters": "keys split over the units, then a pass that combines (timing/decode_attention.py)",
    "MixedAttentionParameters": "prompts and decodes in one launch (timing/mixed_attention.py)",
    "LatentAttentionParameters": "latent attention as one operation (timing/latent_attention.py)",
    "PointwiseParameters": "rows in waves, bytes from DRAM or cache (timing/pointwise.py)",
    "SystolicGatherParameters": "rows copied by index, and padding to blocks (timing/systolic.py)",
    "RingParameters": "the protocol that NCCL picks by size (timing/nccl.py)",
    "DirectParameters": "one shot, two, or symmetric memory, by size; then NCCL (timing/direct_all_reduce.py)",
}
"""How the parts of a fitted kernel's time come about, by the type of its parameters."""

HIDDEN = "time in which parts run beside each other; negative where a part is held back by another"


@dataclass(frozen=True, slots=True, eq=False)
class KernelView:
    """One kernel of a step: its group, place in it, and pipeline stage."""

    case: Case
    group: KernelGroup
    step: StepTime
    group_index: int
    index: int
    stage: int

    def of(self, value: Number) -> float:
        """The kernel's entry of a quantity of its group (scalar scenarios)."""
        return float(np.broadcast_to(np.asarray(value, dtype=np.float64), (len(self.group.names),))[self.index])

    def time(self, part: str) -> float:
        """A part of its time, seconds of one execution."""
        return self.of(getattr(self.step.times[self.group_index], part))

    @property
    def name(self) -> str:
        """Its name."""
        return self.group.names[self.index]

    @property
    def count(self) -> float:
        """Executions per step on a device of its stage."""
        return float(self.group.count[self.stage, self.index])

    @property
    def order(self) -> int:
        """Its place in the step."""
        return self.group.order[self.index]

    @property
    def fitted(self) -> Fitted | None:
        """Its fit; None where it is timed from the datasheet."""
        keys = keys_of(self.group.work)
        if not keys:
            return None
        return fit_of(keys[self.index if len(keys) > 1 else 0], self.case.calibration)


def views(case: Case, step: StepTime) -> list[KernelView]:
    """The kernels of a step on the busiest stage, in order, those that it does not run left out."""
    stage = int(np.argmax(step.stage_s))
    found = [
        KernelView(case, group, step, i, j, stage)
        for i, group in enumerate(step.groups)
        for j in range(len(group.names))
        if group.count[stage, j] > 0
    ]
    return sorted(found, key=lambda view: view.order)


def kernel_node(view: KernelView, cited: Citations) -> Node:
    """Seconds of all executions of a kernel in a step."""
    once_s = view.time("total_s")
    count = cited.shape("count", view.count, "", "executions per step on the busiest device")
    return computed(view.name, view.count * once_s, "s", "count * once", (count, _once(view, once_s, cited)))


def _once(view: KernelView, once_s: float, cited: Citations) -> Node:
    parts = [
        _compute(view, cited),
        _memory(view, cited),
        *_link(view, cited),
        _overhead(view, cited),
    ]
    names = {part.name for part in parts}
    if view.fitted is None:
        formula = "link + overhead" if "link" in names else "max(compute, memory) + overhead"
        family = family_of(view.group.work)
        if (typical := view.case.calibration.typical.get(family)) is not None:
            said = f"measured over datasheet time, median of {view.case.calibration.bands[family].source}"
            parts.append(constant("typical", typical, "", said))
            formula = f"typical * ({formula})"
        return computed("once", once_s, "s", formula, parts, "timed from the datasheet with typical efficiencies")
    hidden = sum(part.value for part in parts) - once_s
    parts.append(described("overlap", hidden, "s", HIDDEN, ()))
    formula = " + ".join(part.name for part in parts[:-1]) + " - overlap"
    roofline = described(
        "bare_roofline", view.time("roofline_s"), "s", "the time is never below max(FLOP / peak, byte / bandwidth)", ()
    )
    own = type(view.fitted.parameters).__name__
    values = tuple(_parameters(view.fitted))
    calibration = described("calibration", len(values), "parameters", f"{own}, fitted to measured kernels", values)
    note = MODELS.get(own, "a fitted model")
    return Node("once", once_s, "s", formula, True, (*parts, roofline, calibration), note=note)


def _parameters(fitted: Fitted) -> Iterator[Node]:
    """The fitted parameters, each with its meaning, and what they were fitted to."""
    evidence = fitted.evidence
    lent = f", carried over from {fitted.transferred_from}" if fitted.transferred_from else ""
    lent += f", borrowed from {fitted.borrowed_from}" if fitted.borrowed_from else ""
    text = (
        f"fitted to {evidence.fitted_rows:,} rows of {evidence.backend} {evidence.version}{lent}; median error "
        f"{evidence.median_ape:.1%} on {evidence.unseen_rows:,} others"
    )
    for name, facts in facts_of(type(fitted.parameters)).items():
        yield Node(
            name.replace(".", "_"),
            value_of(fitted.parameters, name),
            "" if facts.unit == "1" else facts.unit,
            kind=SourceKind.CALIBRATION,
            text=text,
            note=facts.meaning,
        )


def _compute(view: KernelView, cited: Citations) -> Node:
    """Seconds in the compute units."""
    device, work, cost = view.case.device, view.group.work, view.group.cost
    dtype = operand_dtype(work)
    matrix = _matrix_flop(view, cost, cited)
    vector = described("vector_flop", view.of(cost.vector_flop), "FLOP", "operations of the vector units", ())
    children = [matrix, vector]
    peak = None
    if dtype is not None:
        arithmetic = device.arithmetic(dtype)
        peak = cited.fact("peak", device.matrix_flop_per_s[arithmetic], "FLOP/s", f"matrix.{arithmetic}")
        children.append(peak)
    seconds = view.time("compute_s")
    if view.fitted is not None:
        return described("compute", seconds, "s", "as the fitted model has it (see its note and parameters)", children)
    if isinstance(work, Collective):
        return described("compute", seconds, "s", "none", ())
    efficiency = device.efficiency
    children += [
        cited.fact("vector_peak", device.vector_flop_per_s, "FLOP/s", "vector.fp32"),
        cited.fact("matrix_efficiency", efficiency.matrix, "", "efficiency.matrix"),
        cited.fact("vector_efficiency", efficiency.vector, "", "efficiency.vector"),
        described("padding", view.of(array_padding(work, device)), "", "matrix work over what the shape needs", ()),
    ]
    vectors = "vector_flop / vector_peak / vector_efficiency"
    formula = f"matrix_flop / peak * padding / matrix_efficiency + {vectors}" if peak else vectors
    return computed("compute", seconds, "s", formula, children)


def _memory(view: KernelView, cited: Citations) -> Node:
    """Seconds at the memory interface."""
    device, seconds = view.case.device, view.time("memory_s")
    byte = _bytes(view, cited)
    bandwidth = cited.fact("bandwidth", float(device.dram.bandwidth_byte_per_s or 0.0), "B/s", "memory.dram.bandwidth")
    if view.fitted is not None:
        return described(
            "memory", seconds, "s", "bytes over the part of the bandwidth that is reached", (byte, bandwidth)
        )
    match device.structure:
        case Gpu() | Systolic() if not isinstance(view.group.work, Collective):
            reached = cited.fact("dram_efficiency", device.efficiency.dram, "", "efficiency.dram")
            return computed("memory", seconds, "s", "byte / bandwidth / dram_efficiency", (byte, bandwidth, reached))
    return described("memory", seconds, "s", "bytes over the bandwidth of the level that holds them", (byte, bandwidth))


def _link(view: KernelView, cited: Citations) -> Iterator[Node]:
    """Seconds on the links, where the kernel is a collective."""
    work, device = view.group.work, view.case.device
    if isinstance(work, Collective):
        sent = described("link_byte", view.of(view.group.cost.link_byte), "B", "bytes that one device sends", ())
        group = cited.asked("group", view.of(work.group), "", "tp")
        intra = device.intra_node
        rate = () if intra is None else (_rate(device, cited),)
        yield described(
            "link", view.time("link_s"), "s", "bytes sent over the rate that is reached", (sent, group, *rate)
        )


def _rate(device: Device, cited: Citations) -> Node:
    link = device.intra_node
    assert link is not None  # asked only where there is one
    return cited.fact("link_bandwidth", link.bandwidth_byte_per_s, "B/s", "link.intra_node.bandwidth")


def _overhead(view: KernelView, cited: Citations) -> Node:
    """Seconds that do not shrink with the work."""
    work, seconds = view.group.work, view.time("overhead_s")
    if view.fitted is not None or isinstance(work, Collective):
        return described("overhead", seconds, "s", "launch, second passes, latency", ())
    own = cited.fact(
        "kernel_overhead", view.case.device.efficiency.kernel_overhead_s, "s", "efficiency.kernel_overhead"
    )
    launches = view.of(work.launch) if isinstance(work, Pointwise) else 1.0
    launch = constant("launches", launches, "", "kernels of their own; 0 where fused into another")
    return computed("overhead", seconds, "s", "launches * kernel_overhead", (launch, own))


def _matrix_flop(view: KernelView, cost: Cost, cited: Citations) -> Node:
    work, value = view.group.work, view.of(cost.matrix_flop)
    two = constant("flop_per_fma", FLOP_PER_FMA, "FLOP", "a fused multiply-add is two operations")
    match work:
        case Gemm():
            sizes = [
                ("m", work.m, "rows: tokens"),
                ("n", work.n, "outputs"),
                ("k", work.k, "inputs"),
                ("copies", work.copies, ""),
            ]
            children = [two, *(cited.shape(name, view.of(size), "", note) for name, size, note in sizes)]
            return computed("matrix_flop", value, "FLOP", "flop_per_fma * copies * m * n * k", children)
        case FusedAttention(shape):
            sizes = [
                ("sequences", shape.sequences, ""),
                ("heads", shape.heads, "query heads on one device"),
                ("pairs", pair_count(shape), "query-key pairs of one head that are not masked"),
                ("head_dim", shape.head_dim, ""),
                ("value_dim", shape.value_dim, ""),
            ]
            children = [two, *(cited.shape(name, view.of(size), "", note) for name, size, note in sizes)]
            formula = "flop_per_fma * sequences * heads * pairs * (head_dim + value_dim)"
            return computed("matrix_flop", value, "FLOP", formula, children)
    return described(
        "matrix_flop", value, "FLOP", "operations of the matrix units", tuple(_expert_sizes(view, work, cited))
    )


def _expert_sizes(view: KernelView, work: Work, cited: Citations) -> Iterator[Node]:
    """What decides the work of routed experts."""
    if isinstance(work, ExpertLayer):
        touched = touched_experts(work.token, work.per_token, work.experts, work.local_experts)
        yield cited.shape("tokens", view.of(work.token))
        yield cited.shape("per_token", view.of(work.per_token), "", "experts that each token goes to")
        yield cited.shape("experts", view.of(work.experts))
        yield described(
            "touched", view.of(touched), "", "local experts that at least one token meets: E (1 - (1 - k/E)^tokens)", ()
        )


def _bytes(view: KernelView, cited: Citations) -> Node:
    """Bytes that cross the memory interface, by what they carry."""
    cost, work = view.group.cost, view.group.work
    fields = ("weight_read_byte", "activation_read_byte", "activation_write_byte", "kv_read_byte", "kv_write_byte")
    parts = []
    for name in fields:
        value = view.of(getattr(cost, name))
        if name == "weight_read_byte" and isinstance(work, Gemm):
            parts.append(_weights(view, work, value, cited))
        elif value:
            parts.append(described(name, value, "B", "counted once: see roofline/kernels", ()))
    return summed("byte", view.of(cost.memory_byte), "B", parts)


def _weights(view: KernelView, work: Gemm, value: float, cited: Citations) -> Node:
    sizes = [("copies", work.copies), ("n", work.n), ("k", work.k), ("bias", work.bias)]
    children = [
        *(cited.shape(name, view.of(size)) for name, size in sizes),
        constant("weight_byte", STORED_BYTE[work.weight], "B", f"one value in {work.weight}, scales included"),
        constant("output_byte", STORED_BYTE[work.output], "B", f"one value in {work.output}"),
    ]
    return computed("weight_read_byte", value, "B", "copies * n * (k * weight_byte + bias * output_byte)", children)
