"""Whole models against published figures: FasterTransformer on A100, one GPT-3 layer on A100, kernels on MI210, FPGA
boards. Prints errors; fits nothing.

A figure is one request batch end to end. Where two figures of a series differ in prompt or output alone, their
difference isolates a phase: prefill or decode steps.

Usage: ROOFLINE_DATA=../shared/data python benchmarks/published.py
"""

import csv
import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import combinations
from pathlib import Path

import numpy as np

from roofline.deployment import Deployment, decode_times, deployment, pipeline_s, prefill_times
from roofline.errors import InfeasibleError, RooflineError
from roofline.io.calibration import load_calibration
from roofline.io.datasets import read
from roofline.io.models import load_model
from roofline.io.profiles import load_target
from roofline.model import Attention, Layer, Mlp, Model, Norm, Position
from roofline.structs import Dtype
from roofline.timing import Calibration
from roofline.timing.direct_all_reduce import DirectParameters
from roofline.validate.pair import pair
from roofline.workload import AttentionKind, Parallelism, Precision, Scenario


@dataclass(frozen=True)
class Engine:
    """What the figures' engine does that a datasheet does not say. Everything assumed about it stands here.

    `prefill` and `decode`: how attention runs. `step_s`: added to every generated token and every encoder pass.
    All-reduces are NCCL's in every engine here (the calibration's custom kernel came later), and wait WAIT_S.
    """

    prefill: AttentionKind
    decode: AttentionKind = AttentionKind.FUSED
    step_s: float = 0.0


WAIT_S = 22e-6
"""How long an all-reduce waits for the last rank where ranks launch kernel by kernel, without a graph: Vidur's small
ones (below 1 MiB, groups of 2, 4 and 8 inside an A100 node, launched so) take 22 us longer than NCCL's table says, on
average. NCCL's table is of a loop in a graph."""

GPT = Engine(AttentionKind.UNFUSED, step_s=1.1e-3)
"""FasterTransformer's GPT: prompts through batched products and a softmax, decode through one masked kernel; a step
sorts 51,200 logits (top-p), copies a stop flag to the host and launches some ten kernels a layer without a graph.
1.1 ms is what the smallest model (350M, batch 1: 2.9 ms a step) takes beyond its kernels; the same for every model."""

BERT = Engine(AttentionKind.FUSED)
"""FasterTransformer's BERT-base as a TensorFlow operation: heads of 64, up to 512 tokens, fp16 and int8, are fused."""

BERT_PLAIN = Engine(AttentionKind.UNFUSED)
"""The same where there is none: 32-bit formats, and the heads of 128 of BERT-6B."""

MEGATRON = Engine(AttentionKind.UNFUSED, AttentionKind.UNFUSED)
"""PyTorch without graphs; nothing is known of its overhead. Reported apart."""

FORMATS = {"fp16": Dtype.FP16, "fp32": Dtype.FP32, "tf32": Dtype.TF32, "int8": Dtype.INT8}

PURE = 0.9
"""Share of a difference that one phase must have to stand for it."""

CLEAR = 0.2
"""Least difference, as a share of the longer figure: smaller ones are lost in rounding and noise."""


@dataclass(frozen=True)
class Figure:
    """One published figure in seconds, or tokens a second, as printed."""

    source: str
    device: str
    model: str
    precision: str
    framework: str
    batch: float
    input_token: float
    output_token: float
    tp: int
    pp: int
    metric: str
    value: float
    note: str

    @property
    def name(self) -> str:
        """The model without its shape."""
        return self.model.split("[")[0]

    @property
    def series(self) -> tuple[object, ...]:
        """Figures of one series differ in prompt and output alone."""
        return self.name, self.framework, self.precision, self.batch, self.tp, self.pp


@dataclass(frozen=True)
class Predicted:
    """Seconds: prefill, all decode steps, the engine's constant, and the bare roofline of both phases."""

    figure: Figure
    prefill_s: float
    decode_s: float
    engine_s: float
    roofline_s: float

    @property
    def total_s(self) -> float:
        """End to end."""
        return self.prefill_s + self.decode_s + self.engine_s

    @property
    def phase(self) -> str:
        """The phase that takes nearly all of the time, or `mixed`."""
        return _phase(self.prefill_s, self.total_s - self.prefill_s)


