"""Readers of published measurement sets: layouts, units, traps of the data, and broken files."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from roofline.api import case_of
from roofline.errors import RooflineError
from roofline.io.datasets import read
from roofline.io.records import Family, Records, collapse
from roofline.structs import NO_WINDOW
from roofline.timing.confidence import sizes_of

arrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

COMMON = {"framework": "VLLM", "version": "0.14.0", "device": "NVIDIA H100 80GB HBM3", "kernel_source": "k"}


def table(path: Path, rows: list[dict[str, object]], **common: object) -> None:
    """A parquet file of `rows`, each with COMMON and `common`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(arrow.Table.from_pylist([{**COMMON, **common, **row} for row in rows]), path)


def decode_row(**change: object) -> dict[str, object]:
    row = {"batch_size": 2, "isl": 1, "step": 127, "num_heads": 8, "num_key_value_heads": 2, "head_dim": 64}
    formats = {"attn_dtype": "bfloat16", "kv_cache_dtype": "fp8", "beam_width": 1, "window_size": 0}
    return {**row, **formats, "op_name": "generation_attention", "latency": 0.01, **change}


def one(records: tuple[Records, ...], **fields: str) -> Records:
    """The only group with these fields."""
    found = [group for group in records if all(getattr(group, name) == value for name, value in fields.items())]
    assert len(found) == 1, [group.name for group in found]
    return found[0]


def test_gemm_table_in_milliseconds(tmp_path: Path):
    table(
        tmp_path / "gemm_perf.parquet",
        [{"gemm_dtype": "fp8", "m": 3, "n": 64, "k": 32, "latency": 0.5}],
        op_name="gemm",
    )
    (records,), refused = read(tmp_path)
    assert not refused
    assert (records.family, records.device, records.backend) == (Family.GEMM, "h100-sxm", "vllm")
    assert records.measured_s.tolist() == [0.5e-3]
    assert {name: values.tolist() for name, values in records.dims.items()} == {
        "m": [3.0],
        "n": [64.0],
        "k": [32.0],
        "copies": [1.0],
    }
    assert records.loop.operand_copies == 6.0  # the vLLM collector takes turns over six weights
    assert records.key(0) == "gemm_perf.parquet:1 gemm"


def test_decode_has_isl_plus_step_keys(tmp_path: Path):
    table(tmp_path / "generation_attention_perf.parquet", [decode_row()])
    (records,), _ = read(tmp_path)
    # 128 keys in all: 127 cached before the call and the new one
    assert records.dims["context"][0] + records.dims["new_token"][0] == 128.0
    assert records.dims["window"][0] == NO_WINDOW
    assert (records.precision.label, records.precision.cache.value) == ("bf16/fp8", "fp8")


def test_no_kv_heads_means_multi_head_attention(tmp_path: Path):
    stated = decode_row(num_key_value_heads=0)
    missing = {name: value for name, value in decode_row().items() if name != "num_key_value_heads"}
    table(tmp_path / "a" / "generation_attention_perf.parquet", [stated])
    table(tmp_path / "b" / "generation_attention_perf.parquet", [missing])
    for records in read(tmp_path)[0]:
        assert records.dims["kv_heads"].tolist() == [8.0]


def test_one_token_prefills_and_beams_are_refused(tmp_path: Path):
    rows = [decode_row(isl=64, step=0), decode_row(isl=1, step=0), decode_row(isl=64, step=0, beam_width=4)]
    table(tmp_path / "context_attention_perf.parquet", rows, op_name="context_attention")
    records, refused = read(tmp_path)
    assert sum(group.size for group in records) == 1
    assert sorted(entry.reason.split(":")[0] for entry in refused) == [
        "a prefill of one new token is a decode",
        "beam search",
    ]


def test_messages_count_elements_of_the_whole_buffer(tmp_path: Path):
    rows = [{"nccl_dtype": dtype, "num_gpus": 4, "message_size": 1024, "latency": 0.1} for dtype in ("half", "int8")]
    table(tmp_path / "nccl_perf.parquet", rows, op_name="all_gather", kernel_source="NCCL")
    records, _ = read(tmp_path)
    payload = {group.precision.label: group.dims["payload_byte"][0] for group in records}
    assert payload == {"fp16": 2048.0, "int8": 1024.0}
    assert {group.backend for group in records} == {"nccl"}


def test_bad_times_and_unknown_formats_are_refused(tmp_path: Path):
    row = {"m": 3, "n": 64, "k": 32, "gemm_dtype": "bfloat16"}
    rows = [{**row, "latency": value} for value in (0.1, 0.0, -1.0, float("nan"), None)]
    table(tmp_path / "gemm_perf.parquet", [*rows, {**row, "gemm_dtype": "fp7", "latency": 0.1}], op_name="gemm")
    (records,), refused = read(tmp_path)
    assert records.size == 1
    assert {entry.reason: entry.n for entry in refused} == {
        "the time is missing or not a number": 2,
        "the time is zero or negative": 2,
        "number format fp7 is not known": 1,
    }


