"""Readers of published measurement sets and of the project's own records. `read` detects the layout by file."""

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

from ...errors import RooflineError
from ..records import Records, Refused
from . import aiconfigurator, llmcompass, llmservingsim, own, serving, vidur
from .source import Result, Source, join

_READERS: tuple[tuple[Callable[[Source], bool], Callable[[Source], Result]], ...] = (
    (aiconfigurator.claims, aiconfigurator.read),
    (own.claims, own.read),
    (serving.claims, serving.read),
    (llmcompass.claims, llmcompass.read),
    (llmservingsim.claims, llmservingsim.read),
    (vidur.claims, vidur.read),
)

_DATA = frozenset({".parquet", ".csv", ".json", ".jsonl"})

_OTHER = (
    ("requests.jsonl", "a log of served requests: give its own folder to compare it"),
    ("timeseries.csv", "a log of a serving run, not kernel times"),
    ("processed_traces", "a trace of requests, not kernel times"),
    ("published", "figures transcribed from documents, not kernel times"),
    ("die_area", "areas, not times"),
    ("meta.json", "a description, not kernel times"),
    ("config.json", "a description, not kernel times"),
)
"""What known files without kernel times are, by a part of their path."""

LAYOUTS = (
    "aiconfigurator (*_perf.parquet, silicon_sample*.csv), Vidur (time_stats.* in CSV), "
    "LLMServingSim (layers.csv, dense.csv, per_sequence.csv, attention.csv), "
    "LLMCompass (real_hardware/OPERATION_DEVICE.csv), "
    "roofline's own (JSON with schema roofline.records/1)"
)


def read(directory: str | Path) -> tuple[tuple[Records, ...], tuple[Refused, ...]]:
    """All measurement records in the files under `directory` (or in one file), and what was refused with the reason.

    Repeated shapes stay rows of their own (records.collapse merges them); rows faster than physics are kept (the
    calibration flags them). Errors: RooflineError where `directory` does not exist, a file of a known layout is
    broken, no file has a known layout, every row was refused, or own records come from two machines.
    """
    root = Path(directory)
    if not root.exists():
        raise RooflineError(f"data: {str(root)!r} does not exist.")
    if root.is_file():
        root, paths = root.parent, [root]
    else:
        paths = sorted(path for path in root.rglob("*") if path.suffix in _DATA and path.is_file())
    sources = [Source(path, path.relative_to(root).as_posix(), sha256(path.read_bytes()).hexdigest()) for path in paths]
    own.one_machine(sources)
    records, refused = join(_read_one(source) for source in sources)
    if not records:
        reasons = "; ".join(f"{entry.reason} ({entry.n}, {entry.example})" for entry in refused[:5])
        found = f"Refused: {reasons}" if reasons else "There is no parquet, CSV or JSON file"
        raise RooflineError(f"data: no usable record under {str(root)!r}. {found}. Layouts: {LAYOUTS}.")
    return records, refused


def _read_one(source: Source) -> Result:
    for claims, read_source in _READERS:
        if claims(source):
            return read_source(source)
    where = source.path.resolve().as_posix()
    reason = next((reason for part, reason in _OTHER if part in where), "no known layout")
    return (), (Refused(reason, 1, source.name),)
