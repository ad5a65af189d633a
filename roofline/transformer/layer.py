"""The kernels of one layer, on one device, in the order in which they run."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from math import ceil

from ..kernels.attention import UnfusedStep
from ..kernels.collective import CollectiveKind
from ..kernels.moe import ACTIVATION_FLOP
from ..kernels.pointwise import PointwiseKind
from ..model import Attention, LatentAttention, Layer, Mlp, Model, Moe, Norm, Position
from ..structs import NO_WINDOW, STORED_BYTE
from ..workload import AttentionKind, Parallelism, Precision
from .rows import AttentionRow, CollectiveRow, ExpertLayerRow, ExpertRow, GemmRow, LatentRow, PointwiseRow, Row, StepRow

NORM_FLOP = {Norm.RMS: 4.0, Norm.LAYER: 7.0}
"""Vector FLOP per value. RMS: square, add, scale, weight. Layer: add, subtract, square, add, scale, weight, bias."""

NORM_VECTORS = {Norm.RMS: 1.0, Norm.LAYER: 2.0}
"""Parameters per value: a weight; a weight and a bias."""

ROPE_FLOP = 3.0
"""Vector FLOP per rotated value: a pair needs four multiplications and two additions (Su et al., arXiv 2104.09864)."""


class LatentForm(StrEnum):
    """How MLA runs: `expanded` builds keys and values per head from the latents (prefill); `absorbed` folds those
    matrices into queries and outputs and attends over the latents themselves (decode). arXiv 2405.04434, section 2.1.
    `whole`: one operation of a library, absorbed for sequences that decode and expanded for others.
    """

    EXPANDED = "expanded"
    ABSORBED = "absorbed"
    WHOLE = "whole"


@dataclass(frozen=True, slots=True)
class Setting:
    """What decides the kernels of a layer besides the layer itself."""

    model: Model
    parallelism: Parallelism
    precision: Precision
    attention: AttentionKind
    latent: LatentForm

    @property
    def stream_byte(self) -> float:
        """Bytes per value between matrix products."""
        return STORED_BYTE[self.precision.stream]

    def gemm(self, name: str, n: float, k: float, *, bias: bool = False, row: Row = Row.TOKEN) -> GemmRow:
        """A linear layer's product in the formats of weights and activations."""
        p = self.precision
        return GemmRow(name, 0, n, k, p.weights, p.activations, p.stream, float(bias), row=row)

    def stream_gemm(self, name: str, n: float, k: float, *, bias: bool = False, row: Row = Row.TOKEN) -> GemmRow:
        """A product that stays in the stream format: router and LM head."""
        stream = self.precision.stream
        return GemmRow(name, 0, n, k, stream, stream, stream, float(bias), row=row)

    def pointwise(
        self,
        name: str,
        kind: PointwiseKind,
        value: float,
        *,
        flop: float = 0.0,
        read: float = 1.0,
        write: float = 1.0,
        weight: float = 0.0,
        launch: float = 1.0,
        row: Row = Row.TOKEN,
    ) -> PointwiseRow:
        """Work on `value` values per row: `flop`, `read` and `write` per value; `weight` parameters read once."""
        size = value * self.stream_byte
        weight_byte = weight * self.stream_byte
        return PointwiseRow(name, 0, kind, value * flop, size * read, size * write, 0.0, weight_byte, launch, row)

    def norm(self, name: str) -> PointwiseRow:
        """A norm over the hidden size."""
        hidden, norm = self.model.hidden, self.model.norm
        return self.pointwise(
            name, PointwiseKind.NORM, hidden, flop=NORM_FLOP[norm], weight=hidden * NORM_VECTORS[norm]
        )

    def residual(self, name: str) -> PointwiseRow:
        """Addition to the residual stream; engines with fused attention also fuse it into the norm that follows."""
        launch = {AttentionKind.FUSED: 0.0, AttentionKind.UNFUSED: 1.0}[self.attention]
        return self.pointwise(name, PointwiseKind.RESIDUAL, self.model.hidden, flop=1.0, read=2.0, launch=launch)

    def all_reduce(self, name: str) -> Iterator[CollectiveRow]:
        """Sum of partial results over the tensor-parallel ranks (Megatron-LM, arXiv 1909.08053), if there are any."""
        if self.parallelism.tp > 1:
            size = self.model.hidden * self.stream_byte
            yield CollectiveRow(name, 0, CollectiveKind.ALL_REDUCE, size, float(self.parallelism.tp))