@dataclass(frozen=True)
class Compared:
    """A predicted and a published number of one phase."""

    figure: Figure
    phase: str
    predicted: float
    published: float


def _phase(prefill_s: float, decode_s: float) -> str:
    share = abs(prefill_s) / (abs(prefill_s) + abs(decode_s))
    return "prefill" if share >= PURE else "decode" if share <= 1.0 - PURE else "mixed"


def figures(path: Path) -> Iterator[Figure]:
    """The figures of a file, without those marked EXCLUDE. Some FPGA rows have a bare comma in their first column."""
    with path.open(encoding="utf-8") as file:
        names, *rows = csv.reader(file)
    for values in rows:
        row = dict(zip(names, values[-len(names) :], strict=True))
        if "EXCLUDE" in row["notes"]:
            continue
        scale = {"ms": 1e-3, "ms/step": 1e-3}.get(row["unit"], 1.0)
        lengths = (float(row["input_len"] or 0), float(row["output_len"] or 0))
        yield Figure(
            row["source"],
            row["device"],
            row["model"],
            row["weight_dtype"],
            row["framework"],
            float(row["batch"]),
            *lengths,
            int(row["tp"]),
            int(row["pp"]),
            row["metric"],
            float(row["value"]) * scale,
            row["notes"],
        )


@cache
def model_of(text: str) -> Model:
    """The model that `NAME[L..,d..,H..x..,V..]` describes: layer norms, biases, a plain MLP of four times the width.

    Without a vocabulary: an encoder, and nothing outside its layers.
    """
    name, shape = text.rstrip("]").split("[")
    found = re.search(r"L(\d+),d(\d+),H(\d+)x(\d+)(?:,V(\d+))?", shape)
    assert found, text
    layers, hidden, heads, head_dim, vocabulary = (float(group or 0.0) for group in found.groups())
    attention = Attention(heads, heads, head_dim, qkv_bias=True, output_bias=True)
    causal = vocabulary > 0.0
    return Model(
        name=name,
        family="gpt" if causal else "bert",
        hidden=hidden,
        vocabulary=vocabulary,
        layers=(Layer(attention, Mlp(4.0 * hidden, gated=False, bias=True)),) * int(layers),
        tied_embeddings=True,
        max_context=2048.0,
        norm=Norm.LAYER,
        position=Position.LEARNED,
        causal=causal,
        position_rows=2048.0 * causal,
        final_norm=causal,
    )


def engine_of(figure: Figure) -> Engine:
    """The engine that a figure is of."""
    if figure.framework.startswith("Megatron"):
        return MEGATRON
    if model_of(figure.model).causal:
        return GPT
    fused = figure.name.startswith("BERT-base") and figure.precision not in ("fp32", "tf32")
    return BERT if fused else BERT_PLAIN


def nccl_only(calibration: Calibration) -> Calibration:
    """The calibration with NCCL's all-reduce, of ranks that wait for each other, in place of the custom one."""
    key = ("all_reduce", "bf16")
    fitted = calibration.models[key]
    assert isinstance(fitted.parameters, DirectParameters)
    ring = fitted.parameters.beyond
    waiting = replace(fitted, parameters=replace(ring, launch_s=ring.launch_s + WAIT_S))
    return replace(calibration, models={**calibration.models, key: waiting})


@cache
def _deployment(model: str, tp: int, pp: int, precision: str, attention: AttentionKind) -> Deployment:
    target = load_target("a100-sxm-80gb")
    scenario = _scenario(1.0, 1.0, 1.0, tp, pp, precision, attention)
    return deployment(model_of(model), target.device, nccl_only(load_calibration(target)), scenario)


def _scenario(
    batch: float, given: float, made: float, tp: int, pp: int, precision: str, attention: AttentionKind
) -> Scenario:
    stored = FORMATS[precision.split("(")[0]]
    wide = stored if stored in (Dtype.FP32, Dtype.TF32) else Dtype.FP16
    return Scenario(
        batch, given, made, Precision(stored, stored, stored, wide, wide), Parallelism(tp=tp, pp=pp), attention
    )


