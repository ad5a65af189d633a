"""Reader of ai-dynamo/aiconfigurator's end-to-end sample: mean TTFT and TPOT of served models, one row per benchmark.

Two groups of records for each model, engine, release and format: their `kernel` is the model, their label starts with
the metric. Concurrency is that of the whole deployment (`silicon_concurrency=` in the source column). Not in the file,
and assumed: rows whose source is dated (InferenceX runs) draw lengths evenly between 0.8 and 1 times the nominal; every
client sends ten requests, so that means hold the burst at the start (the waits of long prompts say 7 to 14 per client);
rows without a precision are bf16, and fp8 rows of TensorRT-LLM with per-tensor scales keep their cache in fp8 (that is
how many requests run before a queue forms).
"""

import re

import numpy as np

from ...structs import Array, Dtype
from ...timing.loop import MODEL_STEP
from ..records import Family, Precision, Refused
from .source import Mask, Result, Source, Table, Text, build, csv_table, each_combination, join, profile_name

_MS = 1e-3
_CONCURRENCY = re.compile(r"silicon_concurrency=(\d+)")
_DATED = re.compile(r"^(source_file=\d{4}-|db-dump)")

PRESET = {
    "Qwen/Qwen3-32B": "qwen3-32b",
    "Qwen/Qwen3-235B-A22B-FP8": "qwen3-235b-a22b",
    "meta-llama/Llama-3.1-8B-Instruct": "llama-3.1-8b",
    "meta-llama/Llama-3.1-70B": "llama-3.1-70b",
    "openai/gpt-oss-120b": "gpt-oss-120b",
}
"""Model presets of the models that were served."""

SHORTEST = 0.8
"""Shortest length of InferenceX runs, as a share of the nominal one (general knowledge of that benchmark)."""

REQUESTS_PER_CLIENT = 10.0

_BF16, _FP8 = Dtype.BF16, Dtype.FP8
_SCHEME = {
    "": Precision("bf16", _BF16, _BF16, _BF16),
    "fp8": Precision("fp8", _FP8, _FP8, _BF16),
    "fp8_block": Precision("fp8_block", _FP8, _FP8, _BF16),
    "nvfp4": Precision("mxfp4 experts", _BF16, Dtype.FP4, _BF16),
}
"""Formats by `gemm_quant_mode`. gpt-oss is labelled nvfp4; its checkpoint is MXFP4, and H100 computes it in bf16."""

_FP8_CACHE = {("trtllm", "fp8")}


def claims(source: Source) -> bool:
    """Whether `source` is such a sample, by its header."""
    if source.path.suffix != ".csv":
        return False
    with source.path.open("rb") as stream:
        return b"silicon_ttft_ms" in stream.readline(1 << 16)


def read(source: Source) -> Result:
    """All records of the sample, TPOT and TTFT apart. Errors: RooflineError where a column is missing or mistyped."""
    table = csv_table(source)
    concurrency = _concurrency(table.text("silicon_data_source"))
    good = table.line > 0
    refused: list[Refused] = []
    for bad, reason in _defects(table, concurrency):
        refused += table.refuse(bad & good, reason)
        good = good & ~bad
    columns = [table.text(name) for name in ("model_path", "backend", "backend_version", "gemm_quant_mode", "system")]
    results: list[Result] = [((), tuple(refused))]
    for (model, backend, version, scheme, system), rows in each_combination(*columns):
        if scheme in _SCHEME:
            results += _metrics(table, rows & good, concurrency, (model, backend, version, scheme, system))
    return join(results)


def _metrics(table: Table, rows: Mask, concurrency: Array, names: tuple[str, str, str, str, str]) -> list[Result]:
    model, backend, version, scheme, system = names
    base = _SCHEME[scheme]
    cache = Dtype.FP8 if (backend, scheme) in _FP8_CACHE else base.cache
    dated = np.array([bool(_DATED.match(text)) for text in table.text("silicon_data_source").tolist()])
    return [
        build(
            table,
            table.number(column) * _MS,
            rows,
            family=Family.SERVING,
            device=profile_name(system).replace("_", "-"),
            backend=backend,
            version=version,
            kernel=PRESET.get(model, model),
            precision=Precision(
                f"{metric} {PRESET.get(model, model)} {base.label} {backend}", base.activation, base.weight, cache
            ),
            loop=MODEL_STEP,
            concurrency=concurrency,
            input_token=table.number("isl"),
            output_token=table.number("osl"),
            tensor_parallel=table.number("tp_size"),
            expert_parallel=table.number("moe_ep_size"),
            shortest_share=np.where(dated, SHORTEST, 1.0),
            request_per_client=REQUESTS_PER_CLIENT,
        )
        for metric, column in (("TPOT", "silicon_tpot_ms"), ("TTFT", "silicon_ttft_ms"))
    ]


def _concurrency(sources: Text) -> Array:
    found = [_CONCURRENCY.search(text) for text in sources.tolist()]
    return np.array([float(match[1]) if match else np.nan for match in found])


def _defects(table: Table, concurrency: Array) -> list[tuple[Mask, str]]:
    """Rows that say too little or contradict themselves, and why; never because a prediction misses them."""
    model, backend, scheme = (table.text(name) for name in ("model_path", "backend", "gemm_quant_mode"))
    ranks = table.number("attention_dp_size")
    per_rank = table.number("batch_size")
    shape = np.stack(
        [
            *(table.text(name) for name in ("model_path", "backend", "backend_version", "isl", "osl", "tp_size")),
            *(table.text(name) for name in ("moe_ep_size", "silicon_ttft_ms", "silicon_tpot_ms", "batch_size")),
        ],
        axis=1,
    )
    _, first = np.unique(shape, axis=0, return_index=True)
    repeated = ~np.isin(np.arange(table.line.size), first)
    return [
        (
            table.text("mode") != "agg",
            "prefill and decode in pools of their own: how requests share them is not stated",
        ),
        (~np.isfinite(concurrency), "no concurrency is stated"),
        (~np.isin(model, list(PRESET)), "no preset of this model, whose shape no source at hand states"),
        (~np.isin(scheme, list(_SCHEME)), "a number format that is not known here"),
        (repeated, "a row that stands in the file twice"),
        (
            np.isfinite(ranks) & (ranks > 1.0),
            "data-parallel attention: another run of the rows without, under the same total",
        ),
        (
            np.isfinite(per_rank) & (per_rank * np.nan_to_num(ranks, nan=1.0) != concurrency),
            "concurrency is not that of the ranks together: how many replicas there are is not stated",
        ),
        (
            (model == "openai/gpt-oss-120b") & (concurrency >= 512.0) & (backend == "vllm"),
            "512 clients with a shorter TPOT than 64 of the same setup: not one deployment",
        ),
    ]
