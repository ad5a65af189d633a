"""Traces of requests and request logs: known layouts read alike, anything else refused with its place."""

import json
from pathlib import Path

import numpy as np
import pytest

from roofline.errors import RooflineError
from roofline.io import traces
from roofline.io.traces import is_request_log, read_request_log, read_trace

LOG = {
    "arrival_time": 1000.0,
    "input_toks": 10,
    "output_toks": 3,
    "queued_ts": 5.0,
    "scheduled_ts": 5.5,
    "first_token_ts": 6.0,
    "last_token_ts": 8.0,
}


def written(path: Path, text: str) -> Path:
    path.write_text(text, "utf-8")
    return path


@pytest.mark.parametrize(
    "text",
    [
        "arrived_at,num_prefill_tokens,num_decode_tokens\n5,100,7\n7.5,1,1\n",
        "\n TIMESTAMP , ContextTokens,GeneratedTokens\n5,100,7\n\n7.5,1,1\n",
        "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.6805900,100,7\n2023-11-16 18:15:49.1805900,1,1\n",
        "Timestamp,Model,Request tokens,Response tokens,Total tokens\n5,ChatGPT,100,7,107\n7.5,ChatGPT,1,1,2\n",
        '{"timestamp": 5000, "input_length": 100, "output_length": 7, "hash_ids": [1]}\n'
        '{"timestamp": 7500, "input_length": 1, "output_length": 1, "hash_ids": []}\n',
        '{"arrival_ms": 5000, "prompt_tokens": 100, "completion_tokens": "7"}\n\n'
        '{"arrival_ms": 7500, "prompt_tokens": 1, "completion_tokens": 1}\n',
    ],
    ids=["vidur", "azure", "azure dates", "burstgpt", "mooncake", "json lines"],
)
def test_known_layouts_are_read_alike(tmp_path: Path, text: str):
    trace = read_trace(written(tmp_path / "trace", text))
    assert trace.arrival_s == pytest.approx([0.0, 2.5])  # seconds since the first arrival
    assert trace.input_token.tolist() == [100.0, 1.0]
    assert trace.output_token.tolist() == [7.0, 1.0]
    assert trace.request_per_s == pytest.approx(0.4)


HEAD = "arrived_at,num_prefill_tokens,num_decode_tokens\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds no request"),
        (HEAD, "holds no request"),
        ("when,what\n1,2\n", "one column for arrival; found when, what. Known: arrived_at"),
        ("timestamp,arrival,isl,osl\n1,1,1,1\n", "columns timestamp, arrival all say it"),
        (HEAD + "0,5\n", ":2 has 2 cells, but 3 columns"),
        (HEAD + "0,5,x\n", ":2 num_decode_tokens is 'x', not a number"),
        (HEAD + "0,5,\n", "num_decode_tokens is '', not a number"),
        (HEAD + "nan,5,1\n", "arrived_at is 'nan', not a number"),
        (HEAD + "0,inf,1\n", "num_prefill_tokens is 'inf', not a number"),
        (HEAD + "2023-99-16 18:15:46,5,1\n", "arrived_at is '2023-99-16 18:15:46', not a number"),
        (HEAD + "-1,5,1\n0,5,1\n", ":2 the arrival is negative"),
        (HEAD + "0,5,1\n3,5,1\n2,5,1\n1,5,1\n", r":4 the arrival is before that of the line above \(2 such lines\)"),
        (HEAD + "0,5,1\n1,0,1\n", ":3 the prompt has fewer than 1 token"),
        (HEAD + "0,5,0\n", ":2 the output has fewer than 1 token"),
        (HEAD + "0,5,1.5\n", ":2 the output is no whole number of tokens"),
        (HEAD + "0,5,1e12\n", ":2 the output is longer than any model reads"),
        ('{"timestamp": 0, "isl": 1, "osl": true}\n', ":1 osl is True, not a number"),
        ('{"timestamp": 0, "isl": 1, "osl": 1}\n[1]\n', r":2 holds '\[1\]', not an object"),
        ('{"timestamp": 0, "isl": 1, "osl": 1}\n{"times\n', ":2 is not JSON"),
        ('{"timestamp": 0, "isl": 1, "osl": 1}\n{"timestamp": 1}\n', ":2 isl is None, not a number"),
        ("a" * (2**20 + 5), "has a line of 1,048,576 characters or more"),
    ],
)
def test_a_bad_trace_is_refused_with_its_place(tmp_path: Path, text: str, said: str):
    with pytest.raises(RooflineError, match=said):
        read_trace(written(tmp_path / "trace.csv", text))