def kv_heads_per_device(attention: Attention, tp: int) -> float:
    """KV heads that one device keeps: an equal share, at least one (replicated when TP exceeds them)."""
    return float(ceil(attention.kv_heads / tp))


def cache_values(attention: Attention | LatentAttention, tp: int) -> float:
    """Values cached per token and layer on one device: keys and values of its heads, or the whole latent (MLA)."""
    match attention:
        case Attention():
            return 2.0 * kv_heads_per_device(attention, tp) * attention.head_dim
        case LatentAttention():
            return attention.kv_rank + attention.rope_dim


def _inner_attention(setting: Setting, shape: AttentionRow) -> Iterator[AttentionRow]:
    sliding = "_sliding" if shape.window < NO_WINDOW else ""
    match setting.attention:
        case AttentionKind.FUSED:
            yield shape._replace(name=f"attention{sliding}")
        case AttentionKind.UNFUSED:
            for step in UnfusedStep:
                yield shape._replace(name=f"{step}{sliding}", step=step)


def _kv_append(setting: Setting, value: float) -> PointwiseRow:
    read = value * setting.stream_byte
    return PointwiseRow("kv_append", 0, PointwiseKind.COPY, 0.0, read, 0.0, value * STORED_BYTE[setting.precision.kv])


def _grouped_attention(setting: Setting, attention: Attention) -> Iterator[StepRow]:
    hidden, tp, precision = setting.model.hidden, setting.parallelism.tp, setting.precision
    heads = attention.heads / tp
    kv_heads = kv_heads_per_device(attention, tp)
    query, key = heads * attention.head_dim, kv_heads * attention.head_dim
    match setting.attention:
        case AttentionKind.FUSED:
            yield setting.gemm("qkv_proj", query + 2.0 * key, hidden, bias=attention.qkv_bias)
        case AttentionKind.UNFUSED:
            yield setting.gemm("q_proj", query, hidden, bias=attention.qkv_bias)
            yield setting.gemm("k_proj", key, hidden, bias=attention.qkv_bias)
            yield setting.gemm("v_proj", key, hidden, bias=attention.qkv_bias)
    if attention.qk_norm:
        yield setting.pointwise(
            "qk_norm", PointwiseKind.NORM, query + key, flop=NORM_FLOP[Norm.RMS], weight=attention.qk_norm
        )
    if setting.model.position is Position.ROTARY:
        yield setting.pointwise("rope", PointwiseKind.ROPE, query + key, flop=ROPE_FLOP)
    if setting.model.causal:
        yield _kv_append(setting, 2.0 * key)
    shape = AttentionRow(
        name="attention",
        order=0,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=attention.head_dim,
        value_dim=attention.head_dim,
        window=attention.window,
        cache_value=2.0 * key,
        query=precision.stream,
        cache=precision.kv if setting.model.causal else precision.stream,
        causal=setting.model.causal,
        latent=False,
        step=None,
    )
    yield from _inner_attention(setting, shape)
    yield setting.gemm("o_proj", hidden, query, bias=attention.output_bias)


