"""A request log beside its simulation, and the two constants of the host that make them meet.

The kernels are those of the device's calibration; what a step takes more is the host's: `step_s` per step, `sequence_s`
per sequence that generates in it. They are searched for with a simulation at every point (Hooke and Jeeves, Journal of
the ACM 8, 1961): a simulation jumps a little wherever a request just makes a step, which derivatives would follow.
"""

from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from numpy.typing import NDArray

from ..errors import RooflineError
from ..serving.engine import HostCost, KernelScale
from ..serving.replay import Traced, requests_of, rules_of, table_of
from ..serving.replica import StepTimes
from ..serving.simulation import Simulation, simulate
from ..serving.step import ServedModel
from ..structs import Array
from ..trace import RequestLog

FIRST_STEP = (2e-3, 0.25)
"""How far the search goes at first: in seconds that the host adds to a step of the mean number of sequences, and in the
share of them that grows with the sequences. (The data tell the sum far better than its parts.)
"""

LAST_STEP_S = 3e-5
"""The search ends below this: TPOT then moves by less than it varies by chance."""

_DIRECTIONS = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, -1), (1, -1), (-1, 1))

LEAST_REQUESTS = 8
"""Requests with more than one token below which two constants are not fitted."""


@dataclass(frozen=True, slots=True)
class LogErrors:
    """Errors of a simulation over some requests of a log, as fractions (predicted over measured, less 1)."""

    requests: int
    tpot_median_ape: float
    tpot_mape: float
    tpot_bias: float
    ttft_median_ape: float
    ttft_mean: float
    ttft_p50: float
    ttft_p95: float
    ttft_p99: float
    makespan: float


@dataclass(frozen=True, slots=True, eq=False)
class HostFit:
    """The engine's host with the two constants fitted, the simulation with it, and errors where fitted and beyond."""

    served: ServedModel
    simulation: Simulation
    fitted: LogErrors
    unseen: LogErrors

    @property
    def host(self) -> HostCost:
        """Seconds that the host adds."""
        return self.served.engine.host


def with_host(served: ServedModel, host: HostCost) -> ServedModel:
    """`served` under an engine with this host."""
    return replace(served, engine=replace(served.engine, host=host))


def simulated(served: ServedModel, log: RequestLog) -> Simulation:
    """The Simulation of the log's requests, as they came."""
    requests = requests_of(Traced(log.trace), served.engine.host)
    rules = rules_of(served, requests)
    return simulate(requests, rules, table_of(served, requests, rules), replicas=int(served.replicas))


def fit_host(served: ServedModel, log: RequestLog, fit_fraction: float = 0.5) -> HostFit:
    """The HostFit on TPOT of the first `fit_fraction` of the requests, judged on the others.

    All requests are simulated, as they came; the times of those not fitted are not looked at. Other host constants than
    the two are taken as zero: this log cannot tell them apart.
    Errors: RooflineError where too few requests have more than one token, or there are pipeline stages.
    """
    size = log.trace.size
    first = np.arange(size) < round(size * fit_fraction)
    rows = first & (log.trace.output_token > 1.0)
    if rows.sum() < LEAST_REQUESTS:
        raise RooflineError(
            f"log: {int(rows.sum())} requests with more than one token cannot determine two constants. "
            f"Accepted: {LEAST_REQUESTS} or more."
        )
    if served.layers.size > 1:
        raise RooflineError("log: host constants are fitted to replicas without pipeline stages. Leave out pp.")
    served = replace(served, engine=replace(served.engine, scale=KernelScale()))
    kernels = with_host(served, HostCost())
    requests = requests_of(Traced(log.trace), HostCost())
    rules, replicas = rules_of(served, requests), int(served.replicas)
    table = table_of(kernels, requests, rules)
    measured_s = log.tpot_s[rows]

    steps = simulate(requests, rules, table, replicas=replicas).steps
    beside = float(steps.decodes[steps.decodes > 0.0].mean())

    def host_of(added_s: float, share: float) -> HostCost:
        return HostCost(step_s=added_s * (1.0 - share), sequence_s=added_s * share / beside)

    @cache
    def misfit(added_s: float, share: float) -> float:
        run = simulate(requests, rules, _Hosted(table, host_of(added_s, share)), replicas=replicas)
        return float(np.square(np.log(run.tpot_s[rows] / measured_s)).mean())

    best, (step, tilt) = (0.0, 0.5), FIRST_STEP
    while step >= LAST_STEP_S:
        near = [(max(best[0] + i * step, 0.0), min(max(best[1] + j * tilt, 0.0), 1.0)) for i, j in _DIRECTIONS]
        found = min([best, *near], key=lambda at: misfit(*at))
        if found == best:
            step, tilt = step / 2.0, tilt / 2.0
        best = found
    final = with_host(served, host_of(*best))
    run = simulated(final, log)
    return HostFit(final, run, log_errors(run, log, first), log_errors(run, log, ~first))


@dataclass(frozen=True, slots=True, eq=False)
class _Hosted:
    """Step times of the kernels alone with a host's two constants on top."""

    kernels: StepTimes
    host: HostCost

    def decode_run_s(self, sequences: int, mean_context: float, steps: int) -> Array:
        """Seconds of `steps` decode steps on end."""
        return self.kernels.decode_run_s(sequences, mean_context, steps) + self._host_s(sequences)

    def step_s(
        self, prompt_token: int, prompt_context: float, prompts: int, decodes: int, decode_context: float
    ) -> float:
        """Seconds of one step with prompts in it."""
        kernel_s = self.kernels.step_s(prompt_token, prompt_context, prompts, decodes, decode_context)
        return kernel_s + self._host_s(decodes)

    def _host_s(self, sequences: int) -> float:
        return self.host.step_s + self.host.sequence_s * sequences


def log_errors(run: Simulation, log: RequestLog, rows: NDArray[np.bool_]) -> LogErrors:
    """The LogErrors over the requests of `rows` (a mask); the makespan is always that of all requests."""
    tpot = (run.tpot_s / log.tpot_s - 1.0)[rows]
    tpot = tpot[np.isfinite(tpot)]
    predicted, measured = run.ttft_s[rows], log.ttft_s[rows]
    p50, p95, p99 = (
        float(np.quantile(predicted, share) / np.quantile(measured, share) - 1.0) for share in (0.5, 0.95, 0.99)
    )
    return LogErrors(
        requests=int(np.sum(rows)),
        tpot_median_ape=float(np.median(np.abs(tpot))),
        tpot_mape=float(np.abs(tpot).mean()),
        tpot_bias=float(tpot.mean()),
        ttft_median_ape=float(np.median(np.abs(predicted / measured - 1.0))),
        ttft_mean=float(predicted.mean() / measured.mean() - 1.0),
        ttft_p50=p50,
        ttft_p95=p95,
        ttft_p99=p99,
        makespan=run.makespan_s / log.makespan_s - 1.0,
    )
