"""Parameters of one device for another: scaled by what the datasheets of both say."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ..device import Device
from ..structs import Dtype
from .calibration import Band, Fitted, Key, Parameters, formats_of
from .chip import chip_of
from .parameter import Scaling, facts_of, inner_parameters, value_of, with_values

LINK_SPAN = 1.5
"""How far the times of a protocol follow the bandwidth of the links: as far as that could be checked, from A100 to H100
and back. Beyond, it is software and clocks that set them: NCCL's tuner rates a message over PCIe 1.7 times one over
NVLink, at less than a ninth of its bandwidth (src/graph/tuning.cc: hwLat), and B200's messages are no shorter than
H100's.
"""


def transferred(models: Mapping[Key, Fitted], source: Device, target: Device) -> dict[Key, Fitted]:
    """The fits of `source` with parameters scaled to `target`; bands and evidence stay those of the source.

    Left out: formats that the target does not compute in natively, since its kernels are others there.
    """
    found = {}
    for key, fitted in models.items():
        dtype, _ = formats_of(key[1])
        if dtype in target.matrix_flop_per_s and dtype in source.matrix_flop_per_s:
            parameters = scaled(fitted.parameters, source, target, dtype)
            found[key] = replace(fitted, parameters=parameters, transferred_from=source.name)
    return found


def widened(fitted: Fitted, band: Band) -> Fitted:
    """A fit under another band; outside the measured sizes it widens as it did where it was fitted."""
    own = fitted.band

    def wider(ends: Mapping[str, tuple[float, float]]) -> dict[str, tuple[float, float]]:
        return {
            name: (float(band.low * min(low / own.low, 1.0)), float(band.high * max(high / own.high, 1.0)))
            for name, (low, high) in ends.items()
        }

    evidence = fitted.evidence
    evidence = replace(evidence, beyond=wider(evidence.beyond), below=wider(evidence.below))
    return replace(fitted, band=band, evidence=evidence)


def scaled(parameters: Parameters, source: Device, target: Device, dtype: Dtype) -> Parameters:
    """`parameters` of `source` for `target`, each as its Scaling says, within its bounds; those of a kernel that theirs
    hands work on to as well.
    """
    chips = chip_of(source, dtype), chip_of(target, dtype)
    unit = chips[1].flop_per_clock / chips[0].flop_per_clock
    links = source.intra_node, target.intra_node
    link = links[0].bandwidth_byte_per_s / links[1].bandwidth_byte_per_s if links[0] and links[1] else 1.0
    factor = {
        Scaling.PORTABLE: 1.0,
        Scaling.WITH_FLOP_PER_CLOCK: unit,
        Scaling.WITH_CLOCK: target.clock_hz / source.clock_hz,
        Scaling.AGAINST_LINK: min(max(link, 1.0 / LINK_SPAN), LINK_SPAN),
    }
    values = {
        name: min(max(value_of(parameters, name) * factor[facts.scaling], facts.low), facts.high)
        for name, facts in facts_of(type(parameters)).items()
    }
    others: dict[str, Any] = {
        name: scaled(inner, source, target, dtype) for name, inner in inner_parameters(parameters).items()
    }
    return replace(with_values(parameters, values), **others)