def _latent_attention(setting: Setting, attention: LatentAttention) -> Iterator[StepRow]:
    hidden, precision, stream = setting.model.hidden, setting.precision, setting.precision.stream
    heads = attention.heads / setting.parallelism.tp
    key_dim = attention.nope_dim + attention.rope_dim
    rms = NORM_FLOP[Norm.RMS]
    if attention.query_rank is None:
        yield setting.gemm("q_proj", heads * key_dim, hidden)
    else:
        yield setting.gemm("q_a_proj", attention.query_rank, hidden)
        yield setting.pointwise(
            "q_a_norm", PointwiseKind.NORM, attention.query_rank, flop=rms, weight=attention.query_rank
        )
        yield setting.gemm("q_b_proj", heads * key_dim, attention.query_rank)
    latent = attention.kv_rank + attention.rope_dim
    yield setting.gemm("kv_a_proj", latent, hidden)
    yield setting.pointwise("kv_a_norm", PointwiseKind.NORM, attention.kv_rank, flop=rms, weight=attention.kv_rank)
    yield setting.pointwise("rope", PointwiseKind.ROPE, (heads + 1.0) * attention.rope_dim, flop=ROPE_FLOP)
    yield _kv_append(setting, latent)
    shape = AttentionRow(
        name="attention",
        order=0,
        heads=heads,
        kv_heads=heads,
        head_dim=key_dim,
        value_dim=attention.value_dim,
        window=NO_WINDOW,
        cache_value=heads * (key_dim + attention.value_dim),
        query=stream,
        cache=stream,
        causal=setting.model.causal,
        latent=True,
        step=None,
    )
    match setting.latent:
        case LatentForm.EXPANDED:
            width = heads * (attention.nope_dim + attention.value_dim)
            yield setting.gemm("kv_b_proj", width, attention.kv_rank, row=Row.ATTENDED)
            yield from _inner_attention(setting, shape)
        case LatentForm.ABSORBED:
            up = GemmRow("q_absorb", 0, attention.kv_rank, attention.nope_dim, precision.weights, stream, stream)
            yield up._replace(copies=heads)
            absorbed = shape._replace(
                kv_heads=1.0, head_dim=latent, value_dim=attention.kv_rank, cache_value=latent, cache=precision.kv
            )
            yield from _inner_attention(setting, absorbed)
            yield up._replace(name="v_absorb", n=attention.value_dim, k=attention.kv_rank, copies=heads)
        case LatentForm.WHOLE:
            sizes = (attention.kv_rank, attention.rope_dim, attention.nope_dim, attention.value_dim)
            yield LatentRow("attention", 0, heads, *sizes, precision.weights, stream, precision.kv)
    yield setting.gemm("o_proj", hidden, heads * attention.value_dim)


def _dense_mlp(setting: Setting, mlp: Mlp, prefix: str = "") -> Iterator[StepRow]:
    hidden, width = setting.model.hidden, mlp.width / setting.parallelism.tp
    if mlp.gated:
        yield setting.gemm(f"{prefix}gate_up_proj", 2.0 * width, hidden, bias=mlp.bias)
    else:
        yield setting.gemm(f"{prefix}up_proj", width, hidden, bias=mlp.bias)
    yield setting.pointwise(
        f"{prefix}activation", PointwiseKind.ACTIVATION, width, flop=ACTIVATION_FLOP, read=1.0 + mlp.gated
    )
    yield setting.gemm(f"{prefix}down_proj", hidden, width, bias=mlp.bias)


def _routed_experts(setting: Setting, moe: Moe) -> Iterator[StepRow]:
    """The routed experts: one operation as engines fuse it, or product by product."""
    hidden, spread, precision = setting.model.hidden, setting.parallelism, setting.precision
    width, inputs = moe.width / spread.expert_tp, 1.0 + moe.gated
    fused = ExpertLayerRow(
        name="experts",
        order=0,
        hidden=hidden,
        width=width,
        inputs=inputs,
        per_token=moe.per_token,
        experts=moe.experts,
        local_experts=moe.experts / spread.ep,
        bias=float(moe.bias),
        weight=precision.experts,
        activation=precision.activations,
        output=precision.stream,
    )
    match setting.attention:
        case AttentionKind.FUSED:
            yield fused
        case AttentionKind.UNFUSED:
            up = ExpertRow(
                name="experts_gate_up" if moe.gated else "experts_up",
                order=0,
                n=inputs * width,
                k=hidden,
                per_token=fused.per_token,
                experts=fused.experts,
                local_experts=fused.local_experts,
                bias=fused.bias,
                weight=fused.weight,
                activation=fused.activation,
                output=fused.output,
            )
            yield up
            rows = moe.per_token / spread.ep
            yield setting.pointwise(
                "experts_activation",
                PointwiseKind.ACTIVATION,
                rows * width,
                flop=ACTIVATION_FLOP,
                read=inputs,
                row=Row.POOLED,
            )
            yield up._replace(name="experts_down", n=hidden, k=width)
            yield setting.pointwise(
                "experts_sum", PointwiseKind.RESIDUAL, hidden, flop=2.0 * rows, read=rows, row=Row.POOLED
            )


