import pytest

from roofline.errors import RooflineError
from roofline.io.datasets import read
from roofline.io.records import Family

from ..serving_sample import sample


def test_a_row_becomes_tpot_and_ttft_in_seconds(tmp_path):
    records, refused = read(sample(tmp_path / "s.csv", {}))
    assert [group.precision.label for group in records] == ["TPOT qwen3-32b bf16 vllm", "TTFT qwen3-32b bf16 vllm"]
    assert [group.measured_s.tolist() for group in records] == [[0.02], [0.18]]
    first = records[0]
    assert (first.family, first.device, first.backend, first.kernel) == (
        Family.SERVING,
        "h100-sxm",
        "vllm",
        "qwen3-32b",
    )
    assert {name: float(values[0]) for name, values in first.dims.items()} == {
        "concurrency": 16.0,
        "input_token": 1024.0,
        "output_token": 128.0,
        "tensor_parallel": 2.0,
        "expert_parallel": 1.0,
        "shortest_share": 1.0,
        "request_per_client": 10.0,
    }
    assert refused == ()


def test_dated_runs_draw_their_lengths(tmp_path):
    records, _ = read(
        sample(
            tmp_path / "s.csv",
            {"silicon_data_source": "source_file=2026-03-25.csv; silicon_concurrency=4", "batch_size": "4"},
        )
    )
    assert records[0].dims["shortest_share"].tolist() == [0.8]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"mode": "disagg"}, "pools of their own"),
        ({"silicon_data_source": "source_file=a.csv"}, "no concurrency is stated"),
        ({"model_path": "MiniMaxAI/MiniMax-M2.5"}, "no preset of this model"),
        ({"gemm_quant_mode": "int3"}, "number format"),
        ({"batch_size": "8.0"}, "how many replicas there are is not stated"),
        ({"attention_dp_size": "4.0", "batch_size": "4.0"}, "data-parallel attention"),
        ({"silicon_tpot_ms": "-1"}, "zero or negative"),
        ({"silicon_tpot_ms": ""}, "missing or not a number"),
    ],
)
def test_rows_that_say_too_little_are_refused_with_the_reason(tmp_path, change, reason):
    records, refused = read(sample(tmp_path / "s.csv", {}, {"isl": "2048"} | change))
    assert records[0].size == 1
    assert any(reason in entry.reason for entry in refused)


def test_a_row_that_stands_twice_counts_once(tmp_path):
    records, refused = read(sample(tmp_path / "s.csv", {}, {"id": "y"}))
    assert records[0].size == 1
    assert "twice" in refused[0].reason


def test_a_sample_of_nothing_usable_is_an_error(tmp_path):
    with pytest.raises(RooflineError, match="no concurrency is stated"):
        read(sample(tmp_path / "s.csv", {"silicon_data_source": "source_file=a.csv"}))


def test_the_published_sample_gives_its_aggregated_rows(data_folder):
    records, refused = read(data_folder / "aiconfigurator" / "silicon_sample_h100.csv")
    assert sum(group.size for group in records) == 2 * 745
    assert sum(entry.n for entry in refused) == 917 - 745
