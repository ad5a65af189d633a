"""A transformer as an explicit sequence of steps, with the names and the order of the predictor's plan.

Written once: the tape decides what happens to a step (run, count, keep), its library what computes it. Rows of
activations are tokens, sequence after sequence.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from ..errors import RooflineError
from ..kernels.attention import UnfusedStep
from ..model import Attention, LatentAttention, Layer, Mlp, Model, Moe, Position
from ..structs import NO_WINDOW
from ..transformer import LatentForm
from ..workload import AttentionKind
from . import operations
from .latent import latent_attention
from .library import ExpertRows, Library, Mask, Tensor, make_mask
from .tape import Operands, Tape
from .weights import Source, StepWeights, layer_weights, make_cache, model_weights

ROTARY_BASE = 10000.0


@dataclass(frozen=True, slots=True)
class StepShape:
    """`sequences` alike sequences that each bring `new_token` tokens behind `context` cached ones."""

    sequences: int
    new_token: int
    context: int

    def __post_init__(self) -> None:
        for name, least in (("sequences", 1), ("new_token", 1), ("context", 0)):
            if getattr(self, name) < least:
                raise RooflineError(f"{name}: {getattr(self, name)} is nothing to execute. Accepted: {least} or more.")

    @property
    def token(self) -> int:
        """New tokens of all sequences."""
        return self.sequences * self.new_token


@dataclass(frozen=True, slots=True)
class Form:
    """How attention is executed; `latent` matters to MLA alone."""

    attention: AttentionKind = AttentionKind.UNFUSED
    latent: LatentForm = LatentForm.EXPANDED


@dataclass(frozen=True, slots=True, eq=False)
class Positions:
    """What one step's positions need, made before it: rotary tables [new tokens, dim] and masks by window."""

    rotary: tuple[Tensor, ...]
    masks: dict[float, Mask]


def prepare(library: Library, model: Model, layers: Sequence[Layer], shape: StepShape) -> Positions:
    """The rotary tables and masks of `layers`. A causal step sees what is cached; an encoder has no cache."""
    windows = {getattr(layer.attention, "window", NO_WINDOW) for layer in layers}
    masks = {window: make_mask(library, shape.new_token, shape.context, window, model.causal) for window in windows}
    return Positions(_rotary(library, layers[0].attention, shape), masks)


def _rotary(library: Library, attention: Attention | LatentAttention, shape: StepShape) -> tuple[Tensor, ...]:
    """Cosine and sine of every new position, the rotation's sign in the sine (arXiv 2104.09864, equation 34)."""
    dim = int(attention.head_dim if isinstance(attention, Attention) else attention.rope_dim)
    frequency = ROTARY_BASE ** -(np.arange(0, dim, 2) / dim)
    angle = np.outer(shape.context + np.arange(shape.new_token), frequency)
    sin = np.sin(angle)
    return (
        library.tensor(np.concatenate([np.cos(angle)] * 2, axis=1)),
        library.tensor(np.concatenate([-sin, sin], axis=1)),
    )


