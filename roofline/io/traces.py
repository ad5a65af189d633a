"""Traces of requests and logs of served ones, from CSV or JSON lines; columns by any of their known spellings.

Layouts met: Microsoft Vidur's processed traces, Azure's LLM inference traces, BurstGPT, Mooncake (milliseconds),
LLMServingSim's vLLM request logs, and anything with a column each for arrival, prompt and output tokens.
"""

import csv
import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import RooflineError, clip
from ..structs import Array
from ..trace import LogSettings, RequestLog, Trace

LARGEST_TRACE = 5_000_000
"""Most requests that are read: 120 MB of numbers, and minutes of simulation."""

LARGEST_TOKEN = 2.0**31
"""Tokens beyond which a cell is taken for something else than a length."""

LONGEST_LINE = 2**20
"""Bytes of one line of a file; prompts themselves do not belong into a trace."""

ARRIVAL = ("arrived_at", "arrival_s", "arrival_time", "arrival_time_s", "arrival", "timestamp", "timestamp_s", "time_s")
ARRIVAL_MS = ("arrival_ms", "timestamp_ms", "arrived_at_ms", "time_ms")
INPUT = (
    "num_prefill_tokens",
    "input_token",
    "input_tokens",
    "input_toks",
    "input_length",
    "prompt_tokens",
    "prompt_token",
    "request_tokens",
    "contexttokens",
    "context_tokens",
    "num_prompt_tokens",
    "prompt_len",
    "isl",
)
OUTPUT = (
    "num_decode_tokens",
    "output_token",
    "output_tokens",
    "output_toks",
    "output_length",
    "completion_tokens",
    "generated_tokens",
    "generatedtokens",
    "response_tokens",
    "num_output_tokens",
    "output_len",
    "osl",
)
_MILLISECOND_MARK = "hash_ids"
"""A column that only Mooncake's traces have; their timestamps are in milliseconds."""

_LOG = {"queued": ("queued_ts", "queued_s"), "scheduled": ("scheduled_ts", "scheduled_s")} | {
    "first": ("first_token_ts", "first_token_s"),
    "last": ("last_token_ts", "last_token_s"),
}


def read_trace(path: Path) -> Trace:
    """The Trace in a CSV or JSON-lines file; seconds count from its first arrival.

    Counted: every line. Errors: RooflineError naming file, line and column for a file that is missing, empty,
    malformed, out of order, or holds a negative time, a length below 1, or more than LARGEST_TRACE requests.
    """
    names, rows, lines = _columns(path, (("arrival", ARRIVAL + ARRIVAL_MS), ("input", INPUT), ("output", OUTPUT)))
    scale = 1e-3 if names["arrival"] in ARRIVAL_MS or _MILLISECOND_MARK in names else 1.0
    return _trace(path, rows["arrival"] * scale, rows["input"], rows["output"], lines)


def read_request_log(path: Path) -> RequestLog:
    """The RequestLog in a folder that holds requests.jsonl (and meta.json, which says how it was served), or in a file.

    The server's clock need not be the clients': the least difference between a request's arrival and its being queued
    is taken as their offset, so the fastest hand-over counts as immediate.
    Errors: RooflineError as read_trace; and where a request is answered before it came, or its times go backwards.
    """
    file = path / "requests.jsonl" if path.is_dir() else path
    wanted = (("arrival", ARRIVAL), ("input", INPUT), ("output", OUTPUT), *_LOG.items())
    _, rows, lines = _columns(file, wanted)
    order = np.argsort(rows["arrival"], kind="stable")  # logs are often in order of completion
    rows, lines = {name: values[order] for name, values in rows.items()}, lines[order]
    trace = _trace(file, rows["arrival"], rows["input"], rows["output"], lines)
    stamps = [rows[name] for name in _LOG]
    for earlier, later, text in (
        (stamps[0], stamps[1], "scheduled before it was queued"),
        (stamps[1], stamps[2], "answered before it was scheduled"),
        (stamps[2], stamps[3], "finished before its first token"),
    ):
        _refuse(file, lines, later < earlier, f"the request was {text}", "A log holds times of one clock.")
    offset = float((stamps[0] - rows["arrival"]).min()) + float(rows["arrival"][0])
    queued_s, scheduled_s, first_s, last_s = (stamp - offset for stamp in stamps)
    return RequestLog(trace, queued_s, scheduled_s, first_s, last_s, _settings(file.parent / "meta.json"))


def is_request_log(path: Path) -> bool:
    """Whether `path` is a folder with a requests.jsonl, or such a file."""
    return path.name == "requests.jsonl" or (path / "requests.jsonl").is_file()


def _settings(path: Path) -> LogSettings:
    """What meta.json says; nothing where there is none. Errors: RooflineError where it is no JSON object."""
    try:
        meta = json.loads(path.read_text("utf-8")) if path.is_file() else {}
        given = meta.get("engine_kwargs", {})
        text = {key: None if value is None else str(value) for key, value in given.items()}
        whole = {key: value for key, value in given.items() if isinstance(value, int) and not isinstance(value, bool)}
    except (ValueError, AttributeError) as error:
        raise RooflineError(f"log: {path} is not a JSON object of settings ({clip(str(error))}).") from None
    version = meta.get("vllm_version")
    return LogSettings(
        model=meta.get("model"),
        engine="vllm" if version else None,
        version=version,
        tp=whole.get("tensor_parallel_size"),
        dp=whole.get("data_parallel_size"),
        max_sequence=whole.get("max_num_seqs"),
        max_batch_token=whole.get("max_num_batched_tokens"),
        weight_format=text.get("dtype"),
        kv_format=text.get("kv_cache_dtype"),
    )