def predicted(figure: Figure) -> Predicted:
    """A GPU figure predicted. A batch runs through pipeline stages in as many micro-batches as there are stages. The
    bare roofline is that of a pipeline without bubbles, however many there were.
    """
    engine, steps = engine_of(figure), max(figure.output_token - 1.0, 0.0)

    def asked(attention: AttentionKind) -> tuple[Deployment, Scenario]:
        where = (figure.tp, figure.pp, figure.precision, attention)
        lengths = figure.batch, figure.input_token, max(figure.output_token, 1.0)
        return _deployment(figure.model, *where), _scenario(*lengths, *where)

    where, scenario = asked(engine.prefill)
    prefill, prefill_s = prefill_times(where, scenario)
    count = min(figure.batch, figure.pp)
    bare_s, decode_s = float(pipeline_s(prefill.stage_roofline_s, count)[1]), 0.0
    if steps:
        where, scenario = asked(engine.decode)
        decode, step_s = decode_times(where, scenario)
        decode_s = steps * float(step_s)
        bare_s += steps * float(pipeline_s(decode.stage_roofline_s, count)[1])
    return Predicted(figure, float(prefill_s), decode_s, engine.step_s * (steps + 1.0), bare_s)


def phases(known: Sequence[Predicted]) -> Iterator[Compared]:
    """Figures, and differences of two figures of a series, that are nearly all prefill or nearly all decode."""
    for one in known:
        if one.phase != "mixed":
            yield Compared(one.figure, one.phase, one.total_s, one.figure.value)
    groups = defaultdict(list)
    for one in known:
        groups[one.figure.series].append(one)
    for group in groups.values():
        for first, second in combinations(group, 2):
            short, long = sorted((first, second), key=lambda one: one.total_s)
            prefill_s = long.prefill_s - short.prefill_s
            decode_s = long.total_s - short.total_s - prefill_s
            total_s = prefill_s + decode_s
            phase = _phase(prefill_s, decode_s) if total_s else "mixed"
            if phase != "mixed" and total_s >= CLEAR * long.total_s:
                yield Compared(long.figure, f"{phase} difference", total_s, long.figure.value - short.figure.value)


def faster_than_physics(known: Sequence[Predicted]) -> list[Predicted]:
    """Figures below the bare roofline of the work that their source states."""
    return [one for one in known if one.figure.value < one.roofline_s]


def errors(predicted: Sequence[float], published: Sequence[float]) -> tuple[float, float, float]:
    """Median and mean absolute error, and bias (the median of predicted / published - 1), as fractions."""
    ratio = np.asarray(predicted) / np.asarray(published) - 1.0
    return float(np.median(np.abs(ratio))), float(np.mean(np.abs(ratio))), float(np.median(ratio))


PRIMARY, SIMULATED, SECONDARY, LOW = "measured by its authors", "simulated by its authors", "second-hand", "low trust"


def trust(figure: Figure) -> str:
    """How far an FPGA figure can be trusted, by what its notes say."""
    for word, level in (("SIMULATED", SIMULATED), ("SECONDARY", SECONDARY), ("LOW TRUST", LOW)):
        if word in figure.note:
            return level
    return PRIMARY


BOARDS = {
    "Versal VHK158": "fpga-vhk158",
    "Alveo U280": "fpga-u280",
    "Alveo U55C": "fpga-u55c",
    "Alveo U50LV": "fpga-u50",
}
BOARD_MODELS = {"Llama-2-7B": "llama-2-7b", "GPT-2 Medium 345M": "gpt2-medium", "OPT-1.3B": "opt-1.3b"}
BOARD_FORMATS = {"int4": (Dtype.INT4, Dtype.INT8), "int8": (Dtype.INT8, Dtype.INT8), "fp16": (Dtype.FP16, Dtype.FP16)}
"""Weights and activations. FlightLLM mixes 3 to 5 bit weights, 3.5 on average: predicted as int4 (4.1 with scales)."""


