"""The figures whose movement is asked for, and what changes are ranked by."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..capacity import largest_batch
from ..footprint import footprint
from ..outcome import Case, bound_index, outcome
from ..structs import Number
from ..timing import BOUNDS

Figures = Mapping[str, Number | None]
"""Value by key; None where there is none (no price, no decode step). Arrays where the case has arrays."""


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """What is computed of a case: its figures, the resource that binds decode (prefill, for encoders; an index into
    BOUNDS), US dollars per hour of all its devices (None without a price), and whether memory holds it.
    """

    figures: Figures
    bound: NDArray[np.intp]
    usd_per_hour: Number | None
    fits: NDArray[np.bool_]

    @property
    def bound_name(self) -> str:
        """The binding resource (scalar cases)."""
        return str(BOUNDS[int(self.bound)])


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure: its key (the unit ends it), a title for people, and whether less of it is better."""

    key: str
    title: str
    less_is_better: bool


STATIC = (
    Figure("ttft_s", "TTFT", True),
    Figure("tpot_s", "TPOT", True),
    Figure("output_token_per_s", "tokens/s", False),
    Figure("usd_per_mtok_input", "$/Mtok in", True),
    Figure("usd_per_mtok_output", "$/Mtok out", True),
    Figure("joule_per_output_token", "J/token", True),
)
"""Figures of a static batch; `max_batch` comes beside them, since it depends on memory alone."""

MAX_BATCH = Figure("max_batch", "max batch", False)

REQUEST_USD = Figure("usd_per_request", "cost of a request", True)
REQUEST_DEVICE_S = Figure("device_s_per_request", "device-seconds of a request", True)


def static_figures(case: Case) -> Measured:
    """The figures of a static batch, elementwise, with both costs of a request. Errors: as outcome."""
    found = outcome(case)
    written = found.output_cost
    hourly = (written or found.input_cost).usd_per_device_hour
    figures = {
        "ttft_s": found.ttft_s,
        "tpot_s": found.tpot_s,
        "output_token_per_s": found.output_token_per_s,
        "usd_per_mtok_input": found.input_cost.usd_per_mtok,
        "usd_per_mtok_output": None if written is None else written.usd_per_mtok,
        "joule_per_output_token": None if written is None else written.joule_per_token,
        REQUEST_USD.key: found.usd_per_request(case.scenario),
        REQUEST_DEVICE_S.key: found.device_s_per_request,
    }
    devices = case.scenario.parallelism.device_count
    return Measured(
        figures=figures,
        bound=bound_index(found.decode or found.prefill),
        usd_per_hour=None if hourly is None else hourly * devices,
        fits=np.asarray(footprint(case.model, case.device, case.scenario).free_byte >= 0.0),
    )


def largest_batch_of(case: Case) -> float:
    """Requests of the case's length that fit. Errors: InfeasibleError where the model cannot be split so."""
    return float(largest_batch(case.model, case.device, case.scenario))
