"""The static part of a step: every kernel of a model on the devices of one replica, grouped for evaluation."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import chain, pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import InfeasibleError
from ..kernels import Attended, KernelGroup
from ..kernels.attention import (
    AttentionShape,
    FusedAttention,
    MixedAttention,
    UnfusedAttention,
    WholeLatentAttention,
)
from ..kernels.collective import Collective
from ..kernels.gemm import Gemm
from ..kernels.moe import ExpertGemm, ExpertLayer
from ..kernels.pointwise import Pointwise, PointwiseKind
from ..model import Attention, Layer, Mlp, Model, Moe
from ..structs import Array, Number
from ..workload import AttentionKind, Batch, Parallelism, Precision, Sequences
from .layer import LatentForm, Setting, embedding_rows, head_rows, layer_rows, stage_send_rows
from .rows import (
    AttentionRow,
    CollectiveRow,
    ExpertLayerRow,
    ExpertRow,
    GemmRow,
    LatentRow,
    PointwiseRow,
    Row,
    StepRow,
)


class Counted(NamedTuple):
    """A row, its position in the step, and how often a device of each pipeline stage executes it."""

    row: StepRow
    order: int
    per_stage: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Template:
    """Rows of one family and format: their static shapes as arrays, last axis over kernels."""

    names: tuple[str, ...]
    order: tuple[int, ...]
    count: Array
    sample: StepRow
    shape: dict[str, Array]
    row_index: NDArray[np.intp]
    attended: bool
    kinds: tuple[PointwiseKind, ...]

    @property
    def varies_with_context(self) -> bool:
        """Whether its times depend on how much of the sequences is cached."""
        return self.attended or isinstance(self.sample, AttentionRow | LatentRow)

    def only(self, chosen: NDArray[np.bool_]) -> "Template":
        """Those of its rows for which `chosen` holds."""
        index = np.flatnonzero(chosen)
        return replace(
            self,
            names=tuple(self.names[i] for i in index),
            order=tuple(self.order[i] for i in index),
            count=self.count[:, index],
            shape={name: values[index] for name, values in self.shape.items()},
            row_index=self.row_index[index],
            kinds=tuple(kind for kind, kept in zip(self.kinds, chosen, strict=False) if kept),
        )


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """Everything of a step that does not depend on the batch: kernels outside attention, which the batch's rows alone
    decide, and those whose times vary with how much is cached.
    """

    setting: Setting
    row_templates: tuple[Template, ...]
    context_templates: tuple[Template, ...] = ()

    @property
    def templates(self) -> tuple[Template, ...]:
        """All of them."""
        return self.row_templates + self.context_templates

    def split_by_row(self) -> tuple["Plan", "Plan"]:
        """The kernels outside attention that run over new tokens, and those that run over sampled sequences."""
        rows = self.row_templates
        sampled = [template.row_index == BATCH_ROWS.index(Row.SAMPLED) for template in rows]
        body = tuple(template.only(~chosen) for template, chosen in zip(rows, sampled, strict=True) if not chosen.all())
        head = tuple(template.only(chosen) for template, chosen in zip(rows, sampled, strict=True) if chosen.any())
        return Plan(self.setting, body), Plan(self.setting, head)

    def step(self, batch: Batch) -> tuple[KernelGroup, ...]:
        """The kernels of one step over `batch`, on the devices of one replica.

        Numbers in `batch` may be arrays that broadcast against each other; what does not depend on an axis is
        computed once along it.
        """
        return self.row_groups(*row_counts(batch)) + self.context_groups(batch)

    def row_groups(self, token: Number, sampled: Number) -> tuple[KernelGroup, ...]:
        """The kernels that depend on the batch's new tokens and sampled sequences alone, whatever they attend to."""
        shape = np.broadcast_shapes(np.shape(token), np.shape(sampled))
        rows = np.empty((*shape, len(BATCH_ROWS)))
        pooled = token * self.setting.parallelism.expert_replicas
        rows[..., 0], rows[..., 1], rows[..., 2] = token, sampled, pooled
        return tuple(
            _group(template, _row_work(template, rows[..., template.row_index])) for template in self.row_templates
        )

    def context_groups(self, batch: Batch) -> tuple[KernelGroup, ...]:
        """The kernels that depend on how much of the sequences is cached: attention, and what expands MLA's latents."""
        groups = []
        for template in self.context_templates:
            if isinstance(template.sample, AttentionRow) and _shares_a_step(template.sample, batch):
                groups.append(_group(template, MixedAttention(*(_attention_shape(template, part) for part in batch))))
            elif isinstance(template.sample, AttentionRow | LatentRow):
                groups += [
                    _group(template, _attention_work(template, part), f"[{i}]" if len(batch) > 1 else "")
                    for i, part in enumerate(batch)
                ]
            else:
                attended: Number = sum(part.count * (part.context + part.new_token) for part in batch)
                groups.append(_group(template, _row_work(template, np.asarray(attended, dtype=np.float64)[..., None])))
        return tuple(groups)