def board_prediction(figure: Figure) -> float:
    """The figure's own metric, predicted. Errors: RooflineError where the board, model or format is not stated."""
    if figure.device not in BOARDS or figure.model not in BOARD_MODELS:
        raise RooflineError(f"{figure.device} with {figure.model}: no profile, or no model stated")
    weights, activations = BOARD_FORMATS.get(figure.precision, BOARD_FORMATS["int4"])
    target = load_target(BOARDS[figure.device])
    precision = Precision(weights, weights, activations, activations, activations)
    given, made = max(figure.input_token, 1.0), max(figure.output_token, 1.0)
    scenario = Scenario(figure.batch, given, made, precision, Parallelism(tp=figure.tp), AttentionKind.FUSED)
    model = load_model(BOARD_MODELS[figure.model]).model
    where = deployment(model, target.device, load_calibration(target), scenario)
    ttft_s, tpot_s = float(prefill_times(where, scenario)[1]), float(decode_times(where, scenario)[1])
    e2e_s = ttft_s + (made - 1.0) * tpot_s
    metrics: dict[str, Callable[[], float]] = {
        "ttft": lambda: ttft_s,
        "prefill_latency": lambda: ttft_s,
        "e2e_latency": lambda: e2e_s,
        "decode_latency": lambda: made * tpot_s,
        "decode_tok_s": lambda: figure.batch / tpot_s,
        "out_tok_s": lambda: figure.batch * made / e2e_s,
        "tpot": lambda: tpot_s,
    }
    return metrics[figure.metric]()


def is_decode(figure: Figure) -> bool:
    """Whether an FPGA figure is of decode steps alone."""
    return figure.metric in ("decode_latency", "decode_tok_s", "tpot")


def _line(label: str, predicted: Sequence[float], published: Sequence[float]) -> None:
    median, mean, bias = errors(predicted, published)
    print(f"  {label:44s} {len(predicted):4d} {median:8.1%} {mean:8.1%} {bias:+8.1%}")


def _by(title: str, known: Sequence[Predicted], key: Callable[[Predicted], str]) -> None:
    print(f"\n{title:46s}    n   median     mean     bias")
    groups = defaultdict(list)
    for one in known:
        groups[key(one)].append(one)
    for name in sorted(groups):
        _line(name, [one.total_s for one in groups[name]], [one.figure.value for one in groups[name]])


def _batch(one: Predicted) -> str:
    return next(name for limit, name in ((4, "1-4"), (32, "5-32"), (np.inf, "33-256")) if one.figure.batch <= limit)


def sound(known: Sequence[Predicted]) -> list[Predicted]:
    """Figures of FasterTransformer whose stated work is possible: without BERT-6B."""
    return [one for one in known if engine_of(one.figure) is not MEGATRON and not doubtful(one.figure)]


def doubtful(figure: Figure) -> bool:
    """BERT-6B: more than half of its figures, at every batch, are faster than the peak allows for the lengths stated
    (by up to 1.8), so padding was not computed. How long its prompts were is not stated.
    """
    return figure.name.startswith("BERT-6B")


def gpu(folder: Path) -> list[Predicted]:
    """Every A100 figure, predicted."""
    return [predicted(figure) for figure in figures(folder / "published" / "fastertransformer_a100.csv")]


