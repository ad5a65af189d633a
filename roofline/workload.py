"""What is asked of a model: batches of sequences, precision, parallelism, and how attention is executed."""

from dataclasses import dataclass
from enum import StrEnum

from .structs import MANTISSA_RANK, Dtype, Number


class AttentionKind(StrEnum):
    """`fused`: flash attention and flash decoding over a paged cache, projections merged. `unfused`: every step is a
    kernel of its own that goes through memory, as a plain implementation does.
    """

    FUSED = "fused"
    UNFUSED = "unfused"


@dataclass(frozen=True, slots=True)
class Sequences:
    """`count` alike sequences in one step: each brings `new_token` tokens on top of `context` cached ones.

    Prefill is new_token = prompt, context = 0; decode is new_token = 1; a chunk of a prompt is anything between.
    `sampled`: how many of them need logits (a chunk that does not end its prompt needs none). `decoding`: whether they
    generate (engines run another attention kernel then).
    """

    count: Number
    new_token: Number
    context: Number
    sampled: Number
    decoding: bool = False


Batch = tuple[Sequences, ...]
"""A mixed batch is several groups of alike sequences that share one step."""


def prefill(count: Number, new_token: Number, context: Number = 0.0) -> Sequences:
    """`count` prompts of `new_token` tokens behind `context` cached ones; each ends with a sampled token."""
    return Sequences(count, new_token, context, count)


def decode(count: Number, context: Number) -> Sequences:
    """`count` sequences that each generate one token behind `context` cached ones."""
    return Sequences(count, 1.0, context, count, decoding=True)


@dataclass(frozen=True, slots=True)
class Precision:
    """Number formats of weights, of routed experts, of activations that enter matrix products, and of the KV cache.

    `weights` holds for linear layers; embeddings, head, router, norms and biases stay in the `stream` format, which is
    never narrower than `floor`: 16 bits, or int8 where the device computes in nothing wider.
    """

    weights: Dtype = Dtype.BF16
    experts: Dtype = Dtype.BF16
    activations: Dtype = Dtype.BF16
    kv: Dtype = Dtype.BF16
    floor: Dtype = Dtype.BF16

    @property
    def stream(self) -> Dtype:
        """Format of everything between matrix products (residual stream, norms, head)."""
        return max(self.activations, self.floor, key=MANTISSA_RANK.__getitem__)


@dataclass(frozen=True, slots=True)
class Parallelism:
    """How one model is spread over devices.

    `tp` ranks split every layer, `pp` stages split the stack of layers, `dp` replicas split the batch. `ep` ranks share
    the routed experts: up to tp they divide inside a replica; beyond tp they span replicas (ep = tp * dp: all of them).
    """

    tp: int = 1
    pp: int = 1
    ep: int = 1
    dp: int = 1

    @property
    def device_count(self) -> int:
        """Devices in all."""
        return self.tp * self.pp * self.dp

    @property
    def expert_tp(self) -> int:
        """Ranks that split one expert's matrices."""
        return max(self.tp // self.ep, 1)

    @property
    def expert_replicas(self) -> int:
        """Replicas whose tokens meet at one set of experts."""
        return max(self.ep // self.tp, 1)


@dataclass(frozen=True, slots=True)
class Scenario:
    """A static batch: `batch` requests in flight over all replicas, each of `input_token` prompt tokens that generates
    `output_token` tokens, under a precision and a parallelism. Numbers may be arrays.
    """

    batch: Number
    input_token: Number
    output_token: Number
    precision: Precision
    parallelism: Parallelism
    attention: AttentionKind
