"""Timing from datasheet rates times typical efficiencies: what is left when nothing was calibrated.

total = max(compute, memory, link) + overhead, with
compute = FLOP of the matrix units / (peak · efficiency) + vector FLOP / (vector peak · efficiency),
memory  = bytes / (bandwidth of the level that feeds the kernel · efficiency),
link    = bytes sent / (one-direction bandwidth · efficiency).
Source: Williams, Waterman and Patterson, "Roofline", CACM 52(4), 2009, with the fractions stated in the profile.
"""

from dataclasses import dataclass

import numpy as np

from ..cost import Cost
from ..device import Cpu, Dataflow, Device, Gpu, Link, MemoryLevel, Systolic
from ..errors import InfeasibleError
from ..kernels import KernelGroup, Work
from ..kernels.attention import FusedAttention, MixedAttention, UnfusedAttention, WholeLatentAttention
from ..kernels.collective import Collective, step_count
from ..kernels.gemm import Gemm
from ..kernels.moe import ExpertGemm, ExpertLayer
from ..kernels.pointwise import Pointwise
from ..structs import Dtype, Number, arithmetic_dtype
from .time import Time


@dataclass(frozen=True, slots=True)
class WorkingSet:
    """Bytes that one step wants to keep: all weights of the device. Decides which memory level feeds CPU and FPGA."""

    weight_byte: Number


def operand_dtype(work: Work) -> Dtype | None:
    """The format in which the matrix units multiply, before upcasting; None where they do nothing."""
    match work:
        case Gemm() | ExpertGemm() | ExpertLayer():
            return arithmetic_dtype(work.weight, work.activation)
        case FusedAttention() | UnfusedAttention():
            return arithmetic_dtype(work.shape.query, work.shape.cache)
        case WholeLatentAttention():
            return arithmetic_dtype(work.query, work.cache)
        case MixedAttention():
            return arithmetic_dtype(work.prompts.query, work.prompts.cache)
        case Pointwise() | Collective():
            return None


def array_padding(work: Work, device: Device) -> Number:
    """Share of extra matrix work where the array's shape does not divide the operand's (1 without an array)."""
    match device.structure:
        case Gpu() | Dataflow() | Cpu():
            return 1.0
        case Systolic(array_row, array_column):
            pass
    match work:
        case Gemm() | ExpertGemm():
            rows, columns = work.k, work.n
        case ExpertLayer():
            rows, columns = work.hidden, work.width
        case FusedAttention() | UnfusedAttention():
            rows, columns = work.shape.head_dim, work.shape.value_dim
        case WholeLatentAttention():
            rows, columns = work.kv_rank, work.nope_dim + work.value_dim
        case MixedAttention():
            rows, columns = work.prompts.head_dim, work.prompts.value_dim
        case Pointwise() | Collective():
            return 1.0
    return np.ceil(rows / array_row) * array_row * np.ceil(columns / array_column) * array_column / (rows * columns)


def _dram(device: Device) -> float:
    """Datasheet bandwidth of the main memory, byte/s."""
    if device.dram.bandwidth_byte_per_s is None:
        raise InfeasibleError(f"memory.dram.bandwidth: {device.name} states none; add it to its profile.")
    return device.dram.bandwidth_byte_per_s


def _memory_s(cost: Cost, device: Device, working_set: WorkingSet) -> Number:
    """Seconds to move the bytes of `cost` at datasheet bandwidth.

    GPUs and TPUs stream a step's operands from DRAM. A CPU reads what fits from its last-level cache; a dataflow
    design keeps on chip what fits: weights where all of the step's do, activations where a kernel's do; never the KV
    cache. Ignores: levels whose bandwidth the profile does not state.
    """
    dram = _dram(device)
    inner: MemoryLevel | None
    match device.structure:
        case Gpu() | Systolic():
            return cost.memory_byte / dram
        case Cpu():
            inner = device.last_level_cache
        case Dataflow():
            inner = device.on_chip
    if inner is None or inner.bandwidth_byte_per_s is None:
        return cost.memory_byte / dram
    activation_byte = cost.activation_read_byte + cost.activation_write_byte
    weight_rate, activation_rate = (
        np.where(np.asarray(byte) <= inner.capacity_byte, inner.bandwidth_byte_per_s, dram)
        for byte in (working_set.weight_byte, activation_byte)
    )
    return (
        cost.weight_read_byte / weight_rate
        + activation_byte / activation_rate
        + (cost.kv_read_byte + cost.kv_write_byte) / dram
    )