def test_files_that_are_no_text_or_not_there_are_refused(tmp_path: Path):
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00\x01" * 10)
    for path, said in (
        (tmp_path / "binary", "not a readable"),
        (tmp_path / "none", "No such file"),
        (tmp_path, "read"),
    ):
        with pytest.raises(RooflineError, match=said):
            read_trace(path)


def test_a_huge_trace_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(traces, "LARGEST_TRACE", 3)
    path = written(tmp_path / "trace.csv", HEAD + "0,5,1\n" * 3)
    assert read_trace(path).size == 3
    with pytest.raises(RooflineError, match="more than the 3 requests"):
        read_trace(written(path, HEAD + "0,5,1\n" * 4))


def test_a_log_is_put_on_the_clock_of_its_arrivals(tmp_path: Path):
    # Offsets of the two clocks: 5 - 1000 and 7.25 - 1002; the smaller one is the hand-over that waited for no step.
    rows = [LOG, LOG | {"arrival_time": 1002.0, "queued_ts": 7.25, "scheduled_ts": 7.5, "first_token_ts": 9.0}]
    rows[1] = rows[1] | {"last_token_ts": 9.0, "output_toks": 1}
    text = "\n".join(json.dumps(row) for row in reversed(rows))
    written(tmp_path / "requests.jsonl", text)
    written(tmp_path / "meta.json", json.dumps({"vllm_version": "0.19.0", "engine_kwargs": {"max_num_seqs": 128}}))
    log = read_request_log(tmp_path)
    assert log.trace.arrival_s.tolist() == [0.0, 2.0]
    assert log.queued_s.tolist() == [0.0, 2.25]
    assert log.ttft_s.tolist() == [1.0, 2.0]
    assert log.tpot_s[0] == 1.0 and np.isnan(log.tpot_s[1])
    assert log.makespan_s == 4.0
    assert (log.settings.engine, log.settings.max_sequence, log.settings.tp) == ("vllm", 128, None)
    assert (
        is_request_log(tmp_path) and is_request_log(tmp_path / "requests.jsonl") and not is_request_log(Path("x.csv"))
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"scheduled_ts": 4.0}, "scheduled before it was queued"),
        ({"first_token_ts": 5.2}, "answered before it was scheduled"),
        ({"last_token_ts": 5.9}, "finished before its first token"),
        ({"output_toks": 0}, "fewer than 1 token"),
    ],
)
def test_a_log_that_cannot_be_is_refused(tmp_path: Path, change: dict[str, float], said: str):
    written(tmp_path / "requests.jsonl", json.dumps(LOG | change))
    with pytest.raises(RooflineError, match=said):
        read_request_log(tmp_path)


def test_a_broken_description_of_a_log_is_refused(tmp_path: Path):
    written(tmp_path / "requests.jsonl", json.dumps(LOG))
    written(tmp_path / "meta.json", "[1")
    with pytest.raises(RooflineError, match="not a JSON object"):
        read_request_log(tmp_path)


def test_published_traces_and_the_log_of_a_real_run(data_folder: Path):
    folder = data_folder / "vidur/data/processed_traces"
    code, chat = (read_trace(folder / f"splitwise_{name}.csv") for name in ("code", "conv"))
    assert (code.size, chat.size) == (8819, 19366)
    assert float(code.input_token.mean()) == pytest.approx(2048, rel=0.02)  # Splitwise, arXiv 2311.18677, figure 3
    log = read_request_log(data_folder / "llmservingsim/bench/examples/RTXPRO6000/Llama-3.1-8B/vllm")
    assert log.trace.size == 300
    assert log.settings.version == "0.19.0" and log.settings.max_batch_token == 2048
    assert log.makespan_s == pytest.approx(65.9, abs=0.1)  # meta.json: 18:47:18.27 to 18:48:24.51, with start-up
    assert np.all(log.scheduled_s >= log.queued_s) and np.all(log.queued_s >= log.trace.arrival_s)
