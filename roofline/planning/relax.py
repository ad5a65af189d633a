"""Why nothing is feasible, and the smallest change of each kind that would make something so. Computed by searching."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from .request import LARGEST as LARGEST_NUMBER
from .request import Offer, PlanRequest, Rank, Reason
from .rows import Rows, joined
from .search import LARGEST, Search, candidates, counts, search
from .verdict import excess, ranking

FAR = 1e6
"""Seconds that stand for no service level at all."""

WIDEST = 16
"""How many times the allowed devices are tried."""

SLOWEST = 2.0**-12
"""Smallest share of the asked rate that is tried."""

Find = Callable[[PlanRequest], Search]


@dataclass(frozen=True, slots=True)
class Best:
    """A plan: a candidate of a search."""

    search: Search
    row: Rows


@dataclass(frozen=True, slots=True)
class Relaxation:
    """One thing changed and all else as asked: `before` and `after` as shown in `text`; `factor`: how far it moved (at
    least 1; formats: 1); `best`: the plan that it makes feasible.
    """

    change: str
    before: float | str
    after: float | str
    factor: float
    text: str
    best: Best


def best_plans(found: Search) -> Rows:
    """The best candidate of each structure that has one, ranked."""
    return _ranked(found, joined([verdict.best for verdict in found.verdicts]))


def sure_plans(found: Search) -> Rows:
    """Those that hold at the slow end of their band, one of each structure that has one, ranked."""
    return _ranked(found, joined([verdict.sure for verdict in found.verdicts]))


def _ranked(found: Search, rows: Rows) -> Rows:
    tp = np.array([found.structures[int(i)].split.tp for i in rows.structure], dtype=np.float64)
    return rows.take(ranking(rows, found.request, tp))


def _first(found: Search) -> Best | None:
    rows = best_plans(found)
    return Best(found, rows.row(0)) if rows.size else None


def relaxations(request: PlanRequest, everything: PlanRequest | None, find: Find = search) -> list[Relaxation]:
    """What would make a request feasible that is not, one change at a time, the smallest first.

    `everything`: the request with all formats, or None where it has them already.
    """
    found = [
        *_slower(request, find),
        *_more_devices(request, find),
        *_less_traffic(request, find),
        *_other_formats(request, everything, find),
    ]
    return sorted(found, key=lambda relaxation: relaxation.factor)


def _slower(request: PlanRequest, find: Find) -> Iterator[Relaxation]:
    """A longer TTFT alone, a longer TPOT alone; both by the same factor where neither is enough."""
    level = request.level
    alone = False
    for name, rank in (("ttft_s", Rank.TTFT), ("tpot_s", Rank.TPOT)):
        best = _first(find(replace(request, level=replace(level, **{name: FAR}), rank=rank)))
        if best is not None:
            alone = True
            asked, needed = getattr(level, name), rounded_up(float(getattr(best.row, f"held_{name}")[0]))
            flag = name.removesuffix("_s")
            text = f"--{flag} {needed:.3g}: {flag.upper()} p{level.percentile:g} of {needed:.3g} s for {asked:.3g} s"
            yield Relaxation(name, asked, needed, needed / asked, text, best)
    if not alone:
        far = {name: min(getattr(level, name) * FAR, LARGEST_NUMBER) for name in ("ttft_s", "tpot_s")}
        free = replace(level, **far)
        best = _first(find(replace(request, level=free, rank=Rank.HEADROOM)))
        if best is not None:
            factor = float(excess(best.row, level)[0])
            ttft, tpot = rounded_up(level.ttft_s * factor), rounded_up(level.tpot_s * factor)
            text = f"--ttft {ttft:.3g} --tpot {tpot:.3g}: both service levels {factor:.3g} times longer"
            yield Relaxation(
                "ttft_s and tpot_s", f"{level.ttft_s:g}, {level.tpot_s:g}", f"{ttft:g}, {tpot:g}", factor, text, best
            )


def rounded_up(value: float, digits: int = 3) -> float:
    """`value` with `digits` significant digits, rounded up, so that asking for it again is feasible."""
    step = 10.0 ** (np.floor(np.log10(value)) - digits + 1)
    return float(f"{np.ceil(value / step - 1e-9) * step:.{digits}g}")


def _more_devices(request: PlanRequest, find: Find) -> Iterator[Relaxation]:
    """The fewest devices above those allowed, up to WIDEST times as many or to LARGEST candidates."""
    asked, factor = request.max_devices, 1
    while factor < WIDEST:
        wider = replace(
            request,
            least_devices=asked * factor + 1,
            max_devices=asked * factor * 2,
            rank=Rank.DEVICES,
        )
        factor *= 2
        if candidates(wider) > LARGEST:
            return
        best = _first(find(wider))
        if best is not None:
            needed = float(best.row.n_devices[0])
            text = f"--max-devices {needed:.0f}: {needed:.0f} devices for {asked}"
            yield Relaxation("max_devices", float(asked), needed, needed / asked, text, best)
            return


def _less_traffic(request: PlanRequest, find: Find) -> Iterator[Relaxation]:
    """The highest rate that the allowed devices serve, to 1 %; all of them are used."""
    asked = max(request.rates)
    low, high, best = asked * SLOWEST, asked, None
    for points in (48, 24):
        rates = tuple(np.geomspace(low, high, points + 1)[:-1].tolist())
        better = _first(find(replace(request, rates=rates, rank=Rank.RATE, fill=True)))
        if better is None:
            break
        best = better
        low = float(best.row.request_per_s[0])
        high = min(rates[rates.index(low) + 1] if low != rates[-1] else high, high)
    if best is not None:
        served = float(best.row.request_per_s[0])
        text = f"--rate {served:.3g}: {served:.3g} requests/s for {asked:.3g}"
        yield Relaxation("request_per_s", asked, served, asked / served, text, best)


def _other_formats(request: PlanRequest, everything: PlanRequest | None, find: Find) -> Iterator[Relaxation]:
    """Other formats on the devices asked for."""
    best = None if everything is None else _first(find(everything))
    if best is not None:
        structure = best.search.structures[int(best.row.structure[0])]
        name, precision = structure.offer.device.name, structure.precision
        formats = f"--weights {precision.weights} --kv {precision.kv}"
        text = f"{formats}: other formats, on {name}"
        yield Relaxation("precision", _tried(request.offers), f"{precision.weights}/{precision.kv}", 1.0, text, best)


def _tried(offers: tuple[Offer, ...]) -> str:
    """The formats of weights and cache that were tried."""
    pairs = (f"{precision.weights}/{precision.kv}" for offer in offers for precision in offer.precisions)
    return ", ".join(dict.fromkeys(pairs))


BINDS = {
    "ttft_s": Reason.TTFT,
    "tpot_s": Reason.TPOT,
    "ttft_s and tpot_s": Reason.BOTH,
    "max_devices": Reason.RATE,
    "request_per_s": Reason.RATE,
    "precision": Reason.MEMORY,
}
"""What binds where a change is the smallest that helps."""


def binding(found: Search, changes: Sequence[Relaxation]) -> Reason:
    """What keeps a search without a plan from one: what the smallest change relaxes; where none helps, memory if
    nothing fits, else the reason that most candidates fell out for.
    """
    if changes:
        return BINDS[changes[0].change]
    fallen = counts(found)
    return Reason.MEMORY if set(fallen) <= UNFIT else next(iter(fallen))


UNFIT = {Reason.SHAPE, Reason.LINK, Reason.FORMAT, Reason.MEMORY}
"""Reasons that a candidate cannot even be started for."""
