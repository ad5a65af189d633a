"""Real requests through the simulator: a measured vLLM run beside its replay, and two published traces as workloads.

Prints how far the replay of LLMServingSim's vLLM run (300 requests, RTX PRO 6000, Llama-3.1-8B bf16) is from what was
measured: with the kernels alone, with the preset of the engine, and with two constants of the host fitted to the first
half of the requests; with and without scheduling a step ahead, and with attention of prompts and decodes as two
launches instead of one. Then how fast Vidur's two traces run, and what they come to on one H100.

Usage: ROOFLINE_DATA=../shared/data python benchmarks/replay.py
"""

import os
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from roofline.calibrate.request_log import LogErrors, fit_host, log_errors, simulated
from roofline.io.traces import read_request_log, read_trace
from roofline.serving.engine import HostCost, KernelScale
from roofline.serving.figures import figures_of
from roofline.serving.replay import Traced, requests_of, rules_of, table_of
from roofline.serving.simulation import simulate
from roofline.serving.step import ServedModel, served_model
from roofline.simulator import served_as_logged, served_case

DATA = Path(os.environ["ROOFLINE_DATA"])
LOG = DATA / "llmservingsim/bench/examples/RTXPRO6000/Llama-3.1-8B/vllm"
TRACES = DATA / "vidur/data/processed_traces"


def told(name: str, errors: LogErrors, host: HostCost) -> None:
    """One line of errors in percent."""
    print(
        f"  {name:34} TPOT {errors.tpot_median_ape:5.1%} / {errors.tpot_mape:5.1%}   TTFT mean {errors.ttft_mean:+6.1%}"
        f", p50 {errors.ttft_p50:+6.1%}, p95 {errors.ttft_p95:+6.1%}   makespan {errors.makespan:+6.1%}"
        f"   host {1e3 * host.step_s:.2f} ms + {1e6 * host.sequence_s:.1f} us a sequence"
    )


def log_replay() -> None:
    """The measured run beside its replays; errors on the second half of the requests."""
    log = read_request_log(LOG)
    case, served = served_as_logged(log, "rtx-pro-6000")
    late = np.arange(log.trace.size) >= log.trace.size // 2
    tpot_s, ttft_s = float(np.nanmean(log.tpot_s[late])), float(log.ttft_s[late].mean())
    print(f"{log.trace.size} requests; measured means of the second half: TPOT {tpot_s:.4f} s, TTFT {ttft_s:.3f} s")
    kernels = replace(served, engine=replace(served.engine, host=HostCost(), scale=KernelScale()))
    told("kernels alone", log_errors(simulated(kernels, log), log, late), HostCost())
    told("the engine's preset", log_errors(simulated(served, log), log, late), served.engine.host)
    two = {key: fit for key, fit in case.calibration.models.items() if key[0] != "mixed_attention"}
    apart = replace(case.calibration, models=two)
    variants: dict[str, ServedModel] = {
        "two constants fitted": served,
        "the same, not scheduled ahead": replace(served, engine=replace(served.engine, ahead=False)),
        "the same, two attention launches": served_model(case.model, case.device, apart, case.scenario, served.engine),
    }
    for name, variant in variants.items():
        found = fit_host(variant, log)
        told(name, found.unseen, found.host)


def trace_runs() -> None:
    """The two traces, whole."""
    _, served = served_case("llama-3.1-8b", "h100-sxm")
    for name in ("splitwise_code", "splitwise_conv"):
        trace = read_trace(TRACES / f"{name}.csv")
        start = time.perf_counter()
        requests = requests_of(Traced(trace), served.engine.host)
        rules = rules_of(served, requests)
        run = simulate(requests, rules, table_of(served, requests, rules))
        wall_s = time.perf_counter() - start
        figures = figures_of(run)
        print(
            f"{name}: {trace.size:,} requests at {trace.request_per_s:.2f}/s, simulated in {wall_s:.1f} s "
            f"({figures.steps:,} steps): TTFT {float(figures.ttft_s.mean):.3f} s, "
            f"p95 {float(figures.ttft_s.p95):.3f} s; {figures.output_token_per_s:,.0f} tokens/s; "
            f"busy {figures.utilisation:.0%}, KV at most {figures.kv_peak:.0%} full"
        )


if __name__ == "__main__":
    log_replay()
    trace_runs()