def _links(device: Device, group: Number) -> tuple[Link, Link]:
    """The links inside and beyond the node for groups of `group` devices.

    The link between nodes serves inside one too where the profile states no other; never the other way round.
    """
    intra, inter = device.intra_node or device.inter_node, device.inter_node
    if intra is None:
        raise InfeasibleError(
            f"link: {device.name} has no link between devices in its profile. Use one device, or add [link.intra_node]."
        )
    if inter is None and np.any(group > intra.domain_size):
        raise InfeasibleError(
            f"link.inter_node: a group of {np.max(group):.0f} exceeds the {np.min(intra.domain_size):.0f} devices of "
            f"one node, and the profile of {device.name} states no link between nodes. Use fewer devices, or add it."
        )
    return intra, inter or intra


def _link_time(work: Collective, sent_byte: Number, device: Device) -> tuple[Number, Number, Number]:
    """Link seconds predicted, latency seconds, and link seconds at full datasheet rate."""
    intra, inter = _links(device, work.group)
    inside = work.group <= intra.domain_size
    rate = np.where(inside, intra.bandwidth_byte_per_s, inter.bandwidth_byte_per_s)
    latency = np.where(inside, intra.latency_s, inter.latency_s) * step_count(work.kind, work.group)
    return sent_byte / (rate * device.efficiency.link), latency, sent_byte / rate


def datasheet_time(group: KernelGroup, device: Device, working_set: WorkingSet) -> Time:
    """Time of one execution of each kernel in `group`, shape (*scenarios, kernels).

    Errors: InfeasibleError where the device cannot compute in a format or has no link that the work needs.
    """
    work, cost, efficiency = group.work, group.cost, device.efficiency
    if isinstance(work, Collective):
        link_s, latency_s, bare_s = _link_time(work, cost.link_byte, device)
        nothing = np.zeros_like(link_s)
        total_s = link_s + efficiency.kernel_overhead_s + latency_s
        parts = (link_s, efficiency.kernel_overhead_s + latency_s, total_s, bare_s)
        return Time(nothing, nothing, *(np.asarray(part) for part in parts))
    dtype = operand_dtype(work)
    matrix_s = cost.matrix_flop / device.matrix_flop_per_s[device.arithmetic(dtype)] if dtype else 0.0
    vector_s = cost.vector_flop / device.vector_flop_per_s
    bare_memory_s = _memory_s(cost, device, working_set)
    compute_s = np.asarray(matrix_s * (array_padding(work, device) / efficiency.matrix) + vector_s / efficiency.vector)
    memory_s = np.asarray(bare_memory_s / efficiency.dram)
    launch = _launches(work)
    overhead_s = np.asarray(launch * efficiency.kernel_overhead_s)
    return Time(
        compute_s=compute_s,
        memory_s=memory_s,
        link_s=_ZERO,
        overhead_s=overhead_s,
        total_s=np.asarray(np.maximum(compute_s, memory_s) + overhead_s),
        roofline_s=np.asarray(np.maximum(np.maximum(matrix_s, vector_s), bare_memory_s)),
    )


EXPERT_LAUNCH = 7.0
"""Kernels of one layer of routed experts as engines run it: counting, sorting and padding rows by expert, the grouped
products with the activation between them, the weighted sum. Fused layers measured on H100 start from 16 to 36 us."""


def _launches(work: Work) -> Number:
    """Kernels that are launched for one execution."""
    match work:
        case Pointwise():
            return work.launch
        case ExpertLayer():
            return EXPERT_LAUNCH
        case _:
            return 1.0


_ZERO = np.zeros(())
