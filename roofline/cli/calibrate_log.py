"""`roofline calibrate LOG --engine NAME`: fit the host's two constants to a request log and write the engine's file."""

import json
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from ..serving.engine import EngineEvidence
from .progress import working

if TYPE_CHECKING:
    from ..calibrate.request_log import HostFit, LogErrors
    from ..io.profiles import Target

SCHEMA = "roofline.log-calibration/1"


def calibrate_log(
    path: Path, target: "Target", name: str, output: Path | None, *, fit_fraction: float, as_json: bool
) -> None:
    """Fit the engine `name` (a preset or a file) to the first requests of the log `path` as served on `target`.

    Judges it on the others, prints both, and writes it to `output`; kernels are as the device's calibration has them.
    """
    from ..calibrate.request_log import fit_host
    from ..io.engine_text import engine_text
    from ..io.engines import load_engine, load_engine_file
    from ..io.files import require_writable, write_text
    from ..io.traces import read_request_log
    from ..simulator import served_as_logged

    if output is not None:
        require_writable(output)
    engine, file = load_engine(name), load_engine_file(name)
    with working() as progress:
        log = read_request_log(path)
        progress("simulating the log")
        _, served = served_as_logged(log, target.device.name, engine)
        found = fit_host(served, log, fit_fraction)
    typer.echo(json.dumps(_record(found, engine.name), indent=1) if as_json else _summary(found))
    if output is not None:
        evidence = EngineEvidence(
            data=path.as_posix(),
            release=log.settings.version or engine.release,
            date=datetime.now(UTC).date().isoformat(),
            fitted_rows=found.fitted.requests,
            unseen_rows=found.unseen.requests,
            tpot_median_ape=found.unseen.tpot_median_ape,
            tpot_mape=found.unseen.tpot_mape,
            ttft_median_ape=found.unseen.ttft_median_ape,
            ttft_mape=abs(found.unseen.ttft_mean),
        )
        fitted = replace(
            engine,
            host=found.host,
            scale=found.served.engine.scale,
            release=evidence.release,
            evidence=evidence,
        )
        paths = [f"host.{field.removesuffix('_s')}" for field in asdict(found.host)]
        paths += [f"scale.{field}" for field in asdict(fitted.scale)]
        source = f"fitted to {evidence.fitted_rows} requests of a log on {target.device.title}"
        write_text(output, engine_text(file, fitted, output.stem, paths, source))
        typer.echo(f"wrote {output}", err=True)


def _record(found: "HostFit", engine: str) -> dict[str, Any]:
    errors = {"fitted": asdict(found.fitted), "unseen": asdict(found.unseen)}
    return {"schema": SCHEMA, "engine": engine, "host": asdict(found.host), **errors}


def _summary(found: "HostFit") -> str:
    host = found.host
    lines = [f"host: {1e3 * host.step_s:.3g} ms a step and {1e6 * host.sequence_s:.3g} us a sequence that generates"]
    for label, errors in (("fitted", found.fitted), ("not fitted", found.unseen)):
        lines.append(f"{errors.requests} requests {label}: {_told(errors)}")
    return "\n".join(lines)


def _told(errors: "LogErrors") -> str:
    return (
        f"TPOT {errors.tpot_median_ape:.1%} median, {errors.tpot_mape:.1%} mean; TTFT {errors.ttft_mean:+.1%} in mean, "
        f"{errors.ttft_p95:+.1%} at p95; makespan {errors.makespan:+.1%}"
    )