def stage_layers(model: Model, stages: int) -> tuple[tuple[Layer, ...], ...]:
    """The layers of each pipeline stage: contiguous, as even as possible, the first stages one more."""
    share, extra = divmod(len(model.layers), stages)
    ends = [share * i + min(i, extra) for i in range(stages + 1)]
    return tuple(model.layers[a:b] for a, b in pairwise(ends))


def check_parallelism(model: Model, spread: Parallelism) -> None:
    """Refuses a split that the model's shapes do not allow. Errors: InfeasibleError naming what does not divide."""

    def divides(flag: str, parts: int, what: str, whole: float) -> None:
        if whole % parts:
            options = ", ".join(str(n) for n in (1, 2, 4, 8, 16, 32, 64) if whole % n == 0)
            raise InfeasibleError(
                f"{flag}: {parts} does not divide the {whole:.0f} {what} of {model.name}. Accepted, e.g.: {options}."
            )

    if spread.ep > 1 and not any(isinstance(layer.mlp, Moe) for layer in model.layers):
        raise InfeasibleError(f"ep: {model.name} has no experts to spread over {spread.ep} ranks. Use ep 1.")
    if spread.pp > len(model.layers):
        raise InfeasibleError(f"pp: {spread.pp} stages for {len(model.layers)} layers. Use at most one stage a layer.")
    for layer in set(model.layers):
        divides("tp", spread.tp, "attention heads", layer.attention.heads)
        if isinstance(layer.attention, Attention):
            kv_heads = int(layer.attention.kv_heads)
            if max(kv_heads, spread.tp) % min(kv_heads, spread.tp):
                raise InfeasibleError(
                    f"tp: {spread.tp} neither divides nor is a multiple of the {kv_heads} KV heads of {model.name}."
                )
        match layer.mlp:
            case Mlp():
                divides("tp", spread.tp, "MLP columns", layer.mlp.width)
            case Moe():
                divides("ep", spread.ep, "experts", layer.mlp.experts)
                divides("tp/ep", spread.expert_tp, "expert columns", layer.mlp.width)
                divides("tp", spread.tp, "shared-expert columns", layer.mlp.shared * layer.mlp.shared_width)
    if max(spread.tp, spread.ep) % min(spread.tp, spread.ep) or spread.dp % spread.expert_replicas:
        raise InfeasibleError(
            f"ep: {spread.ep} must divide tp ({spread.tp}), or be tp times a divisor of dp ({spread.dp})."
        )


@lru_cache(maxsize=256)
def plan(
    model: Model, parallelism: Parallelism, precision: Precision, attention: AttentionKind, latent: LatentForm
) -> Plan:
    """The Plan of `model` under a setting. Pure, so remembered. Errors: InfeasibleError where shapes do not divide."""
    check_parallelism(model, parallelism)
    setting = Setting(model, parallelism, precision, attention, latent)
    templates = [_template(rows) for rows in _families(_counted_rows(setting))]
    varying = tuple(template for template in templates if template.varies_with_context)
    return Plan(setting, tuple(template for template in templates if not template.varies_with_context), varying)


def _counted_rows(setting: Setting) -> list[Counted]:
    """Every distinct row of the model; equal rows of different layers are merged, their counts added."""
    model, stages = setting.model, setting.parallelism.pp
    kinds = tuple(dict.fromkeys(model.layers))
    layers = [Counter(stage) for stage in stage_layers(model, stages)]
    first = tuple(float(stage == 0) for stage in range(stages))
    last = first[::-1]
    parts = chain(
        ((row, first) for row in embedding_rows(setting)),
        ((row, tuple(float(s[kind]) for s in layers)) for kind in kinds for row in layer_rows(setting, kind)),
        ((row, tuple(1.0 - end for end in last)) for row in stage_send_rows(setting) if stages > 1),
        ((row, last) for row in head_rows(setting)),
    )
    total: dict[StepRow, list[float]] = {}
    for row, count in parts:
        known = total.setdefault(row, [0.0] * stages)
        total[row] = [a + b for a, b in zip(known, count, strict=True)]
    return [Counted(row, order, tuple(count)) for order, (row, count) in enumerate(total.items())]


