"""The figures that can be explained, by name, and the tree of each."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from ..deployment import decode_context, micro_batches
from ..economics import HOUR_S, MILLION_TOKEN, Ownership, Rental, TokenCost, profile_site, usd_per_device_hour
from ..errors import unknown
from ..footprint import footprint
from ..outcome import Case, Outcome, busiest, outcome, rates_used
from ..structs import arithmetic_dtype
from ..timing import StepTime
from .kernel import KernelView, kernel_node, views
from .memory import TERMS, free_node
from .node import Citations, Node, SourceKind, computed, constant, described, summed


@dataclass(frozen=True, slots=True, eq=False)
class Explained:
    """A case, what came of it, and what its leaves cite."""

    case: Case
    found: Outcome
    cited: Citations

    def steps(self) -> Iterator[tuple[str, StepTime]]:
        """The phases that the model has."""
        yield "prefill", self.found.prefill
        if self.found.decode is not None:
            yield "decode", self.found.decode


Build = Callable[[Explained], Node]


def explanation(case: Case, figure: str, cited: Citations) -> Node:
    """The tree of `figure` for a case (scalar numbers).

    Errors: RooflineError for a figure that is not known, or that the case does not have; InfeasibleError as outcome.
    """
    of = Explained(case, outcome(case), cited)
    figures = _figures(of)
    name = figure.strip()
    name = name if name in figures else name.removesuffix("_s").removesuffix("_byte")
    if name not in figures:
        raise unknown("figure", figure, figures)
    return figures[name](of)


def figure_names(case: Case) -> list[str]:
    """The figures that a case has. Errors: InfeasibleError as outcome."""
    return list(_figures(Explained(case, outcome(case), Citations())))


def _figures(of: Explained) -> dict[str, Build]:
    figures: dict[str, Build] = {"ttft": _ttft, "input_token_per_s": _input_rate}
    if of.found.decode is not None:
        figures |= {"tpot": _tpot, "e2e": _e2e, "output_token_per_s": _output_rate}
    for side, cost in (("input", of.found.input_cost), ("output", of.found.output_cost)):
        if cost is not None:
            figures[f"joule_per_{side}_token"] = _joule(side, cost)
            if cost.usd_per_mtok is not None:
                figures[f"usd_per_mtok_{side}"] = _usd(side, cost)
            if cost.carbon_kg_per_mtok is not None:
                figures[f"carbon_kg_per_mtok_{side}"] = _carbon(side, cost)
    figures |= {f"memory.{name}": _memory(name) for name in (*TERMS, "free")}
    for phase, step in of.steps():
        figures |= {phase: _phase(phase), f"{phase}.mfu": _used(phase, 0), f"{phase}.mbu": _used(phase, 1)}
        figures |= {f"{phase}.{view.name}": _kernel(view) for view in views(of.case, step)}
    return figures


def _kernel(view: KernelView) -> Build:
    return lambda of: kernel_node(view, of.cited)


def _memory(name: str) -> Build:
    build = free_node if name == "free" else TERMS[name]
    return lambda of: build(of.case, footprint(of.case.model, of.case.device, of.case.scenario), of.cited)


def _step(of: Explained, phase: str) -> StepTime:
    return dict(of.steps())[phase]


def _phase(phase: str) -> Build:
    """Seconds of a step on the busiest device."""

    def build(of: Explained) -> Node:
        step = _step(of, phase)
        kernels = [kernel_node(view, of.cited) for view in views(of.case, step)]
        return summed(phase, float(busiest(step, step.stage_s)), "s", kernels, "one step on the busiest device")

    return build


def _ttft(of: Explained) -> Node:
    """One pass of all prompts through the stages."""
    prefill = _phase("prefill")(of)
    if of.case.scenario.parallelism.pp == 1:
        return computed(
            "ttft", float(of.found.ttft_s), "s", "prefill", (prefill,), "all prompts of the batch in one step"
        )
    whole = float(of.found.prefill.stage_s.sum())
    count = float(micro_batches(of.case.scenario)[0])
    children = (
        described("all_stages", whole, "s", "a micro-batch passes every stage", ()),
        of.cited.asked("micro_batches", count, "", "pp"),
        prefill,
    )
    formula = "all_stages + (micro_batches - 1) * prefill"
    return computed(
        "ttft", float(of.found.ttft_s), "s", formula, children, "the others follow behind the slowest stage"
    )


def _tpot(of: Explained) -> Node:
    """A decode step at mid-generation."""
    step = of.found.decode
    assert step is not None and of.found.tpot_s is not None  # figures without a decode step do not get here
    decode = _phase("decode")(of)
    context = float(decode_context(of.case.scenario))
    note = f"at mid-generation: {context:,.0f} tokens cached per request"
    if of.case.scenario.parallelism.pp == 1:
        return computed("tpot", float(of.found.tpot_s), "s", "decode", (decode,), note)
    children = (
        described("all_stages", float(step.stage_s.sum()), "s", "a token passes every stage", ()),
        of.cited.asked("micro_batches", float(micro_batches(of.case.scenario)[0]), "", "pp"),
        decode,
    )
    formula = "max(all_stages, micro_batches * decode)"
    return computed("tpot", float(of.found.tpot_s), "s", formula, children, note)


def _e2e(of: Explained) -> Node:
    output = of.cited.asked("output", of.case.scenario.output_token, "", "output")
    formula = "ttft + (output - 1) * tpot"
    return computed("e2e", float(of.found.e2e_s), "s", formula, (_ttft(of), output, _tpot(of)))


def _batch(of: Explained) -> Node:
    return of.cited.asked("batch", of.case.scenario.batch, "", "batch")


def _output_rate(of: Explained) -> Node:
    rate = of.found.output_token_per_s
    assert rate is not None
    return computed("output_token_per_s", float(rate), "1/s", "batch / tpot", (_batch(of), _tpot(of)))


def _input_rate(of: Explained) -> Node:
    prompt = of.cited.asked("input", of.case.scenario.input_token, "", "input")
    children = (_batch(of), prompt, _ttft(of))
    return computed("input_token_per_s", float(of.found.input_token_per_s), "1/s", "batch * input / ttft", children)


def _rate(of: Explained, side: str) -> Node:
    return _input_rate(of) if side == "input" else _output_rate(of)


def _devices(of: Explained) -> Node:
    return of.cited.asked("device_count", of.case.scenario.parallelism.device_count, "", "tp")


def _used(phase: str, which: int) -> Build:
    """MFU (0) or MBU (1) of a phase."""

    def build(of: Explained) -> Node:
        case, step = of.case, _step(of, phase)
        precision, device = case.scenario.precision, case.device
        value = float(rates_used(step, device, precision)[which])
        name = ("mfu", "mbu")[which]
        what = ("matrix_flop", "memory_byte")[which]
        total = sum(view.count * view.of(getattr(view.group.cost, what)) for view in views(case, step))
        seconds = described(
            "seconds", float(busiest(step, step.stage_s)), "s", f"the {phase} step: explain {phase}", ()
        )
        if which == 0:
            dtype = device.arithmetic(arithmetic_dtype(precision.weights, precision.activations))
            rate = of.cited.fact("rate", device.matrix_flop_per_s[dtype], "FLOP/s", f"matrix.{dtype}")
        else:
            bandwidth = float(device.dram.bandwidth_byte_per_s or np.inf)
            rate = of.cited.fact("rate", bandwidth, "B/s", "memory.dram.bandwidth")
        done = described("done", total, ("FLOP", "B")[which], "of all kernels of the step", ())
        return computed(name, value, "", "done / (seconds * rate)", (done, seconds, rate))

    return build


def _power(of: Explained, side: str, cost: TokenCost) -> Node:
    device, phase = of.case.device, {"input": "prefill", "output": "decode"}[side]
    rated = of.cited.fact("rated", device.power_w, "W", "power.tdp")
    if device.idle_power_w is None:
        return computed("power", float(cost.power_w), "W", "rated", (rated,), "no idle power stated: an upper bound")
    used = [_used(phase, which)(of) for which in (0, 1)]
    activity = computed("utilisation", min(sum(node.value for node in used), 1.0), "", "min(mfu + mbu, 1)", used)
    idle = of.cited.fact("idle", device.idle_power_w, "W", "power.idle")
    formula = "idle + (rated - idle) * utilisation"
    return computed("power", float(cost.power_w), "W", formula, (idle, rated, activity), "a line: assumed")


def _pue(of: Explained) -> Node:
    return of.cited.asked("pue", float(of.case.site.pue), "", "pue")


def _joule(side: str, cost: TokenCost) -> Build:
    def build(of: Explained) -> Node:
        children = (_devices(of), _power(of, side, cost), _pue(of), _rate(of, side))
        formula = f"device_count * power * pue / {side}_token_per_s"
        return computed(f"joule_per_{side}_token", float(cost.joule_per_token), "J", formula, children)

    return build


def _price(of: Explained, side: str, cost: TokenCost) -> Node:
    site = of.case.site
    cited = site.citation
    text = "" if cited is None else f"{cited.printed}, {cited.kind}, {cited.seller}, {cited.date} ({cited.source})"
    text = of.cited.facts.get("price.on_demand", text) if site == profile_site(of.case.device) else text
    tariff = site.tariff
    assert tariff is not None  # figures of money exist only with a price
    value = float(usd_per_device_hour(tariff, cost.power_w, site.pue))

    def stated(name: str, number: float, unit: str) -> Node:
        return Node(name, float(number), unit, kind=SourceKind.FACT, text=text)

    match tariff:
        case Rental():
            return stated("usd_per_device_hour", value, "USD/h")
        case Ownership(capital, residual, life_s, hosting, usd_per_joule):
            children = (
                stated("capital", float(capital), "USD"),
                stated("residual", float(residual), "USD"),
                stated("life", float(life_s), "s"),
                constant("hour", HOUR_S, "s", "seconds"),
                stated("hosting", float(hosting), "USD/h"),
                _power(of, side, cost),
                _pue(of),
                stated("usd_per_joule", float(usd_per_joule), "USD/J"),
            )
            formula = "(capital - residual) / life * hour + hosting + power * pue * usd_per_joule * hour"
            return computed("usd_per_device_hour", value, "USD/h", formula, children)


def _usd(side: str, cost: TokenCost) -> Build:
    def build(of: Explained) -> Node:
        children = (
            _devices(of),
            _price(of, side, cost),
            constant("hour", HOUR_S, "s", "seconds"),
            _rate(of, side),
            constant("million", MILLION_TOKEN, "", "tokens that a price is quoted for"),
        )
        formula = f"device_count * usd_per_device_hour / hour / {side}_token_per_s * million"
        note = f"{side} tokens pay for the device-seconds of {'prefill' if side == 'input' else 'decode'}"
        return computed(f"usd_per_mtok_{side}", float(cost.usd_per_mtok or 0.0), "USD", formula, children, note)

    return build


def _carbon(side: str, cost: TokenCost) -> Build:
    def build(of: Explained) -> Node:
        site = of.case.site
        text = f"{site.grid} ({site.grid_source})"
        intensity = Node("intensity", float(site.carbon_kg_per_joule or 0.0), "kg/J", kind=SourceKind.FACT, text=text)
        joule = _joule(side, cost)(of)
        million = constant("million", MILLION_TOKEN, "", "tokens")
        value = float(cost.carbon_kg_per_mtok or 0.0)
        formula = f"{joule.name} * intensity * million"
        return computed(f"carbon_kg_per_mtok_{side}", value, "kg", formula, (joule, intensity, million))

    return build