Wanted = tuple[tuple[str, tuple[str, ...]], ...]


def _columns(path: Path, wanted: Wanted) -> tuple[dict[str, str], dict[str, Array], Array]:
    """For each wanted quantity the name of its column and its numbers, and the line of every row.

    Columns that are not wanted are named too, by themselves.
    """
    values: list[list[float]] = []
    lines: list[int] = []
    names: dict[str, str] = {}
    for line, row in _rows(path):
        if not names:
            names = _named(path, list(row), wanted)
        if len(lines) == LARGEST_TRACE:
            raise RooflineError(f"trace: {path} holds more than the {LARGEST_TRACE:,} requests that are read. Cut it.")
        values.append([_number(path, line, row, names[what]) for what, _ in wanted])
        lines.append(line)
    if not lines:
        raise RooflineError(f"trace: {path} holds no request.")
    table = np.array(values, dtype=np.float64)
    return names, {what: table[:, i] for i, (what, _) in enumerate(wanted)}, np.array(lines, dtype=np.float64)


def _rows(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Line number and cells by lower-case column of every row. Errors: RooflineError where the file is not readable."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            text = _short_lines(path, stream)
            first = next(text, "")
            every = (line for source in ((first,), text) for line in source)
            yield from _json_rows(path, every) if first.lstrip().startswith("{") else _csv_rows(path, every)
    except OSError as error:
        raise RooflineError(f"trace: cannot read {path}: {error.strerror}.") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise RooflineError(f"trace: {path} is not a readable CSV or JSON-lines file ({error}).") from None


def _short_lines(path: Path, stream: Any) -> Iterator[str]:
    while line := stream.readline(LONGEST_LINE):
        if len(line) == LONGEST_LINE:
            raise RooflineError(f"trace: {path} has a line of {LONGEST_LINE:,} characters or more. Is it a trace?")
        yield line


def _json_rows(path: Path, text: Iterator[str]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for line, row in enumerate(text, start=1):
        if not row.strip():
            continue
        try:
            found = json.loads(row)
        except ValueError as error:
            raise RooflineError(f"trace: {path}:{line} is not JSON ({error}). One object a line is accepted.") from None
        if not isinstance(found, dict):
            raise RooflineError(f"trace: {path}:{line} holds {clip(row.strip())}, not an object of columns.")
        yield line, {_plain(name): value for name, value in found.items()}


def _csv_rows(path: Path, text: Iterator[str]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    reader = csv.reader(text)
    header: list[str] = []
    for cells in reader:
        if not cells:
            continue
        if not header:
            header = [_plain(name) for name in cells]
            continue
        if len(cells) != len(header):
            raise RooflineError(
                f"trace: {path}:{reader.line_num} has {len(cells)} cells, but {len(header)} columns. Is it cut off?"
            )
        yield reader.line_num, dict(zip(header, cells, strict=True))


def _plain(name: object) -> str:
    return str(name).strip().lower().replace(" ", "_")


def _named(path: Path, found: list[str], wanted: Wanted) -> dict[str, str]:
    """The column of each wanted quantity. Errors: RooflineError where none or several have a known spelling."""
    names = {name: name for name in found}
    for what, spellings in wanted:
        known = [name for name in found if name in spellings]
        if len(known) != 1:
            problem = f"columns {', '.join(known)} all say it" if known else f"found {', '.join(found)[:200]}"
            raise RooflineError(f"trace: {path} needs one column for {what}; {problem}. Known: {', '.join(spellings)}.")
        names[what] = known[0]
    return names


def _number(path: Path, line: int, row: Mapping[str, Any], name: str) -> float:
    """One cell as a finite number; a date and time as seconds. Errors: RooflineError with its place."""
    cell = row.get(name)
    value = _date_s(cell) if isinstance(cell, str) and cell.strip().count("-") > 1 else _float(cell)
    if not np.isfinite(value):
        raise RooflineError(f"trace: {path}:{line} {name} is {clip(cell)}, not a number.")
    return value


def _float(cell: object) -> float:
    try:
        return float("nan") if isinstance(cell, bool) else float(cell)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return float("nan")


def _date_s(cell: str) -> float:
    """Seconds of a date and time, where it names no zone in UTC."""
    try:
        moment = datetime.fromisoformat(cell.strip())
    except ValueError:
        return float("nan")
    start = datetime(1970, 1, 1, tzinfo=moment.tzinfo)
    return (moment - start).total_seconds()


def _trace(path: Path, arrival_s: Array, input_token: Array, output_token: Array, lines: Array) -> Trace:
    _refuse(path, lines, arrival_s < 0.0, "the arrival is negative", "Times count from the start of the trace.")
    behind = np.diff(arrival_s, prepend=arrival_s[0]) < 0.0
    _refuse(path, lines, behind, "the arrival is before that of the line above", "Sort the file by arrival.")
    for name, token in (("prompt", input_token), ("output", output_token)):
        _refuse(path, lines, token < 1.0, f"the {name} has fewer than 1 token", "Leave such requests out.")
        _refuse(path, lines, token % 1.0 != 0.0, f"the {name} is no whole number of tokens", "Give whole numbers.")
        _refuse(path, lines, token > LARGEST_TOKEN, f"the {name} is longer than any model reads", "Is it the column?")
    return Trace(arrival_s - arrival_s[0], input_token, output_token, path.name)


def _refuse(path: Path, lines: Array, wrong: NDArray[np.bool_], problem: str, fix: str) -> None:
    if wrong.any():
        raise RooflineError(
            f"trace: {path}:{lines[int(np.argmax(wrong))]:.0f} {problem} ({int(wrong.sum()):,} such lines). {fix}"
        )