def test_missing_columns_and_wrong_types_name_the_column(tmp_path: Path):
    row = {"gemm_dtype": "bfloat16", "m": 3, "n": 64, "latency": 0.1}
    table(tmp_path / "gemm_perf.parquet", [row], op_name="gemm")
    with pytest.raises(RooflineError, match="column 'k' is missing"):
        read(tmp_path)
    table(tmp_path / "gemm_perf.parquet", [{**row, "k": "many"}], op_name="gemm")
    with pytest.raises(RooflineError, match="column 'k' holds 'many', not a number"):
        read(tmp_path)
    table(tmp_path / "gemm_perf.parquet", [{**row, "k": 3}], op_name="gemm", framework=7)
    with pytest.raises(RooflineError, match="'framework' holds numbers"):
        read(tmp_path)


@pytest.mark.parametrize("content", [b"", b"PAR1 nonsense"])
def test_broken_parquet_is_an_error(tmp_path: Path, content: bytes):
    (tmp_path / "gemm_perf.parquet").write_bytes(content)
    with pytest.raises(RooflineError, match="not a readable parquet"):
        read(tmp_path)


def test_all_rows_refused_is_an_error_with_the_reason(tmp_path: Path):
    table(
        tmp_path / "gemm_perf.parquet", [{"gemm_dtype": "fp8", "m": 1, "n": 1, "k": 1, "latency": 0.0}], op_name="gemm"
    )
    with pytest.raises(RooflineError, match="the time is zero or negative"):
        read(tmp_path)


def test_empty_table_unknown_layout_and_wrong_paths(tmp_path: Path):
    with pytest.raises(RooflineError, match="no usable record"):
        read(tmp_path)
    (tmp_path / "numbers.csv").write_text("a,b\n1,2\n")
    with pytest.raises(RooflineError, match="no known layout"):
        read(tmp_path)
    with pytest.raises(RooflineError, match="no known layout"):
        read(tmp_path / "numbers.csv")
    with pytest.raises(RooflineError, match="does not exist"):
        read(tmp_path / "nowhere")


def test_other_files_of_the_sets_are_named_not_guessed(tmp_path: Path):
    table(
        tmp_path / "gemm_perf.parquet", [{"gemm_dtype": "fp8", "m": 1, "n": 1, "k": 1, "latency": 1.0}], op_name="gemm"
    )
    (tmp_path / "requests.jsonl").write_text("{}\n")
    reasons = {entry.example: entry.reason for entry in read(tmp_path)[1]}
    assert "requests" in reasons["requests.jsonl"]


def test_without_pyarrow_the_message_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    table(
        tmp_path / "gemm_perf.parquet", [{"gemm_dtype": "fp8", "m": 1, "n": 1, "k": 1, "latency": 1.0}], op_name="gemm"
    )
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(RooflineError, match=r"roofline\[datasets\]"):
        read(tmp_path)


def test_readers_load_neither_pyarrow_nor_pandas():
    code = "import sys, roofline.io.datasets; print({'pyarrow', 'pandas', 'pydantic'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"


MLP_HEADER = "time_stats.add.median,time_stats.mlp_up_proj.median,n_head,n_kv_head,n_embd,n_expanded_embd,vocab_size"


def vidur(folder: Path, line: str, header: str = MLP_HEADER) -> Path:
    file = folder / "compute" / "a100" / "model" / "mlp.csv"
    file.parent.mkdir(parents=True)
    file.write_text(f"{header},use_gated_mlp,num_tokens,num_tensor_parallel_workers\n{line}\n")
    return folder


def test_vidur_layers_by_hand(tmp_path: Path):
    records, _ = read(vidur(tmp_path, "0.002,0.5,32,8,4096,11008,32000,True,16,2"))
    up, add = one(records, kernel="mlp_up_proj"), one(records, kernel="add")
    assert up.measured_s.tolist() == [0.5e-3] and up.device == "a100-sxm-80gb"
    # gate and up in one product, split over two devices
    assert [up.dims[name][0] for name in "mnk"] == [16.0, 11008.0, 4096.0]
    assert [add.dims[name][0] for name in ("row", "read_byte", "write_byte")] == [16.0, 2 * 4096 * 2, 4096 * 2]


