"""Hardware cost and roofline simulator for transformer workloads. Names load on first use: importing costs nothing."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .api import predict
    from .comparison import compare
    from .device import Device
    from .errors import InfeasibleError, RooflineError
    from .io.models import load_model, preset_names
    from .io.profiles import load_device, profile_names
    from .model import Model
    from .planner import Planned, plan
    from .prediction import Prediction
    from .report.comparison_record import comparison_record
    from .report.record import prediction_record
    from .sweep import decode_grid
    from .workload import Parallelism, Precision, Scenario

__version__ = "0.1.0"

_HOME = {
    "predict": ".api",
    "compare": ".comparison",
    "comparison_record": ".report.comparison_record",
    "Device": ".device",
    "InfeasibleError": ".errors",
    "RooflineError": ".errors",
    "load_model": ".io.models",
    "preset_names": ".io.models",
    "load_device": ".io.profiles",
    "profile_names": ".io.profiles",
    "Model": ".model",
    "Planned": ".planner",
    "plan": ".planner",
    "Prediction": ".prediction",
    "prediction_record": ".report.record",
    "decode_grid": ".sweep",
    "Parallelism": ".workload",
    "Precision": ".workload",
    "Scenario": ".workload",
}

__all__ = [
    "Device",
    "InfeasibleError",
    "Model",
    "Parallelism",
    "Planned",
    "Precision",
    "Prediction",
    "RooflineError",
    "Scenario",
    "compare",
    "comparison_record",
    "decode_grid",
    "load_device",
    "load_model",
    "plan",
    "predict",
    "prediction_record",
    "preset_names",
    "profile_names",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOME[name], __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
