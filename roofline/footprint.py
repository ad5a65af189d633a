"""What a deployment keeps in memory on each device: weights, KV cache, activations, and the engine's reserve."""

from collections import Counter
from dataclasses import dataclass

import numpy as np

from .device import Device
from .model import Attention, LatentAttention, Layer, Mlp, Model, Moe
from .parameters import Role, Shard, Tensor, layer_tensors, outer_tensors
from .structs import STORED_BYTE, Array, Number
from .transformer import cache_values, check_parallelism, kv_heads_per_device, stage_layers
from .workload import AttentionKind, Parallelism, Precision, Scenario

BLOCK_TOKEN = 16.0
"""Tokens per block of a paged KV cache: the default of vLLM (Kwon et al., arXiv 2309.06180, section 4.3)."""

PREFILL_BUDGET_TOKEN = 8192.0
"""Prompt tokens whose activations are live at once: the default max_num_batched_tokens of vLLM for online serving on
large GPUs. Engines split longer prefills; a plain (unfused) implementation does not."""

LOGIT_BYTE = 4.0
"""Logits are kept in fp32 for sampling."""


@dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes on the fullest device. `reserve_byte` is what engine and runtime keep back; elementwise over scenarios."""

    weight_byte: Number
    kv_byte: Number
    activation_byte: Number
    reserve_byte: Number
    capacity_byte: Number

    @property
    def total_byte(self) -> Number:
        """Everything that must fit."""
        return self.weight_byte + self.kv_byte + self.activation_byte + self.reserve_byte

    @property
    def free_byte(self) -> Number:
        """What is left; negative where it does not fit."""
        return self.capacity_byte - self.total_byte


def _tensor_byte(tensor: Tensor, precision: Precision, spread: Parallelism, kv_share: float) -> float:
    """Bytes of one device's share of `tensor`; `kv_share`: its share of the KV heads."""
    stored = {Role.LINEAR: precision.weights, Role.EXPERT: precision.experts}.get(tensor.role, precision.stream)
    match tensor.shard:
        case Shard.HEADS | Shard.OUTPUT | Shard.INPUT:
            elements = tensor.elements / spread.tp
        case Shard.KV_HEADS:
            elements = tensor.elements * kv_share
        case Shard.VOCABULARY:
            elements = float(np.ceil(tensor.rows / spread.tp)) * tensor.columns * tensor.count
        case Shard.EXPERTS:
            elements = tensor.elements / (spread.ep * spread.expert_tp)
        case Shard.REPLICATED:
            elements = tensor.elements
    return elements * STORED_BYTE[stored]


def layer_tensor_bytes(
    layer: Layer, model: Model, precision: Precision, spread: Parallelism
) -> tuple[tuple[Tensor, float], ...]:
    """Every tensor of a layer with the bytes of one device's share of it."""
    attention = layer.attention
    kv_share = 1.0
    if isinstance(attention, Attention):
        kv_share = kv_heads_per_device(attention, spread.tp) / attention.kv_heads
    return tuple((tensor, _tensor_byte(tensor, precision, spread, kv_share)) for tensor in layer_tensors(layer, model))


def outer_tensor_bytes(
    model: Model, precision: Precision, spread: Parallelism
) -> tuple[tuple[Tensor, float, tuple[float, ...]], ...]:
    """Every tensor outside the layers: it, bytes of one device's share, and copies on each pipeline stage.

    A tied embedding is copied to the last stage when there is more than one.
    """
    found = []
    for tensor in outer_tensors(model):
        copies = [0.0] * spread.pp
        copies[0 if tensor.name in FIRST_STAGE else -1] = 1.0
        if tensor.name == "embedding" and model.tied_embeddings and model.causal and spread.pp > 1:
            copies[-1] = 1.0
        found.append((tensor, _tensor_byte(tensor, precision, spread, 1.0), tuple(copies)))
    return tuple(found)


FIRST_STAGE = frozenset({"embedding", "embedding_in", "position", "token_type", "embedding_norm"})
"""Tensors outside the layers that live on the first pipeline stage; the others live on the last."""


def weight_byte(model: Model, precision: Precision, spread: Parallelism) -> Array:
    """Bytes of weights on one device of each pipeline stage, shape (stages,)."""
    stages = stage_layers(model, spread.pp)
    size = {
        layer: sum(byte for _, byte in layer_tensor_bytes(layer, model, precision, spread))
        for layer in set(model.layers)
    }
    byte = np.array([sum(size[kind] * count for kind, count in Counter(stage).items()) for stage in stages])
    for _, share, copies in outer_tensor_bytes(model, precision, spread):
        byte += share * np.array(copies)
    return byte