def _families(rows: Sequence[Counted]) -> Iterable[list[Counted]]:
    """Rows grouped by what decides their formula: family, formats, and whether they vary with the context."""
    groups: dict[tuple[Any, ...], list[Counted]] = {}
    for counted in rows:
        groups.setdefault((type(counted.row), *_structure(counted.row)), []).append(counted)
    return groups.values()


def _structure(row: StepRow) -> tuple[Any, ...]:
    match row:
        case GemmRow():
            return row.row is Row.ATTENDED, row.weight, row.activation, row.output
        case ExpertRow() | ExpertLayerRow():
            return row.weight, row.activation, row.output
        case AttentionRow():
            return row.query, row.cache, row.causal, row.latent, row.step
        case LatentRow():
            return row.weight, row.query, row.cache
        case PointwiseRow():
            return ()
        case CollectiveRow():
            return (row.kind,)


def _template(rows: Sequence[Counted]) -> Template:
    sample = rows[0].row
    kinds = [getattr(counted.row, "row", Row.POOLED) for counted in rows]  # experts serve the pooled tokens
    shape = {
        name: np.array([getattr(counted.row, name) for counted in rows], dtype=np.float64)
        for name, value in zip(sample._fields, sample, strict=True)
        if type(value) is float
    }
    return Template(
        names=tuple(counted.row.name for counted in rows),
        order=tuple(counted.order for counted in rows),
        count=np.array([counted.per_stage for counted in rows]).T,
        sample=sample,
        shape=shape,
        row_index=np.array([BATCH_ROWS.index(kind) if kind in BATCH_ROWS else 0 for kind in kinds]),
        attended=Row.ATTENDED in kinds,
        kinds=tuple(counted.row.kind for counted in rows if isinstance(counted.row, PointwiseRow)),
    )


BATCH_ROWS = (Row.TOKEN, Row.SAMPLED, Row.POOLED)
"""Row counts that depend on the batch alone, not on how much of the sequences is cached."""


def row_counts(batch: Batch) -> tuple[Number, Number]:
    """New tokens of `batch`, and sequences whose logits are needed."""
    return sum(part.count * part.new_token for part in batch), sum(part.sampled for part in batch)


def _group(template: Template, work: Any, suffix: str = "") -> KernelGroup:
    names = tuple(f"{name}{suffix}" for name in template.names) if suffix else template.names
    return KernelGroup(names, template.order, template.count, work)


def _shares_a_step(row: AttentionRow, batch: Batch) -> bool:
    """Whether fused attention runs over prompts, then decodes."""
    return row.step is None and not row.latent and tuple(part.decoding for part in batch) == (False, True)


def _sizes(part: Sequences) -> tuple[Array, Array, Array]:
    """Sequences, new tokens and context with an axis for kernels."""
    count, new_token, context = (
        np.asarray(size, dtype=np.float64)[..., None] for size in (part.count, part.new_token, part.context)
    )
    return count, new_token, context


def _attention_shape(template: Template, part: Sequences) -> AttentionShape:
    row = template.sample
    assert isinstance(row, AttentionRow)
    return AttentionShape(*_sizes(part), query=row.query, cache=row.cache, causal=row.causal, **template.shape)


def _attention_work(template: Template, part: Sequences) -> Attended:
    row = template.sample
    if isinstance(row, LatentRow):
        return WholeLatentAttention(
            *_sizes(part),
            weight=row.weight,
            query=row.query,
            cache=row.cache,
            decoding=part.decoding,
            **template.shape,
        )
    assert isinstance(row, AttentionRow)
    shape = _attention_shape(template, part)
    return FusedAttention(shape, part.decoding, row.latent) if row.step is None else UnfusedAttention(shape, row.step)


def _row_work(template: Template, count: Array) -> Gemm | ExpertGemm | ExpertLayer | Pointwise | Collective:
    row, shape = template.sample, template.shape
    match row:
        case GemmRow():
            return Gemm(m=count, weight=row.weight, activation=row.activation, output=row.output, **shape)
        case ExpertRow():
            return ExpertGemm(token=count, weight=row.weight, activation=row.activation, output=row.output, **shape)
        case ExpertLayerRow():
            return ExpertLayer(token=count, weight=row.weight, activation=row.activation, output=row.output, **shape)
        case PointwiseRow():
            return Pointwise(row=count, kinds=template.kinds, **shape)
        case CollectiveRow():
            return Collective(kind=row.kind, row=count, **shape)
        case AttentionRow() | LatentRow():
            raise TypeError("attention rows take the shape of their sequences, not a row count")