def main() -> None:
    """Print all of it."""
    folder = Path(os.environ["ROOFLINE_DATA"])
    known = gpu(folder)
    print(f"A100: {len(known)} figures; engine: {GPT}, {BERT_PLAIN}")
    flagged = faster_than_physics(known)
    print(f"faster than the bare roofline of the stated work: {len(flagged)}")
    for name in sorted({one.figure.name for one in flagged}):
        some = [one for one in flagged if one.figure.name == name]
        least = min(one.figure.value / one.roofline_s for one in some)
        batches = sorted({int(one.figure.batch) for one in some})
        print(f"  {name}: {len(some)}, down to {least:.2f} of it; batches {batches}")
    kept = sound(known)
    _by("all figures, end to end, by model", known, lambda one: f"{one.figure.name} {one.figure.framework}")
    _by("BERT-6B by batch", [one for one in known if doubtful(one.figure)], lambda one: f"{one.figure.batch:4.0f}")
    print("\nFasterTransformer without BERT-6B from here on")
    _by("by mode", kept, lambda one: one.figure.note.split(";")[0] + " " + one.figure.metric)
    _by("by format", kept, lambda one: one.figure.precision)
    _by("by split", kept, lambda one: f"tp {one.figure.tp:2d} pp {one.figure.pp}")
    _by("by batch", kept, _batch)
    _by("by regime (what takes 90 % of the time)", kept, lambda one: one.phase)
    _by("by model and batch", kept, lambda one: f"{one.figure.name} batch {_batch(one)}")
    print(f"\n{'phases, fp16':46s}    n   median     mean     bias")
    found = list(phases([one for one in kept if one.figure.precision == "fp16"]))
    for phase in sorted({one.phase for one in found}):
        some = [one for one in found if one.phase == phase]
        _line(phase, [one.predicted for one in some], [one.published for one in some])
        for name in sorted({one.figure.name for one in some}):
            part = [one for one in some if one.figure.name == name]
            _line(f"  {name}", [one.predicted for one in part], [one.published for one in part])
    kernels(folder)
    boards(folder)


def kernels(folder: Path) -> None:
    """Print LLMCompass: every kind of kernel on A100 and MI210, and the sum of one GPT-3 layer (TP 4) on A100."""
    layer: dict[str, list[tuple[float, float]]] = defaultdict(list)
    print(f"\n{'LLMCompass (eager PyTorch, one loop a call)':46s}    n   median     mean     bias")
    for group in read(folder / "llmcompass")[0]:
        target = load_target(group.device)
        try:
            found = pair(group, target.device, load_calibration(target))
        except RooflineError as error:
            print(f"  {group.device} {group.kernel}: not predicted: {str(error).splitlines()[0][:80]}")
            continue
        label = f"{group.device} {group.kernel}{'' if found.fitted else ' (datasheet)'}"
        _line(label, found.predicted_s.tolist(), group.measured_s.tolist())
        if group.size == 1:
            calls = 3.0 if group.kernel == "qkv_projection" else 1.0
            phase = "decode" if "transformerAR" in group.source else "prefill"
            layer[phase].append((calls * float(found.predicted_s[0]), calls * float(group.measured_s[0])))
    for phase, pairs in sorted(layer.items()):
        predicted_s, measured_s = np.sum(pairs, axis=0)
        figures_ms = f"measured {measured_s * 1e3:.3f} ms, predicted {predicted_s * 1e3:.3f} ms"
        print(f"  one layer, {phase}: {figures_ms}, {predicted_s / measured_s - 1.0:+.1%}")


def boards(folder: Path) -> None:
    """Print the FPGA rows, those measured by their authors first."""
    order = (PRIMARY, SIMULATED, SECONDARY, LOW)
    rows = sorted(figures(folder / "published" / "fpga.csv"), key=lambda figure: order.index(trust(figure)))
    found = defaultdict(list)
    print("\nFPGA boards")
    for figure in rows:
        label = f"{trust(figure):24s} {figure.framework[:16]:16s} {figure.device:14s} {figure.metric:15s}"
        label += f" {figure.input_token:4.0f}/{figure.output_token:4.0f}"
        try:
            value = board_prediction(figure)
        except (RooflineError, InfeasibleError) as error:
            print(f"  {label} {figure.value:9.4g}  not predicted: {str(error).splitlines()[0][:70]}")
            continue
        print(f"  {label} {figure.value:9.4g} predicted {value:9.4g} {value / figure.value - 1.0:+7.1%}")
        found[f"{trust(figure)}, {'decode' if is_decode(figure) else 'other'}"].append((value, figure.value))
    print(f"\n{'FPGA boards by trust':46s}    n   median     mean     bias")
    for name, pairs in found.items():
        _line(name, *zip(*pairs, strict=True))


if __name__ == "__main__":
    main()
