"""What fills the memory of the fullest device, as trees."""

from collections import Counter
from collections.abc import Callable, Mapping

import numpy as np

from ..footprint import (
    BLOCK_TOKEN,
    Footprint,
    kv_byte_per_sequence,
    layer_kv_byte,
    layer_tensor_bytes,
    outer_tensor_bytes,
    weight_byte,
)
from ..model import Attention
from ..outcome import Case
from ..structs import NO_WINDOW, STORED_BYTE
from ..transformer import cache_values, stage_layers
from .node import Citations, Node, computed, constant, described, summed


def _fullest(case: Case) -> int:
    """The stage whose device holds most: weights and the cache of all its sequences."""
    scenario = case.scenario
    spread, token = scenario.parallelism, scenario.input_token + scenario.output_token
    sequences = np.ceil(scenario.batch / spread.dp)
    cache = sequences * kv_byte_per_sequence(case.model, np.float64(token), scenario.precision, spread)
    return int(np.argmax(weight_byte(case.model, scenario.precision, spread) + cache))


def weights_node(case: Case, held: Footprint, cited: Citations) -> Node:
    """Bytes of weights on the fullest device, by tensor."""
    model, precision, spread = case.model, case.scenario.precision, case.scenario.parallelism
    stage = _fullest(case)
    total: dict[str, float] = {}
    for layer, count in Counter(stage_layers(model, spread.pp)[stage]).items():
        for tensor, byte in layer_tensor_bytes(layer, model, precision, spread):
            total[tensor.name] = total.get(tensor.name, 0.0) + count * byte
    for tensor, byte, copies in outer_tensor_bytes(model, precision, spread):
        if copies[stage]:
            total[tensor.name] = total.get(tensor.name, 0.0) + copies[stage] * byte
    note = "all layers of the stage; linear layers and experts in their own formats, the rest in 16 bits"
    parts = (cited.shape(name, byte, "B") for name, byte in sorted(total.items(), key=lambda pair: -pair[1]))
    return summed("weights", float(held.weight_byte), "B", parts, note)


def kv_node(case: Case, held: Footprint, cited: Citations) -> Node:
    """Bytes of the KV cache on the fullest device at the end of generation."""
    if not case.model.causal:
        return described("kv", float(held.kv_byte), "B", "an encoder keeps no cache", ())
    scenario = case.scenario
    spread = scenario.parallelism
    sequences = computed(
        "sequences",
        float(np.ceil(scenario.batch / spread.dp)),
        "",
        "ceil(batch / dp)",
        (cited.asked("batch", scenario.batch, "", "batch"), cited.asked("dp", spread.dp, "", "dp")),
    )
    layers = Counter(layer.attention for layer in stage_layers(case.model, spread.pp)[_fullest(case)])
    parts = []
    for i, (attention, count) in enumerate(layers.items()):
        name = "layers" if len(layers) == 1 else f"layers_{i + 1}"
        byte = float(layer_kv_byte(attention, token_of(case), scenario.precision, spread.tp))
        values = cache_values(attention, spread.tp)
        value_byte = STORED_BYTE[scenario.precision.kv]
        kept = _kept(
            case, attention.window if isinstance(attention, Attention) else NO_WINDOW, byte / values / value_byte, cited
        )
        children = (
            cited.shape("count", count, "", "layers of this kind on the stage"),
            kept,
            cited.shape("values", values, "", "values cached per token and layer on one device: keys and values"),
            constant("value_byte", value_byte, "B", f"one value in {scenario.precision.kv} (--kv)"),
        )
        parts.append(computed(name, count * byte, "B", "count * tokens * values * value_byte", children))
    whole = sum(part.value for part in parts)
    per_sequence = summed("per_sequence", whole, "B", parts, "at the end of generation")
    return computed("kv", float(held.kv_byte), "B", "sequences * per_sequence", (sequences, per_sequence))


def token_of(case: Case) -> float:
    """Tokens of a request at the end of its generation."""
    return float(case.scenario.input_token + case.scenario.output_token)


def _kept(case: Case, window: float, value: float, cited: Citations) -> Node:
    """Tokens that the cache keeps of one sequence."""
    children = [
        cited.asked("input", case.scenario.input_token, "", "input"),
        cited.asked("output", case.scenario.output_token, "", "output"),
        constant("block", BLOCK_TOKEN, "", "tokens in a block of a paged cache (vLLM)"),
    ]
    held = "input + output"
    if window < NO_WINDOW:
        children.append(cited.shape("window", window, "", "most recent tokens that are kept"))
        held = "min(input + output, window)"
    return computed("tokens", value, "", f"ceil(({held}) / block) * block", children)


def activations_node(case: Case, held: Footprint, cited: Citations) -> Node:
    """Bytes of activations at the peak of prefill."""
    children = (
        cited.asked("batch", case.scenario.batch, "", "batch"),
        cited.asked("input", case.scenario.input_token, "", "input"),
        cited.shape("hidden", case.model.hidden),
        cited.shape("vocabulary", case.model.vocabulary),
    )
    words = "residual stream and the widest layer for the tokens that are live at once, logits of every sequence"
    return described("activations", float(held.activation_byte), "B", words, children, "see footprint.activation_byte")


def reserve_node(case: Case, held: Footprint, cited: Citations) -> Node:
    """Bytes that engine and runtime keep back."""
    children = (
        cited.fact("reserve_fraction", case.device.reserve_fraction, "", "memory.dram.reserve_fraction"),
        _capacity(held, cited),
    )
    return computed("reserve", float(held.reserve_byte), "B", "reserve_fraction * capacity", children)


def _capacity(held: Footprint, cited: Citations) -> Node:
    return cited.fact("capacity", float(held.capacity_byte), "B", "memory.dram.capacity")


def free_node(case: Case, held: Footprint, cited: Citations) -> Node:
    """Bytes left on the fullest device; negative where it does not fit."""
    parts = [build(case, held, cited) for build in TERMS.values()]
    formula = "capacity - (" + " + ".join(part.name for part in parts) + ")"
    return computed("free", float(held.free_byte), "B", formula, (_capacity(held, cited), *parts))


TERMS: Mapping[str, Callable[[Case, Footprint, Citations], Node]] = {
    "weights": weights_node,
    "kv": kv_node,
    "activations": activations_node,
    "reserve": reserve_node,
}
"""The terms of the footprint."""
