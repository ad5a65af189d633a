"""The TOML schema `roofline.engine/1`: every number of a serving engine is a Fact with its printed text and source."""

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field, model_validator

from .profile_schema import Count, Fact, Fraction, Latency, Line, Name, Table, within

SCHEMA = "roofline.engine/1"

Scale = Annotated[Fact, within("", 0.02, 50.0)]
Reserve = Annotated[Fact, within("B", 0.0, 1e12)]
Number = Annotated[float, Field(allow_inf_nan=False, ge=0.0)]


class HostTable(Table):
    """Seconds that the host adds: serving.engine.HostCost, without the unit in the name."""

    step: Latency
    layer: Latency
    sequence: Latency
    prefill_step: Latency
    prefill_layer: Latency
    request: Latency
    prompt_token: Latency


class ScaleTable(Table):
    """Kernel times of live steps as multiples of the models': serving.engine.KernelScale."""

    prefill_gemm: Scale
    decode_gemm: Scale
    prefill_all_reduce: Scale
    decode_all_reduce: Scale
    prefill_attention: Scale
    decode_attention: Scale
    pointwise: Scale


class LimitsTable(Table):
    """What the engine is started with where nothing else is said: serving.engine.Limits."""

    max_batch_token: Count
    max_sequence: Count
    memory_fraction: Fraction
    reserve: Reserve


class SchedulingTable(Table):
    """Facts of the scheduler: serving.engine.Engine."""

    order: Literal["chunked_prefill", "prefill_first"]
    order_source: Name
    own_kernels: tuple[Name, ...] = ()
    reserved_output: Fraction
    prefill_wait: Scale
    ahead: bool = False
    ahead_source: Name | None = None


class BandTable(Table):
    """Multiples of the prediction between which four of five measurements lay."""

    low: Number
    high: Number
    source: Line


class EvidenceTable(Table):
    """What the derived facts rest on, and the errors on rows of sets that were not fitted (fractions)."""

    data: Line
    release: Line
    date: Line
    fitted_rows: Annotated[int, Field(ge=0)]
    unseen_rows: Annotated[int, Field(ge=0)]
    tpot_median_ape: Number
    tpot_mape: Number
    ttft_median_ape: Number
    ttft_mape: Number


class EngineFile(Table):
    """An engine: the content of one file."""

    schema_: Annotated[Literal["roofline.engine/1"], Field(alias="schema")]
    name: Name
    title: Line
    release: Line
    backend: Name
    scheduling: SchedulingTable
    limits: LimitsTable
    host: HostTable
    scale: ScaleTable
    tpot_band: BandTable
    ttft_band: BandTable
    evidence: EvidenceTable | None = None
    sources: dict[Name, Line]

    @model_validator(mode="after")
    def _cited(self) -> "EngineFile":
        """Every cited source is in [sources], and every one there is cited."""
        cited = {self.scheduling.order_source, self.scheduling.ahead_source or self.scheduling.order_source}
        cited |= {fact.source for _, fact in self.facts()}
        missing, unused = sorted(cited - set(self.sources)), sorted(set(self.sources) - cited)
        problems = [f"sources: {name!r} is cited and not there; add it" for name in missing]
        problems += [f"sources.{name}: no fact cites it; remove it or cite it" for name in unused]
        if problems:
            raise ValueError("\n".join(problems))
        return self

    def facts(self) -> Iterator[tuple[str, Fact]]:
        """Every fact with its field path."""
        for table in ("scheduling", "limits", "host", "scale"):
            for name, value in getattr(self, table):
                if isinstance(value, Fact):
                    yield f"{table}.{name}", value