def _moe(setting: Setting, moe: Moe) -> Iterator[StepRow]:
    hidden, spread = setting.model.hidden, setting.parallelism
    yield setting.stream_gemm("router", moe.experts, hidden, bias=moe.router_bias)
    yield setting.pointwise(
        "route_topk", PointwiseKind.SOFTMAX, moe.experts, flop=6.0, write=2.0 * moe.per_token / moe.experts
    )
    exchange = CollectiveRow(
        name="dispatch",
        order=0,
        kind=CollectiveKind.ALL_TO_ALL,
        row_byte=moe.per_token * hidden * STORED_BYTE[setting.precision.activations] / spread.tp,
        group=float(spread.ep),
    )
    if spread.expert_replicas > 1:
        yield exchange
    yield from _routed_experts(setting, moe)
    if spread.expert_replicas > 1:
        combined = moe.per_token * hidden * setting.stream_byte / spread.tp
        yield exchange._replace(name="combine", row_byte=combined)
    if moe.shared:
        yield from _dense_mlp(setting, Mlp(moe.shared * moe.shared_width, moe.gated, moe.bias), "shared_")
        if moe.shared_gate:
            yield setting.stream_gemm("shared_gate", 1.0, hidden)
        yield setting.pointwise("shared_sum", PointwiseKind.RESIDUAL, hidden, flop=1.0 + moe.shared_gate, read=2.0)


def layer_rows(setting: Setting, layer: Layer) -> Iterator[StepRow]:
    """The kernels of `layer` on one device, in order.

    Counts the norms that the layer has: with one, attention and MLP read the same normed input (Falcon-7B, PaLM);
    with four, attention and MLP outputs are normed too (Gemma 2). All-reduces follow attention and MLP under TP.
    Ignores: dropout, router losses, sinks (one value per head).
    """
    yield setting.norm("attention_norm")
    match layer.attention:
        case Attention():
            yield from _grouped_attention(setting, layer.attention)
        case LatentAttention():
            yield from _latent_attention(setting, layer.attention)
    yield from setting.all_reduce("attention_all_reduce")
    if layer.norm_count > 2:
        yield setting.norm("attention_output_norm")
    yield setting.residual("attention_residual")
    if layer.norm_count > 1:
        yield setting.norm("mlp_norm")
    match layer.mlp:
        case Mlp():
            yield from _dense_mlp(setting, layer.mlp)
        case Moe():
            yield from _moe(setting, layer.mlp)
    yield from setting.all_reduce("mlp_all_reduce")
    if layer.norm_count > 3:
        yield setting.norm("mlp_output_norm")
    yield setting.residual("mlp_residual")


def embedding_rows(setting: Setting) -> Iterator[StepRow]:
    """The kernels before the first layer: token, position and segment tables, their projection and norm."""
    model = setting.model
    width = model.embedding_dim or model.hidden
    tables = 1.0 + bool(model.position_rows) + bool(model.token_type_rows)
    yield setting.pointwise("embedding", PointwiseKind.EMBEDDING, width, flop=tables - 1.0, read=tables)
    yield from setting.all_reduce("embedding_all_reduce")
    if width != model.hidden:
        yield setting.gemm("embedding_in_proj", model.hidden, width)
    if model.embedding_norm:
        yield setting.norm("embedding_norm")


def head_rows(setting: Setting) -> Iterator[StepRow]:
    """The kernels behind the last layer: final norm, LM head, gathering of logits, sampling; or a pooler."""
    model, tp = setting.model, setting.parallelism.tp
    width = model.embedding_dim or model.hidden
    if model.final_norm:
        yield setting.norm("final_norm")._replace(row=Row.SAMPLED if model.causal else Row.TOKEN)
    if model.pooler:
        yield setting.stream_gemm("pooler", model.hidden, model.hidden, bias=True, row=Row.SAMPLED)
    if not model.causal:
        return
    if width != model.hidden:
        yield setting.gemm("embedding_out_proj", width, model.hidden, row=Row.SAMPLED)
    share = float(ceil(model.vocabulary / tp))
    yield setting.stream_gemm("lm_head", share, width, bias=model.head_bias, row=Row.SAMPLED)
    if tp > 1:
        size = model.vocabulary * setting.stream_byte
        yield CollectiveRow("logits_all_gather", 0, CollectiveKind.ALL_GATHER, size, float(tp), Row.SAMPLED)
    yield setting.pointwise("sampling", PointwiseKind.SAMPLING, model.vocabulary, flop=6.0, write=0.0, row=Row.SAMPLED)


def stage_send_rows(setting: Setting) -> Iterator[StepRow]:
    """The hand-over of the residual stream to the next pipeline stage.

    Its group is the whole replica: once that is larger than a node, stages meet over the link between nodes.
    """
    size, spread = setting.model.hidden * setting.stream_byte, setting.parallelism
    yield CollectiveRow("stage_send", 0, CollectiveKind.POINT_TO_POINT, size, float(spread.tp * spread.pp))
