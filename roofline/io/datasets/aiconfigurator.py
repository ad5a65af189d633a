"""Reader of ai-dynamo/aiconfigurator's kernel tables: `*_perf.parquet`, one row per shape, times in milliseconds.

What the tables do not say is from that project's collector scripts: `message_size` counts elements of the whole
buffer; the keys of a decode number isl + step; GEMM loops take turns over six (vLLM) or up to five (TensorRT-LLM)
weights in a CUDA graph, fp8_block over one without a graph; attention and MoE replay one graph on the same data;
the MLA tables run DeepSeek's latent dimensions.
"""

from collections.abc import Callable, Mapping

import numpy as np

from ...errors import RooflineError
from ...structs import NO_WINDOW, STORED_BYTE, Array, Dtype
from ...timing.loop import BenchmarkLoop
from ..records import Family, Precision, Refused
from .source import Mask, Result, Source, Table, Text, build, each_combination, join, plain, profile_name

_MS = 1e-3

_DTYPE = {
    "bfloat16": Dtype.BF16,
    "float16": Dtype.FP16,
    "half": Dtype.FP16,
    "float32": Dtype.FP32,
    "fp8": Dtype.FP8,
    "int8": Dtype.INT8,
}

_SCHEME = {name: plain(dtype) for name, dtype in _DTYPE.items()} | {
    "fp8_block": Precision("fp8_block", Dtype.FP8, Dtype.FP8, Dtype.FP8),
    "int8_wo": Precision("int8_weight_only", Dtype.BF16, Dtype.INT8, Dtype.BF16),
    "int4_wo": Precision("int4_weight_only", Dtype.BF16, Dtype.INT4, Dtype.BF16),
    "sq": Precision("int8", Dtype.INT8, Dtype.INT8, Dtype.INT8),
    "nvfp4": Precision("fp4", Dtype.FP4, Dtype.FP4, Dtype.FP4),
}
"""Formats of a GEMM or MoE label. sq is SmoothQuant (8-bit weights and activations); wo is weight-only."""

_GRAPH = BenchmarkLoop(operand_copies=1.0, launch_floor_s=0.0)
_LATENT_RANKS = {"kv_rank": 512.0, "rope_dim": 64.0, "nope_dim": 128.0, "value_dim": 128.0}
_COLLECTIVE = {
    "all_reduce": Family.ALL_REDUCE,
    "all_gather": Family.ALL_GATHER,
    "reduce_scatter": Family.REDUCE_SCATTER,
    "alltoall": Family.ALL_TO_ALL,
}


def claims(source: Source) -> bool:
    """Whether `source` is one of these tables, by its name."""
    return source.path.name.endswith("_perf.parquet")


def read(source: Source) -> Result:
    """All records of one table. Errors: RooflineError where it is not parquet or a column is missing or mistyped."""
    table = _open(source)
    kind = source.path.name.removesuffix("_perf.parquet")
    if kind not in _READERS:
        known = ", ".join(sorted(_READERS))
        return (), table.refuse(table.line > 0, f"table {kind!r} is of no known kernel ({known})")
    return _READERS[kind](table)


def _open(source: Source) -> Table:
    """The parquet file with null as NaN or empty text. Columns of other types (dates, lists) are left out."""
    try:
        import pyarrow as arrow
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise RooflineError(
            f"{source.name}: reading parquet needs pyarrow. Install it with: pip install 'roofline[datasets]'."
        ) from error
    try:
        table = parquet.read_table(source.path)
    except (arrow.ArrowException, OSError) as error:
        raise RooflineError(f"{source.name}: not a readable parquet file ({str(error)[:200]}).") from error
    columns: dict[str, Array | Text] = {}
    for name in table.column_names:
        column = table[name]
        if arrow.types.is_integer(column.type) or arrow.types.is_floating(column.type):
            columns[name] = column.cast(arrow.float64()).fill_null(np.nan).to_numpy()
        elif arrow.types.is_string(column.type) or arrow.types.is_large_string(column.type):
            columns[name] = np.array(column.fill_null("").to_pylist(), dtype=str)
    return Table(source, columns, np.arange(1.0, table.num_rows + 1.0))


def _groups(
    table: Table,
    family_of: Callable[[str], Family | None],
    precision_of: Callable[..., Precision | None],
    formats: tuple[str, ...],
    loop_of: Callable[[str, str, str, Mask], BenchmarkLoop],
    **dims: Array | float,
) -> Result:
    """Records per distinct framework, version, device, operation, kernel and formats.

    `loop_of` takes framework, kernel, the first format and the rows.
    """
    common = ("framework", "version", "device", "op_name", "kernel_source")
    measured_s = table.number("latency") * _MS
    results: list[Result] = []
    for values, mask in each_combination(*(table.text(name) for name in (*common, *formats))):
        framework, version, device, operation, kernel = values[:5]
        precision, family = precision_of(*values[5:]), family_of(operation)
        if precision is None:
            reason = f"number format {'/'.join(values[5:])} is not known"
            results.append(((), table.refuse(mask, reason)))
        elif family is None:
            results.append(((), table.refuse(mask, f"operation {operation!r} is not known")))
        else:
            found = build(
                table,
                measured_s,
                mask,
                family=family,
                device=profile_name(device),
                backend="nccl" if kernel == "NCCL" else framework.lower(),
                version=version,
                kernel=kernel,
                precision=precision,
                loop=loop_of(framework.lower(), kernel, values[5], mask),
                **dims,
            )
            results.append(found)
    return join(results)


