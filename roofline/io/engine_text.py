"""An engine as the text of its file: what is known of its scheduler and limits, and the numbers that were fitted."""

from collections.abc import Collection

from ..serving.engine import Engine
from .engine_schema import SCHEMA, EngineFile
from .profile_schema import Fact

FITTED = "fit"
"""Key of the source of fitted numbers."""


def engine_text(base: EngineFile, engine: Engine, name: str, fitted: Collection[str], source: str) -> str:
    """The file of `engine` under `name`: facts of `base`, those named in `fitted` (field paths) with its numbers.

    `source`: what the fitted numbers were derived from. Bands and evidence are the engine's.
    """
    scheduling = base.scheduling
    lines = [
        "# Numbers of kind derived are written by `roofline calibrate --engine`.",
        f'schema = "{SCHEMA}"',
        f'name = "{name}"',
        f'title = "{base.title}"',
        f'release = "{engine.release}"',
        f'backend = "{base.backend}"',
        "",
        "[scheduling]",
        f'order = "{scheduling.order}"',
        f'order_source = "{scheduling.order_source}"',
    ]
    if scheduling.own_kernels:
        listed = ", ".join(f'"{family}"' for family in scheduling.own_kernels)
        lines.append(f"own_kernels = [{listed}]")
    if scheduling.ahead_source is not None:
        lines += [f"ahead = {str(scheduling.ahead).lower()}", f'ahead_source = "{scheduling.ahead_source}"']
    table, cited = "scheduling", {scheduling.order_source, scheduling.ahead_source or scheduling.order_source}
    for path, fact in base.facts():
        part, _, field = path.partition(".")
        if part != table:
            lines += ["", f"[{part}]"]
            table = part
        written = _derived(path, engine) if path in fitted else fact
        cited.add(written.source)
        lines.append(
            f'{field} = {{ value = {written.value!r}, printed = "{written.printed}", kind = "{written.kind}", '
            f'source = "{written.source}" }}'
        )
    for metric, band in (("tpot", engine.tpot_band), ("ttft", engine.ttft_band)):
        lines += [
            "",
            f"[{metric}_band]",
            f"low = {band.low:.3f}",
            f"high = {band.high:.3f}",
            f'source = "{band.source}"',
        ]
    known = engine.evidence
    lines += ["", "[evidence]", f'data = "{known.data}"', f'release = "{known.release}"', f'date = "{known.date}"']
    lines += [f"fitted_rows = {known.fitted_rows}", f"unseen_rows = {known.unseen_rows}"]
    for field in ("tpot_median_ape", "tpot_mape", "ttft_median_ape", "ttft_mape"):
        lines.append(f"{field} = {getattr(known, field):.4f}")
    sources = {key: text for key, text in base.sources.items() if key in cited} | {FITTED: source}
    lines += ["", "[sources]", *(f'{key} = "{text}"' for key, text in sources.items())]
    return "\n".join(lines) + "\n"


def _derived(path: str, engine: Engine) -> Fact:
    """A fitted number as a fact, with three significant digits."""
    part, _, field = path.partition(".")
    holder, suffix, unit = {
        "scheduling": (engine, "", ""),
        "limits": (engine.limits, "_byte", "B"),
        "host": (engine.host, "_s", "s"),
        "scale": (engine.scale, "", ""),
    }[part]
    value = float(f"{float(getattr(holder, field + suffix)):.3g}")
    printed = f"{value:g}" if not unit else f"{value:g} {unit}"
    return Fact(value=value, printed=printed, kind="derived", source=FITTED)