@dataclass(frozen=True, slots=True, eq=False)
class LayerRun:
    """One layer ready to execute: its weights, its cache, and what the step's positions need."""

    model: Model
    layer: Layer
    form: Form
    weights: StepWeights
    cache: tuple[Tensor, ...]
    positions: Positions
    shape: StepShape

    def linear(self, tape: Tape, name: str, x: Tensor) -> Tensor:
        """The linear layer called `name`."""
        return tape.step(name, operations.linear, Operands(reads=(x,), weights=self.weights[name]))

    def norm(self, tape: Tape, name: str, x: Tensor) -> Tensor:
        """The norm called `name`."""
        return tape.step(name, operations.norm, Operands(reads=(x,), weights=self.weights[name]))

    def execute(self, tape: Tape, x: Tensor) -> Tensor:
        """The residual stream [tokens, hidden] behind the layer."""
        normed = self.norm(tape, "attention_norm", x)
        match self.layer.attention:
            case Attention():
                y = self._attention(tape, self.layer.attention, normed)
            case LatentAttention():
                y = latent_attention(self, tape, self.layer.attention, normed)
        if self.layer.norm_count > 2:
            y = self.norm(tape, "attention_output_norm", y)
        x = tape.step("attention_residual", operations.add, Operands(reads=(x, y)))
        if self.layer.norm_count > 1:
            normed = self.norm(tape, "mlp_norm", x)
        match self.layer.mlp:
            case Mlp():
                y = self._mlp(tape, self.layer.mlp, normed, "")
            case Moe():
                y = self._moe(tape, self.layer.mlp, normed)
        if self.layer.norm_count > 3:
            y = self.norm(tape, "mlp_output_norm", y)
        return tape.step("mlp_residual", operations.add, Operands(reads=(x, y)))

    def _split(self, tape: Tape, x: Tensor, heads: float) -> Tensor:
        """Tokens [tokens, heads · dim] as [sequences, heads, new tokens, dim], a view: heads split the features."""
        split = x.reshape(self.shape.sequences, self.shape.new_token, int(heads), -1)
        return tape.library.transpose(split, (0, 2, 1, 3))

    def _attention(self, tape: Tape, attention: Attention, x: Tensor) -> Tensor:
        match self.form.attention:
            case AttentionKind.FUSED:
                qkv = self.linear(tape, "qkv_proj", x)
                query, key = int(attention.heads * attention.head_dim), int(attention.kv_heads * attention.head_dim)
                flat = (qkv[:, :query], qkv[:, query : query + key], qkv[:, query + key :])
            case AttentionKind.UNFUSED:
                flat = tuple(self.linear(tape, name, x) for name in ("q_proj", "k_proj", "v_proj"))
        heads = (attention.heads, attention.kv_heads, attention.kv_heads)
        q, k, v = (self._split(tape, part, count) for part, count in zip(flat, heads, strict=True))
        if attention.qk_norm:
            q, k = tape.step("qk_norm", operations.head_norm, Operands(reads=(q, k), weights=self.weights["qk_norm"]))
        if self.model.position is Position.ROTARY:
            q, k = tape.step("rope", operations.rope, Operands(reads=(q, k), aside=self.positions.rotary))
        if self.model.causal:
            k, v = self.append(tape, (k, v), attention.window)
        y = self.inner_attention(tape, q, k, v, attention.head_dim**-0.5, attention.window)
        return self.linear(tape, "o_proj", y)

    def append(self, tape: Tape, new: tuple[Tensor, ...], window: float) -> tuple[Tensor, ...]:
        """Put the new tokens into the cache; gives back the part of it that they see."""
        context, end = self.shape.context, self.shape.context + self.shape.new_token
        slots = tuple(cache[:, :, context:end] for cache in self.cache)
        tape.step("kv_append", operations.kv_append, Operands(reads=new, slots=slots))
        start = end - self.positions.masks[window].allowed.shape[1]
        return tuple(cache[:, :, start:end] for cache in self.cache)

    def inner_attention(self, tape: Tape, q: Tensor, k: Tensor, v: Tensor, scale: float, window: float) -> Tensor:
        """Heads side by side, [tokens, heads · dim]."""
        mask = self.positions.masks[window]
        sliding = "_sliding" if window < NO_WINDOW else ""
        if self.form.attention is AttentionKind.FUSED:
            operands = Operands(reads=(q,), cache=(k, v), aside=(scale, mask))
            return tape.step(f"attention{sliding}", operations.fused_attention, operands)
        scores = tape.step(
            f"{UnfusedStep.SCORES}{sliding}", operations.attention_scores, Operands(reads=(q,), cache=(k,))
        )
        scores = tape.step(
            f"{UnfusedStep.SCALE_MASK}{sliding}", operations.scale_mask, Operands(reads=(scores,), aside=(scale, mask))
        )
        weights = tape.step(f"{UnfusedStep.SOFTMAX}{sliding}", operations.softmax, Operands(reads=(scores,)))
        heads = tape.step(
            f"{UnfusedStep.VALUES}{sliding}", operations.attention_values, Operands(reads=(weights,), cache=(v,))
        )
        return tape.step(f"{UnfusedStep.HEAD_CONCAT}{sliding}", operations.head_concat, Operands(reads=(heads,)))

    def _mlp(self, tape: Tape, mlp: Mlp, x: Tensor, prefix: str) -> Tensor:
        up = self.linear(tape, f"{prefix}gate_up_proj" if mlp.gated else f"{prefix}up_proj", x)
        activation = operations.gated_activation if mlp.gated else operations.plain_activation
        y = tape.step(f"{prefix}activation", activation, Operands(reads=(up,)))
        return self.linear(tape, f"{prefix}down_proj", y)

    def _moe(self, tape: Tape, moe: Moe, x: Tensor) -> Tensor:
        logits = self.linear(tape, "router", x)
        route = partial(operations.route_topk, per_token=int(moe.per_token))
        weights, _, rows = tape.step("route_topk", route, Operands(reads=(logits,)))
        y = self._experts(tape, moe, x, weights, rows)
        if not moe.shared:
            return y
        shared = self._mlp(tape, Mlp(moe.shared * moe.shared_width, moe.gated, moe.bias), x, "shared_")
        if not moe.shared_gate:
            return tape.step("shared_sum", operations.add, Operands(reads=(y, shared)))
        gate = self.linear(tape, "shared_gate", x)
        return tape.step("shared_sum", operations.gated_sum, Operands(reads=(y, shared), aside=(gate,)))

    def _experts(self, tape: Tape, moe: Moe, x: Tensor, weights: Tensor, rows: ExpertRows) -> Tensor:
        """The routed experts: one operation where attention is fused, else product by product."""
        name = "experts_gate_up" if moe.gated else "experts_up"
        first, second = (self._touched(step, rows.count) for step in (name, "experts_down"))
        match self.form.attention:
            case AttentionKind.FUSED:
                every = Operands(gathered=(x,), weights=(*first, *second), aside=(weights, rows, moe.gated))
                return tape.step("experts", operations.experts, every)
            case AttentionKind.UNFUSED:
                up = Operands(gathered=(x,), weights=first, aside=(rows,))
                y = tape.step(name, operations.experts_first, up)
                activation = operations.gated_activation if moe.gated else operations.plain_activation
                y = tape.step("experts_activation", activation, Operands(reads=(y,)))
                down = Operands(reads=(y,), weights=second, aside=(rows,))
                y = tape.step("experts_down", operations.experts_second, down)
                return tape.step("experts_sum", operations.experts_sum, Operands(gathered=(y,), aside=(weights, rows)))

    def _touched(self, name: str, count: tuple[int, ...]) -> tuple[Tensor, ...]:
        """Matrices, then biases, of the experts that have rows."""
        every, experts = self.weights[name], len(count)
        kinds = [every[start : start + experts] for start in range(0, len(every), experts)]
        return tuple(tensor for kind in kinds for tensor, rows in zip(kind, count, strict=True) if rows)