def _gemm(table: Table) -> Result:
    def loop(framework: str, _kernel: str, dtype: str, _rows: Mask) -> BenchmarkLoop:
        copies = 5.0 if framework == "trtllm" else 1.0 if dtype == "fp8_block" else 6.0
        return BenchmarkLoop(operand_copies=copies)

    shape = {name: table.number(name) for name in ("m", "n", "k")}
    return _groups(table, lambda _: Family.GEMM, _SCHEME.get, ("gemm_dtype",), loop, **shape, copies=1.0)


def _attention_precision(arithmetic: str, cache: str) -> Precision | None:
    if arithmetic not in _DTYPE or cache not in _DTYPE:
        return None
    left, right = _DTYPE[arithmetic], _DTYPE[cache]
    return Precision(left.value if left == right else f"{left}/{right}", left, left, right)


def _one_phase(table: Table, decode: bool) -> tuple[Table, tuple[Refused, ...]]:
    """The rows that are what the table's name says: a decode has one new token, a prefill more; no beam search."""
    beams = table.number("beam_width", 1.0) != 1
    other = ((table.number("isl") == 1) != decode) & ~beams
    reason = "a decode of several new tokens" if decode else "a prefill of one new token is a decode"
    refused = (
        *table.refuse(beams, "beam search: sequences share keys, unlike any kernel here"),
        *table.refuse(other, reason),
    )
    return table.rows(~beams & ~other), refused


def _attention(whole: Table, family: Family) -> Result:
    table, refused = _one_phase(whole, family is Family.DECODE_ATTENTION)
    heads = table.number("num_heads")
    kv_heads, window = table.number("num_key_value_heads", 0.0), table.number("window_size", 0.0)
    records, left = _groups(
        table,
        lambda _: family,
        _attention_precision,
        ("attn_dtype", "kv_cache_dtype"),
        lambda *_: _GRAPH,
        sequences=table.number("batch_size"),
        new_token=table.number("isl"),
        context=table.number("step"),
        heads=heads,
        kv_heads=np.where(kv_heads == 0, heads, kv_heads),
        head_dim=table.number("head_dim"),
        window=np.where(window == 0, NO_WINDOW, window),
    )
    return records, (*refused, *left)


def _latent(whole: Table, family: Family) -> Result:
    table, refused = _one_phase(whole, family is Family.LATENT_DECODE)
    latency_s, new, context = (table.number(name) for name in ("latency", "isl", "step"))
    work = table.number("batch_size") * new * (context + new) * table.number("num_heads")

    def loop(_framework: str, _kernel: str, _dtype: str, rows: Mask) -> BenchmarkLoop:
        # Launched one by one: the quarter of the rows with the least work takes what the host needs for that.
        least = rows & (work <= np.nanquantile(work[rows], 0.25))
        return BenchmarkLoop(operand_copies=1.0, launch_floor_s=float(np.nanmedian(latency_s[least]) * _MS))

    records, left = _groups(
        table,
        lambda _: family,
        _attention_precision,
        ("mla_dtype", "kv_cache_dtype"),
        loop,
        sequences=table.number("batch_size"),
        new_token=table.number("isl"),
        context=table.number("step"),
        heads=table.number("num_heads"),
        **_LATENT_RANKS,
    )
    return records, (*refused, *left)


def _moe(whole: Table) -> Result:
    routing = whole.text("distribution")
    power_law = np.char.startswith(routing, "power_law_")
    known = power_law | (routing == "balanced")
    exponent = np.where(power_law, np.char.replace(routing, "power_law_", ""), "0")
    table = Table(whole.source, {**whole.columns, "routing_exponent": exponent}, whole.line).rows(known)
    records, left = _groups(
        table,
        lambda _: Family.MOE,
        _SCHEME.get,
        ("moe_dtype",),
        lambda *_: _GRAPH,
        token=table.number("num_tokens"),
        hidden=table.number("hidden_size"),
        width=table.number("inter_size"),
        experts=table.number("num_experts"),
        per_token=table.number("topk"),
        tensor_parallel=table.number("moe_tp_size"),
        expert_parallel=table.number("moe_ep_size"),
        routing_exponent=table.number("routing_exponent"),
    )
    return records, (*whole.refuse(~known, "the distribution of tokens is not known"), *left)


def _collective(table: Table, dtype: str) -> Result:
    latency_s, group = table.number("latency") * _MS, table.number("num_gpus")
    value_byte = [STORED_BYTE[_DTYPE[name]] if name in _DTYPE else np.nan for name in table.text(dtype).tolist()]

    def loop(_framework: str, kernel: str, _dtype: str, rows: Mask) -> BenchmarkLoop:
        eager = kernel.endswith("eager")  # the smallest message costs what the host needs to launch it
        floor = np.nanmin(np.where(rows, latency_s, np.inf)) if eager else 0.0
        return BenchmarkLoop(operand_copies=1.0, launch_floor_s=float(floor))

    return _groups(
        table,
        _COLLECTIVE.get,
        _SCHEME.get,
        (dtype,),
        loop,
        payload_byte=table.number("message_size") * np.array(value_byte),
        group_size=group,
        node_size=group,
    )


_READERS: Mapping[str, Callable[[Table], Result]] = {
    "gemm": _gemm,
    "context_attention": lambda table: _attention(table, Family.PREFILL_ATTENTION),
    "generation_attention": lambda table: _attention(table, Family.DECODE_ATTENTION),
    "context_mla": lambda table: _latent(table, Family.LATENT_PREFILL),
    "generation_mla": lambda table: _latent(table, Family.LATENT_DECODE),
    "moe": _moe,
    "nccl": lambda table: _collective(table, "nccl_dtype"),
    "custom_allreduce": lambda table: _collective(table, "allreduce_dtype"),
}
