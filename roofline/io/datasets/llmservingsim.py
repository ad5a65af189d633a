"""Reader of casys-kaist/LLMServingSim's profiles: CSV by layer and attention batch.

Two layouts: version 0 (`layers.csv` and `attention.csv` in nanoseconds, here of a TPU) and the current one
(`dense.csv`, `per_sequence.csv` and `attention.csv` in microseconds, here of vLLM 0.19 without graphs). The folders
name the device, the model and the tensor parallelism: `DEVICE/ORGANISATION/MODEL/.../tp1/`. A sequence's history is
cached before its new tokens, as in `Records`.
"""

from dataclasses import dataclass

import numpy as np

from ...errors import RooflineError
from ...structs import NO_WINDOW, Array, Dtype, Number
from ...timing.loop import MODEL_STEP, BenchmarkLoop
from ..records import Family
from .layers import SHAPES, VALUE_BYTE, Kernel, ModelShape, layer
from .source import PROFILE_OF, Mask, Result, Source, Table, Text, build, csv_table, join, plain

_NS, _US = 1e-9, 1e-6
_TPU_FUSED = ["act_fn", "rope", "input_layernorm", "post_layernorm", "final_layernorm"]
_TPU_DOWN_SEPARATE = 313.0
"""From this many tokens on, down_proj is timed apart from up_proj."""

_FIRST_COLUMNS = {
    "layers.csv": ("layer_name",),
    "dense.csv": ("layer",),
    "per_sequence.csv": ("layer",),
    "attention.csv": ("prefill_chunk_size", "prefill_chunk"),
}


@dataclass(frozen=True, slots=True)
class _Place:
    """What the folders above a file say."""

    device: str
    shape: ModelShape
    share: float
    version: str


def claims(source: Source) -> bool:
    """Whether `source` is one of these tables, by its name and the first column of its header."""
    if source.path.name not in _FIRST_COLUMNS:
        return False
    with source.path.open("rb") as stream:
        first = stream.readline(1 << 12).decode("utf-8", "replace").split(",")[0].strip()
    return first in _FIRST_COLUMNS[source.path.name]


def read(source: Source) -> Result:
    """All records of one table. Errors: RooflineError where the folders do not say what was measured."""
    table, place = csv_table(source), _place(source)
    if "layer_name" in table.columns:
        return _tpu_layers(table, place)
    if "prefill_chunk_size" in table.columns:
        return _tpu_attention(table, place)
    if "prefill_chunk" in table.columns:
        return _batch_attention(table, place)
    row = table.number("sequences" if source.path.name == "per_sequence.csv" else "tokens")
    return _by_layer(table, place, table.text("layer"), row, table.number("time_us") * _US)


def _place(source: Source) -> _Place:
    parents = source.path.resolve().parents
    names = [parent.name for parent in parents]
    devices = [name for name in names if name in PROFILE_OF]
    models = [name for name in names if name in SHAPES]
    shares = [name for name in names if name.startswith("tp") and name[2:].isdigit()]
    for found, what in ((devices, "the device"), (models, "a model of known shape"), (shares, "tensor parallelism")):
        if not found:
            known = ", ".join([*SHAPES, "TPU-v6e-1", "RTXPRO6000", "tp1"])
            raise RooflineError(f"{source.name}: no folder above it names {what}. Known names: {known}.")
    version = ""
    for parent in parents[:4]:
        if (parent / "meta.yaml").is_file():
            lines = (parent / "meta.yaml").read_text(encoding="utf-8", errors="replace").splitlines()
            version = next((line.split(":")[1].strip() for line in lines if line.startswith("vllm_version:")), "")
            break
    return _Place(PROFILE_OF[devices[0]], SHAPES[models[0]], float(shares[0][2:]), version)


def _records(
    table: Table, place: _Place, time_s: Array, take: Mask, name: str, kernel: Kernel, loop: BenchmarkLoop = MODEL_STEP
) -> Result:
    family, dims = kernel
    return build(
        table,
        time_s,
        take,
        family=family,
        device=place.device,
        backend="vllm" if place.version else "llmservingsim",
        version=place.version,
        kernel=name,
        precision=plain(Dtype.BF16),
        loop=loop,
        **dims,
    )


def _by_layer(table: Table, place: _Place, names: Text, row: Array, time_s: Array) -> Result:
    results: list[Result] = []
    for name in np.unique(names).tolist():
        kernel = layer(name, row, place.shape, place.share)
        if kernel is None:
            results.append(((), table.refuse(names == name, f"layer {name!r} is of no known kernel")))
        else:
            results.append(_records(table, place, time_s, names == name, name, kernel, _loop(name, row, place)))
    return join(results)