def test_plain_mlp_has_no_gate(tmp_path: Path):
    records, _ = read(vidur(tmp_path, "0.002,0.5,32,8,4096,11008,32000,False,16,1"))
    assert one(records, kernel="mlp_up_proj").dims["n"].tolist() == [11008.0]


def test_cut_off_csv_names_the_line(tmp_path: Path):
    with pytest.raises(RooflineError, match=r"mlp\.csv:2: 4 cells"):
        read(vidur(tmp_path, "0.002,0.5,32,8"))


def test_text_in_a_number_column_names_line_and_column(tmp_path: Path):
    with pytest.raises(RooflineError, match=r"mlp\.csv:2: column 'n_head' holds 'x'"):
        read(vidur(tmp_path, "0.002,0.5,x,8,4096,11008,32000,True,16,1"))


def all_reduces(folder: Path, lines: str) -> Path:
    """Vidur's all_reduce.csv."""
    file = folder / "data" / "profiling" / "network" / "a100_dgx" / "all_reduce.csv"
    file.parent.mkdir(parents=True)
    file.write_text(
        f"time_stats.all_reduce.median,num_workers,size,collective,devices_per_node,max_devices_per_node\n{lines}"
    )
    return folder


def test_all_reduces_without_a_graph_take_what_the_fastest_takes(tmp_path: Path):
    lines = "0.010,2,2048,all_reduce,2,8\n0.5,2,104857600,all_reduce,2,8\n"
    assert one(read(all_reduces(tmp_path, lines))[0], family="all_reduce").loop.launch_floor_s == pytest.approx(10e-6)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("lines", ["", ",2,2048,all_reduce,2,8\n"])
def test_all_reduces_without_a_time_are_refused(tmp_path: Path, lines: str):
    with pytest.raises(RooflineError, match="no usable record"):
        read(all_reduces(tmp_path, lines))


def dense_table(folder: Path, lines: str) -> Path:
    """LLMServingSim's dense.csv of Llama-3.1-8B at TP 2."""
    file = folder / "perf" / "RTXPRO6000" / "meta-llama" / "Llama-3.1-8B" / "bf16" / "tp2" / "dense.csv"
    file.parent.mkdir(parents=True)
    file.write_text(f"layer,tokens,time_us\n{lines}\n")
    return folder


def test_layer_norms_are_two_kernels_and_their_residual_is_old(tmp_path: Path):
    """One layer is profiled: the input norm has no residual (one row in, one out), the post-attention norm has (two and
    two), "layernorm" is their mean. Between them pass W_qkv, W_o and, per token, the normalised input, q k v, the
    cached k and v, the attention's output, W_o's output and the residual itself: 49,152 bytes, so that the last
    residual leaves 128 MiB at exactly 1024 tokens, where the measured times turn up. At TP 2 they are copies of TP 1.
    """
    records, _ = read(dense_table(tmp_path, "layernorm,512,4.3\nlayernorm,1024,6.1\nfinal_layernorm,512,6.1"))
    mean, final = one(records, kernel="layernorm"), one(records, kernel="final_layernorm")
    assert mean.dims["read_byte"][0] == mean.dims["write_byte"][0] == 1.5 * 4096 * 2
    assert final.dims["read_byte"][0] == final.dims["write_byte"][0] == 2 * 4096 * 2
    assert mean.loop.aged_share == pytest.approx(0.5 / 1.5) and final.loop.aged_share == 0.5
    assert np.asarray(mean.loop.aged_byte).tolist() == [2 * 4096 * (6144 + 4096) + 512 * 49152, 128 * 2**20]
    assert np.asarray(final.loop.aged_byte)[0] > 3 * 14336 * 4096 * 2


def test_an_activation_is_written_while_weights_stream_by(tmp_path: Path):
    records, _ = read(dense_table(tmp_path, "act_fn,1,1.8\nact_fn,1000,6.7"))
    activation = one(records, kernel="act_fn")
    weight = 4096 * 14336 * 2  # gate and up, half of each
    assert np.asarray(activation.loop.streamed_byte).tolist() == [weight + 8192, weight + 8192e3]
    assert activation.loop.aged_share == 0.0


def test_rows_by_token_have_the_sizes_of_a_models_step(tmp_path: Path):
    """Ids and positions are counted in neither: beyond the measured sizes a band widens, also by 8 bytes of 8192."""
    records, _ = read(dense_table(tmp_path, "embedding,512,4.3\nembedding,1024,6.1"))
    case = case_of("llama-3.1-8b", "rtx-pro-6000")
    (row,) = [group for group in case.deployment.decode_step(8.0, 1024.0).groups if "embedding" in group.names]
    sizes, index = sizes_of(row.work), row.names.index("embedding")
    measured = one(records, kernel="embedding").dims
    for name in ("read_byte", "write_byte"):
        assert np.broadcast_to(sizes[name], (1, len(row.names)))[0, index] == measured[name][0] == 8192.0


