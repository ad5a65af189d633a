"""What could be done instead: cases that differ from one in a single thing, by the names that a user gives."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import product
from typing import Any

from .api import case_of
from .capacity import BATCH_LIMIT
from .economics import Site
from .errors import RooflineError
from .io.calibration import backends_of
from .io.loaded import LoadedModel
from .io.prices import UnpricedError
from .io.profiles import Target, load_target, profile_names
from .model import Moe
from .outcome import Case
from .sensitivity.changes import Alternative
from .sensitivity.levers import LIMITS
from .sensitivity.served import ServedCase, served
from .structs import STORED_BYTE, Dtype

WEIGHTS = (Dtype.BF16, Dtype.FP8, Dtype.INT8, Dtype.INT4, Dtype.FP4)
"""Formats that weights are tried in."""

CACHES = (Dtype.BF16, Dtype.FP8)
"""Formats that the cache is tried in."""

LARGEST_REPLICA = 64
"""Devices up to which splits of a replica are tried."""


def alternatives(
    loaded: LoadedModel, target: Target, settings: Mapping[str, Any], base: Case, max_batch: int, devices: Iterable[str]
) -> Iterator[Alternative]:
    """Everything that is tried instead of `base`, which case_of made of `loaded`, `target` and `settings`.

    Formats of weights and of the cache, splits over as many devices, twice and half of the tensor parallelism, half and
    twice the batch and `max_batch` (what memory holds; 0: no other batch is tried), and each of `devices`.
    """
    spread = base.scenario.parallelism
    settings = dict(settings) | {"tp": spread.tp, "pp": spread.pp, "ep": spread.ep, "dp": spread.dp}

    def changed(kind: str, value: str, text: str, change: Mapping[str, Any], note: str = "") -> Alternative:
        flags = " ".join(f"--{name} {given}" for name, given in change.items())
        try:
            return Alternative(kind, value, text, flags, case_of(loaded, target, **settings | dict(change)), note=note)
        except RooflineError as error:
            return Alternative(kind, value, text, flags, None, refusal=str(error))

    precision, batch = base.scenario.precision, int(base.scenario.batch)
    for dtype in WEIGHTS:
        if dtype is not precision.weights:
            narrower = STORED_BYTE[dtype] < STORED_BYTE[precision.weights]
            note = "narrower weights change the answers: check their quality" if narrower else ""
            yield changed("weights", dtype, f"weights in {dtype}", {"weights": str(dtype)}, note)
    for dtype in CACHES:
        if STORED_BYTE[dtype] != STORED_BYTE[precision.kv]:
            yield changed("kv", dtype, f"KV cache in {dtype}", {"kv": str(dtype)})
    for tp in (spread.tp // 2, spread.tp * 2):
        if tp and spread.tp in (2 * tp, tp // 2):
            yield changed("tp", str(tp), f"tensor parallelism {tp}", {"tp": tp})
    for split in _splits(base):
        text = ", ".join(f"{name} {value}" for name, value in split.items() if value > 1)
        yield changed("parallelism", text, f"split {text}", split)
    for count, what in ((batch // 2, "half the batch"), (2 * batch, "twice the batch"), (max_batch, "all that fits")):
        if max_batch and spread.dp <= count < BATCH_LIMIT and count != batch:
            yield changed("batch", str(count), f"batch {count:,} ({what})", {"batch": count})
    for name in devices:
        yield _on(name, loaded, settings, base)


def _splits(base: Case) -> Iterator[dict[str, int]]:
    """Other ways to spread a replica over the same number of devices, experts included."""
    spread = base.scenario.parallelism
    count = spread.device_count
    mixture = any(isinstance(layer.mlp, Moe) for layer in base.model.layers)
    powers = [2**i for i in range(LARGEST_REPLICA.bit_length()) if count % 2**i == 0]
    for tp, pp in product(powers, powers):
        dp, rest = divmod(count, tp * pp)
        if rest or dp < 1 or dp > base.scenario.batch or count > LARGEST_REPLICA:
            continue
        for ep in dict.fromkeys((1, tp, tp * dp) if mixture else (1,)):
            if (tp, pp, dp, ep) != (spread.tp, spread.pp, spread.dp, spread.ep) and count > 1:
                yield {"tp": tp, "pp": pp, "dp": dp, "ep": ep}


def _on(name: str, loaded: LoadedModel, settings: Mapping[str, Any], base: Case) -> Alternative:
    """The case on as many devices of another kind; its price is unknown where the price file does not have it."""
    try:
        target = load_target(name)
        if settings.get("backend") not in backends_of(target):
            settings = dict(settings) | {"backend": None}
        title = f"{base.scenario.parallelism.device_count} x {target.device.title}"
        try:
            case = case_of(loaded, target, **settings)
        except UnpricedError:
            case = case_of(loaded, target, **dict(settings) | {"prices": None, "price_kind": None})
            case = replace(case, site=Site(None, None, base.site.pue, base.site.carbon_kg_per_joule, base.site.grid))
    except RooflineError as error:
        return Alternative("device", name, f"on {name}", name, None, refusal=str(error))
    return Alternative("device", target.device.name, f"on {title}", target.device.name, case)


def served_alternatives(found: Iterable[Alternative], base: ServedCase) -> Iterator[Alternative]:
    """Alternatives under the engine and traffic of `base`, and other limits of the engine."""
    for option in found:
        try:
            case = None if option.case is None else served(option.case, base.engine, base.traffic)
            yield replace(option, case=case)
        except RooflineError as error:
            yield replace(option, case=None, refusal=str(error))
    for lever in LIMITS:
        for factor in (0.5, 2.0):
            value = max(lever.value(base) * factor // 1.0, 1.0)
            flag = lever.key.replace("_", "-") + "s"
            text = f"{lever.title} {value:,.0f}"
            yield Alternative("limit", f"{value:.0f}", text, f"--{flag} {value:.0f}", lever.at(base, value))


def other_devices(base: Case) -> list[str]:
    """The shipped profiles with the structure of the case's device, but for that one."""
    found = []
    for name in profile_names():
        device = load_target(name).device
        if device.name != base.device.name and type(device.structure) is type(base.device.structure):
            found.append(name)
    return found
