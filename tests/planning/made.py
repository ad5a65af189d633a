"""A small request over devices and a model made by hand, quick to search."""

from dataclasses import replace
from typing import Any

import numpy as np

from roofline.economics import Citation, Rental, Site
from roofline.io.calibration import uncalibrated
from roofline.planning.request import Offer, PlanRequest, Pools, Rank, ServiceLevel
from roofline.planning.rows import COLUMNS, Rows
from roofline.serving.engine import HostCost, Limits
from roofline.serving.lengths import Fixed, Lengths
from roofline.workload import Precision

from ..builders import device, model
from ..serving.made import ENGINE

ENGINE = replace(
    ENGINE,
    host=HostCost(step_s=1e-4, sequence_s=1e-6),
    limits=Limits(max_batch_token=512.0, max_sequence=64.0, memory_fraction=0.9, reserve_byte=1e9),
)

SMALL = model()
"""Four layers of width 128: 128 · (128 · 2 + 64 · 2) attention, 3 · 128 · 256 MLP, 1024 · 128 twice."""


def offer(usd_per_hour: float | None = 3.6, *precisions: Precision, **changes: Any) -> Offer:
    """The test device at a price, with fields changed."""
    tariff = None if usd_per_hour is None else Rental(usd_per_hour)
    cited = None if usd_per_hour is None else Citation("made", "on-demand", f"{usd_per_hour} USD/h", "made", "")
    return Offer(device(**changes), uncalibrated(), precisions or (Precision(),), Site(tariff, cited))


def request(**changes: Any) -> PlanRequest:
    """50 requests/s of 256 tokens in, 32 out, on up to 4 test devices, within 100 ms and 10 ms."""
    base = PlanRequest(
        model=SMALL,
        rates=(50.0,),
        arrival_cv2=1.0,
        lengths=Lengths(Fixed(256.0), Fixed(32.0)),
        level=ServiceLevel(0.1, 0.01, 95.0),
        offers=(offer(),),
        engine=ENGINE,
        max_devices=4,
        max_sequences=(16, 64),
        max_batch_tokens=(128, 512),
        pools=(Pools.AGGREGATED,),
        rank=Rank.USD,
        top=10,
    )
    return replace(base, **changes)


def rows(**columns: list[float]) -> Rows:
    """Candidates with these columns; the others are those of a stable, quick plan on one device."""
    size = len(next(iter(columns.values())))
    usual = dict.fromkeys(COLUMNS, 1.0) | {"structure": 0.0, "ttft_s": 0.05, "tpot_s": 0.005, "load": 0.5}
    filled = {name: columns.get(name, [value] * size) for name, value in usual.items()}
    filled |= {f"held_{name}": filled[name] for name in ("ttft_s", "tpot_s", "load")}
    return Rows(*(np.array(filled[name], dtype=np.float64) for name in COLUMNS))