def test_flat_arrays_have_one_row(tmp_path: Path):
    """1024 values at 0.0512 G/s: 20 us."""
    (tmp_path / "gelu_MI210.csv").write_text("1024, 0.0512\n2048, 0.1\n")
    records, _ = read(tmp_path)
    gelu = one(records, kernel="gelu")
    assert gelu.dims["row"].tolist() == [1.0, 1.0] and gelu.dims["read_byte"].tolist() == [2048.0, 4096.0]
    assert gelu.measured_s[0] == pytest.approx(20e-6)


# --- The published sets themselves ---


@pytest.fixture(scope="module")
def shared(data_folder: Path) -> tuple[tuple[Records, ...], dict[str, int]]:
    """Everything in the folder of measured data: records, and the number of refused rows by reason."""
    records, refused = read(data_folder)
    reasons: dict[str, int] = {}
    for entry in refused:
        reasons[entry.reason] = reasons.get(entry.reason, 0) + entry.n
    return records, reasons


def test_the_shared_set_reads_whole(shared: tuple[tuple[Records, ...], dict[str, int]]):
    records, reasons = shared
    assert sum(group.size for group in records) > 590_000
    assert {group.device for group in records} == {"a100-sxm-80gb", "h100-sxm", "mi210", "rtx-pro-6000", "tpu-v6e"}
    assert reasons["a prefill of one new token is a decode"] == 417 + 72 + 3861 + 834 + 3336 + 270
    assert reasons["down_proj holds the time of up_proj too"] == 311
    assert all(np.all(group.measured_s > 0) for group in records)


def test_units_give_physical_rates(shared: tuple[tuple[Records, ...], dict[str, int]]):
    """A unit read wrongly is off by a thousand: large products run at 0.5 to 1 of each device's dense 16-bit peak."""
    peak = {"a100-sxm-80gb": 312e12, "h100-sxm": 989.4e12, "mi210": 181e12, "rtx-pro-6000": 500e12, "tpu-v6e": 918e12}
    seen = set()
    for group in shared[0]:
        if group.family is Family.GEMM and group.precision.label in ("bf16", "fp16") and group.size > 1:
            flop = 2.0 * group.dims["m"] * group.dims["n"] * group.dims["k"]
            large = flop > 3e11
            if large.any():
                seen.add((group.device, group.backend))
                assert 0.4 < np.median(flop[large] / group.measured_s[large]) / peak[group.device] < 1.0, group.name
    assert len(seen) >= 7


def test_int8_messages_take_as_long_as_half_of_the_same_bytes(shared: tuple[tuple[Records, ...], dict[str, int]]):
    """message_size is elements: read as bytes, these would differ by a factor of two at large sizes."""
    groups = {
        g.precision.label: collapse(g)[0]
        for g in shared[0]
        if g.backend == "nccl" and g.family == "all_gather" and g.device == "a100-sxm-80gb"
    }
    half, byte = groups["fp16"], groups["int8"]
    large = (half.dims["payload_byte"] >= 2**26) & (half.dims["group_size"] == 8)
    same = (byte.dims["payload_byte"] >= 2**26) & (byte.dims["group_size"] == 8)
    assert half.dims["payload_byte"][large].tolist() == byte.dims["payload_byte"][same].tolist()
    assert np.max(np.abs(half.measured_s[large] / byte.measured_s[same] - 1.0)) < 0.1


def test_compass_layer_is_one_of_four_devices(shared: tuple[tuple[Records, ...], dict[str, int]]):
    """The all-reduce of 8 x 2048 x 12288 fp16 among four A100 took 2.8909 ms."""
    found = [g for g in shared[0] if g.kernel == "mlp_all_reduce" and g.dims["payload_byte"][0] > 1e8]
    assert len(found) == 1
    assert found[0].dims["payload_byte"].tolist() == [8 * 2048 * 12288 * 2.0]
    assert found[0].measured_s.tolist() == [0.0028909]


def test_repeat_noise_of_the_collectives(shared: tuple[tuple[Records, ...], dict[str, int]]):
    group = one(
        shared[0], device="h100-sxm", backend="nccl", family=Family.ALL_REDUCE, precision=shared_precision(shared)
    )
    collapsed, noise = collapse(group)
    assert (group.size, collapsed.size, noise.pairs) == (126, 63, 63)
    assert noise.median < 0.01


def shared_precision(shared: tuple[tuple[Records, ...], dict[str, int]]) -> object:
    return next(g.precision for g in shared[0] if g.backend == "nccl" and g.precision.label == "fp16")
