"""The same work on several devices: a prediction for each, or the reason why there is none."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .api import predict, split_device
from .errors import RooflineError, clip
from .io.loaded import LoadedModel
from .io.models import load_model
from .io.profiles import load_target
from .prediction import Prediction

LARGEST = 64
"""Most devices of one comparison: what a reader can still tell apart."""


@dataclass(frozen=True, slots=True)
class Compared:
    """One device of a comparison as it was `asked` for: its prediction, or the `reason` why it has none ("" else)."""

    asked: str
    prediction: Prediction | None
    reason: str


def compare(model: str | Path | LoadedModel, devices: Sequence[str], **settings: Any) -> tuple[Compared, ...]:
    """The same scenario on every one of `devices` (each `NAME[:N]` or a TOML path), in that order.

    `settings` as `predict` takes them. A device that the scenario cannot be split over, or that lacks a number format,
    stays in the comparison with the reason; one on which the model does not fit has a prediction that says so.
    Errors: RooflineError for a model or device that is not known, a device given twice, none or over LARGEST of them;
    the first device's own error where no device has a prediction.
    """
    if not 1 <= len(devices) <= LARGEST:
        raise RooflineError(f"devices: {len(devices)} were given. Accepted: 1 to {LARGEST}.")
    if not all(devices):
        raise RooflineError("devices: an empty name is given. Accepted: names with commas between them.")
    twice = next((name for i, name in enumerate(devices) if name in devices[:i]), None)
    if twice is not None:
        raise RooflineError(f"devices: {clip(twice)} is given twice. Give each device once, or another number of it.")
    loaded = model if isinstance(model, LoadedModel) else load_model(str(model))
    for name in devices:
        load_target(split_device(name)[0])
    found, refused = [], []
    for name in devices:
        try:
            found.append(Compared(name, predict(loaded, name, **settings), ""))
        except RooflineError as error:
            refused.append(error)
            found.append(Compared(name, None, str(error)))
    if len(refused) == len(devices):
        raise refused[0]
    return tuple(found)