class ModelRun:
    """A whole model with random weights and a KV cache that grows: every call is one step of `sequences` sequences.

    `capacity`: tokens that the cache has room for. `seed` decides the weights: equal for every library.
    """

    def __init__(
        self, library: Library, model: Model, form: Form, sequences: int, capacity: int, *, seed: int = 0
    ) -> None:
        source = Source(library, np.random.default_rng(seed))
        self.library, self.model, self.form, self.sequences, self.capacity = library, model, form, sequences, capacity
        self.context = 0
        self.outer = model_weights(source, model)
        self.layers = [
            (
                layer,
                layer_weights(source, model, layer, form.attention),
                make_cache(library, layer.attention, sequences, capacity),
            )
            for layer in model.layers
        ]

    def step(self, tape: Tape, tokens: Tensor) -> Tensor:
        """One step over `tokens` [sequences, new tokens]: logits [sequences, vocabulary], or the encoder's rows.

        The last step of a causal model, sampling, runs too: `sample` gives its tokens. Errors: RooflineError where the
        cache is full.
        """
        shape = StepShape(self.sequences, tokens.shape[1], self.context)
        if shape.context + shape.new_token > self.capacity:
            raise RooflineError(f"context: the cache holds {self.capacity} tokens; start with more capacity.")
        positions = prepare(self.library, self.model, self.model.layers, shape)
        x = self._embedded(tape, tokens, shape)
        for layer, weights, cache in self.layers:
            x = LayerRun(self.model, layer, self.form, weights, cache, positions, shape).execute(tape, x)
        if self.model.causal:
            self.context += shape.new_token
        return self._head(tape, x, shape)

    def sample(self, tape: Tape, logits: Tensor) -> Tensor:
        """The next token of each sequence, [sequences, 1]."""
        return tape.step("sampling", operations.sampling, Operands(reads=(logits,))).reshape(-1, 1)

    def generate(self, tape: Tape, prompt: Tensor, count: int) -> list[Tensor]:
        """Prefill of `prompt`, then decode: `count` tokens per sequence."""
        found = [self.sample(tape, self.step(tape, prompt))]
        while len(found) < count:
            found.append(self.sample(tape, self.step(tape, found[-1])))
        return found

    def _outer(self, tape: Tape, name: str, x: Tensor) -> Tensor:
        """A linear layer or a norm outside the layers, where the model has it."""
        if name not in self.outer:
            return x
        operation = operations.norm if name.endswith("norm") else operations.linear
        return tape.step(name, operation, Operands(reads=(x,), weights=self.outer[name]))

    def _embedded(self, tape: Tape, tokens: Tensor, shape: StepShape) -> Tensor:
        place = np.tile(shape.context + np.arange(shape.new_token), shape.sequences)
        rows = [tokens.reshape(-1)]
        if self.model.position_rows:
            rows.append(self.library.index(place))
        if self.model.token_type_rows:
            rows.append(self.library.index(np.zeros_like(place)))
        operands = Operands(gathered=self.outer["embedding"], aside=tuple(rows))
        x = tape.step("embedding", operations.embedding, operands)
        return self._outer(tape, "embedding_norm", self._outer(tape, "embedding_in_proj", x))

    def _head(self, tape: Tape, x: Tensor, shape: StepShape) -> Tensor:
        if not self.model.causal:
            x = self._outer(tape, "final_norm", x)
            first = x.reshape(shape.sequences, shape.new_token, -1)[:, 0]
            return self._outer(tape, "pooler", first)
        last = x.reshape(shape.sequences, shape.new_token, -1)[:, -1]
        for name in ("final_norm", "embedding_out_proj", "lm_head"):
            last = self._outer(tape, name, last)
        return last