def _loop(name: str, row: Array, place: _Place) -> BenchmarkLoop:
    """How old a layer's input is, from the order of vLLM's kernels in one layer.

    An activation's input is written bit by bit while gate_up_proj streams its weights and input. A norm's second input,
    the residual, is as old as the kernels since the norm before: for the post-attention norm (half of "layernorm", a
    third of the mean input) qkv_proj, attention and o_proj; for the final one the whole MLP, with its weights. Norms
    are measured on one device only, and copied to the folders of more (`tp_stable` in profiler/models/llama.yaml).
    The TPU's compiler brings o_proj's weights to the chip while attention runs: 33.5 MB within 5.3 us are four times
    its DRAM's bandwidth.
    """
    shape = place.shape
    hidden, width = shape.hidden, (1.0 + shape.gated) * shape.width
    query, key = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    match name:
        case "act_fn":
            return BenchmarkLoop(streamed_byte=VALUE_BYTE * hidden * (width / place.share + row))
        case "layernorm":
            weights = hidden * (query + 2.0 * key) + query * hidden
            value = weights + row * (3.0 * hidden + 2.0 * query + 4.0 * key)
            return BenchmarkLoop(aged_byte=VALUE_BYTE * value, aged_share=1.0 / 3.0)
        case "final_layernorm":
            value = 1.5 * width * hidden + row * (3.0 * hidden + 1.5 * width)
            return BenchmarkLoop(aged_byte=VALUE_BYTE * value, aged_share=0.5)
        case "o_proj" if not place.version:
            return BenchmarkLoop(operand_copies=1.0)
    return MODEL_STEP


def _tpu_layers(table: Table, place: _Place) -> Result:
    names, row = table.text("layer_name"), table.number("input")
    fused = np.isin(names, _TPU_FUSED)
    first = (row == 1) & ~fused
    paired = (names == "down_proj") & (row < _TPU_DOWN_SEPARATE) & ~first
    refused = (
        *table.refuse(fused, "fused into its neighbours by the compiler: what is left is not the layer's own time"),
        *table.refuse(first, "rows of one token attribute the time of one layer to another"),
        *table.refuse(paired, "down_proj holds the time of up_proj too"),
    )
    kept = table.rows(~fused & ~first & ~paired)
    records, left = _by_layer(
        kept, place, kept.text("layer_name"), kept.number("input"), kept.number("latency(ns)") * _NS
    )
    return records, (*refused, *left)


def _heads(place: _Place) -> dict[str, Number]:
    shape = place.shape
    return {"heads": shape.heads / place.share, "kv_heads": shape.kv_heads / place.share, "head_dim": shape.head_dim}


def _tpu_attention(table: Table, place: _Place) -> Result:
    chunk, time_s = table.number("prefill_chunk_size"), table.number("p50_ns") * _NS
    prefill = table.text("is_prefill") == "True"
    common = {"context": table.number("kv_cache_size"), "window": NO_WINDOW, **_heads(place)}
    one = {"sequences": table.number("batch_size"), "new_token": np.where(prefill, chunk, 1.0), **common}
    return join(
        [
            _records(table, place, time_s, prefill, "attention", (Family.PREFILL_ATTENTION, one)),
            _records(table, place, time_s, ~prefill, "attention", (Family.DECODE_ATTENTION, one)),
        ]
    )


def _batch_attention(table: Table, place: _Place) -> Result:
    chunk, decodes = table.number("prefill_chunk"), table.number("n_decode")
    history, decode_history = table.number("kv_prefill"), table.number("kv_decode")
    time_s = table.number("time_us") * _US
    empty = (chunk == 0) & (decodes == 0)
    prefill = {"sequences": 1.0, "new_token": chunk, "context": history, "window": NO_WINDOW, **_heads(place)}
    decode = {**prefill, "sequences": decodes, "new_token": 1.0, "context": decode_history}
    mixed = {
        "new_token": chunk,
        "context": history,
        "decode_sequences": decodes,
        "decode_context": decode_history,
        **_heads(place),
    }
    records, left = join(
        [
            _records(table, place, time_s, ~empty & (decodes == 0), "attention", (Family.PREFILL_ATTENTION, prefill)),
            _records(table, place, time_s, ~empty & (chunk == 0), "attention", (Family.DECODE_ATTENTION, decode)),
            _records(table, place, time_s, (chunk > 0) & (decodes > 0), "attention", (Family.MIXED_ATTENTION, mixed)),
        ]
    )
    return records, (*table.refuse(empty, "a batch without tokens"), *left)