def _blocks(token: Number) -> Number:
    """Tokens rounded up to whole blocks of the paged cache."""
    return np.ceil(token / BLOCK_TOKEN) * BLOCK_TOKEN


def layer_kv_byte(attention: Attention | LatentAttention, token: Number, precision: Precision, tp: int) -> Number:
    """Cache bytes that one sequence of `token` tokens holds in one layer on one device.

    A sliding window keeps its last `window` tokens only. Counts whole blocks of BLOCK_TOKEN tokens.
    """
    kept = token
    if isinstance(attention, Attention):
        kept = np.minimum(token, attention.window)
    return _blocks(kept) * cache_values(attention, tp) * STORED_BYTE[precision.kv]


def kv_byte_per_sequence(model: Model, token: Number, precision: Precision, spread: Parallelism) -> Array:
    """Cache bytes of one sequence of `token` tokens on one device of each stage, shape (*token, stages).

    Encoders keep no cache.
    """
    stages = [
        sum(
            layer_kv_byte(attention, token, precision, spread.tp) * count
            for attention, count in Counter(layer.attention for layer in stage).items()
        )
        for stage in stage_layers(model, spread.pp)
    ]
    return np.stack([np.asarray(stage, dtype=np.float64) for stage in stages], axis=-1) * model.causal


def _mlp_values(mlp: Mlp | Moe, spread: Parallelism) -> float:
    """Values per token alive at the widest point of an MLP: its inputs' outputs and their product."""
    match mlp:
        case Mlp():
            return (2.0 + mlp.gated) * mlp.width / spread.tp
        case Moe():
            routed = mlp.per_token / spread.ep * spread.expert_replicas * mlp.width / spread.expert_tp
            return (2.0 + mlp.gated) * (routed + mlp.shared * mlp.shared_width / spread.tp)


def _attention_values(attention: Attention | LatentAttention, tp: int) -> float:
    """Values per token alive around attention: queries, keys, values and the output, before the projection."""
    match attention:
        case Attention():
            return (2.0 * attention.heads / tp + 2.0 * kv_heads_per_device(attention, tp)) * attention.head_dim
        case LatentAttention():
            head = 2.0 * (attention.nope_dim + attention.rope_dim + attention.value_dim)
            return attention.heads / tp * head + attention.kv_rank + attention.rope_dim


def activation_byte(
    model: Model, scenario: Scenario, sequences: Number, budget_token: Number = PREFILL_BUDGET_TOKEN
) -> Number:
    """Peak bytes of activations on one device while `sequences` prompts are prefilled, `budget_token` tokens at once.

    Counts the residual stream and its normed copy, the wider of attention and MLP, the logits of every sequence, and
    the score matrices (before and after softmax) of unfused attention. Ignores: allocator fragmentation (part of the
    reserve) and communication buffers.
    """
    spread, stream = scenario.parallelism, STORED_BYTE[scenario.precision.stream]
    token = sequences * scenario.input_token
    layers = set(model.layers)
    widest = max(max(_attention_values(layer.attention, spread.tp), _mlp_values(layer.mlp, spread)) for layer in layers)
    per_token = (2.0 * model.hidden + widest) * stream
    logits = sequences * model.vocabulary * LOGIT_BYTE * model.causal
    match scenario.attention:
        case AttentionKind.FUSED:
            return np.minimum(token, budget_token) * per_token + logits
        case AttentionKind.UNFUSED:
            heads = max(layer.attention.heads for layer in layers) / spread.tp
            return token * per_token + logits + 2.0 * token * scenario.input_token * heads * stream


def footprint(model: Model, device: Device, scenario: Scenario) -> Footprint:
    """The Footprint of the fullest device at the end of generation; elementwise over the scenario's numbers.

    A replica holds its share of the batch; every pipeline stage holds the cache of all of the replica's sequences.
    Errors: InfeasibleError where the model cannot be split so.
    """
    spread = scenario.parallelism
    check_parallelism(model, spread)
    sequences = np.ceil(np.asarray(scenario.batch, dtype=np.float64) / spread.dp)
    token = np.asarray(scenario.input_token + scenario.output_token, dtype=np.float64)
    weights = weight_byte(model, scenario.precision, spread)
    cache = sequences[..., None] * kv_byte_per_sequence(model, token, scenario.precision, spread)
    fullest = np.argmax(weights + cache, axis=-1)
    return Footprint(
        weight_byte=weights[fullest],
        kv_byte=np.take_along_axis(cache, fullest[..., None], axis=-1)[..., 0],
        activation_byte=activation_byte(model, scenario, sequences),
        reserve_byte=device.reserve_fraction * device.dram.capacity_byte,
        capacity_byte=device.dram.capacity_byte,
    )
