"""The Python face: names, paths and plain numbers in, one Prediction out."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from .device import Device
from .errors import InfeasibleError, RooflineError, clip, unknown
from .io.calibration import load_calibration
from .io.loaded import LoadedModel
from .io.models import load_model
from .io.prices import load_site
from .io.profiles import Target, load_target
from .outcome import Case
from .prediction import Prediction, predict_case
from .service_settings import SETTINGS, asked_of, backend_of, is_asked
from .structs import Dtype
from .workload import AttentionKind, Parallelism, Precision, Scenario

LARGEST = 2**40
"""Largest number that a scenario may hold: beyond any deployment."""


def parse_dtype(field: str, value: str) -> Dtype:
    """A number format by name. Errors: RooflineError with the formats and the nearest match."""
    stored = {str(dtype): dtype for dtype in Dtype if dtype is not Dtype.TF32}  # tf32 is how fp32 is multiplied
    if (name := str(value).lower()) not in stored:
        raise unknown(field, str(value), list(stored))
    return stored[name]


def whole(field: str, value: object) -> int:
    """`value` as a whole number from 1 on. Errors: RooflineError naming `field`."""
    number = value if isinstance(value, int | float | np.integer) and not isinstance(value, bool) else 0
    if 1 <= number <= LARGEST and number % 1 == 0:
        return int(number)
    raise RooflineError(f"{field}: {clip(value)} is not accepted. Accepted: whole numbers from 1 to {LARGEST:,}.")


def parse_attention(value: str) -> AttentionKind:
    """How attention is executed. Errors: RooflineError with what is accepted."""
    try:
        return AttentionKind(value.lower())
    except ValueError:
        raise unknown("attention", value, [str(kind) for kind in AttentionKind]) from None


_WIDE_FORMATS = (Dtype.BF16, Dtype.FP16, Dtype.FP32)
"""Formats that unquantised models run in, the usual one first."""


def split_device(text: str) -> tuple[str, int | None]:
    """`NAME[:N]` as a name or path and a device count. Errors: RooflineError where N is no whole number from 1 on."""
    name, colon, count = text.rpartition(":")
    if not colon or "/" in count or "\\" in count:
        return text, None
    if not count.isascii() or not count.isdigit() or not 1 <= int(count[:20]) <= LARGEST:
        raise RooflineError(f"device: the count in {clip(text)} must be a whole number from 1 on, as in h100-sxm:8.")
    return name, int(count)


def precision_of(
    loaded: LoadedModel,
    device: Device,
    weights: str | None = None,
    activations: str | None = None,
    kv: str | None = None,
) -> Precision:
    """The formats asked for. Where nothing is said:

    weights as the model is published, in the device's own 16-bit format where that differs (V100: fp16) and in int8 on
    boards that compute in nothing wider; activations in fp8 with fp8 weights on a device that computes in fp8 (as
    engines run such checkpoints), otherwise in the device's own format, and so is the cache.
    """
    own = next((dtype for dtype in _WIDE_FORMATS if dtype in device.matrix_flop_per_s), Dtype.INT8)

    def published(dtype: Dtype | None) -> Dtype:
        return own if dtype is None or (dtype in _WIDE_FORMATS and dtype not in device.matrix_flop_per_s) else dtype

    stored = parse_dtype("weights", weights) if weights else published(loaded.weight_dtype)
    experts = stored if weights or loaded.expert_dtype is None else published(loaded.expert_dtype)
    computed = stored if stored in _WIDE_FORMATS and stored in device.matrix_flop_per_s else own
    native = Dtype.FP8 if stored is Dtype.FP8 and Dtype.FP8 in device.matrix_flop_per_s else computed
    return Precision(
        weights=stored,
        experts=experts,
        activations=parse_dtype("activations", activations) if activations else native,
        kv=parse_dtype("kv", kv) if kv else computed,
        floor=own,
    )


def parallelism_of(device_count: int | None, tp: int | None, pp: int, ep: int, dp: int) -> Parallelism:
    """The split asked for; TP takes the devices that PP and DP leave.

    Errors: RooflineError where one is no whole number from 1 on, or the product is not the number of devices given.
    """
    pp, ep, dp = whole("pp", pp), whole("ep", ep), whole("dp", dp)
    rest = pp * dp
    if tp is None:
        if (device_count or rest) % rest:
            raise RooflineError(f"pp, dp: {pp} x {dp} does not divide {device_count} devices. Give DEVICE:{rest}.")
        tp = (device_count or rest) // rest
    tp = whole("tp", tp)
    if device_count is not None and tp * rest != device_count:
        raise RooflineError(
            f"tp, pp, dp: {tp} x {pp} x {dp} = {tp * rest} devices, but {device_count} were given. "
            f"Give DEVICE:{tp * rest}, or change one of them."
        )
    return Parallelism(tp, pp, ep, dp)


def case_of(
    model: str | Path | LoadedModel,
    device: str | Target,
    *,
    batch: int = 32,
    input: int = 2048,
    output: int = 256,
    tp: int | None = None,
    pp: int = 1,
    ep: int = 1,
    dp: int = 1,
    weights: str | None = None,
    activations: str | None = None,
    kv: str | None = None,
    attention: str | None = "fused",
    backend: str | None = None,
    prices: str | None = None,
    price_kind: str | None = None,
    pue: str | float | None = None,
    grid: str | float | None = None,
) -> Case:
    """The Case for `model` (a preset, or a path to a config.json) on `device` (`NAME[:N]`, or a TOML path).

    `batch` requests in flight, each with `input` prompt and `output` generated tokens. Without `tp`, the devices that
    `pp` and `dp` leave. Without `weights`, the format in which the model is published (bf16 where that is unknown);
    `precision_of` says what holds for the other formats. `backend`: the library whose kernels run, one that the device
    is calibrated for (io.calibration.backends_of); without it, the profile's default. `prices` (the name or path of a
    price file), `price_kind`, `pue` and `grid` as io.prices.load_site takes them; without, the price that the profile
    states.
    Errors: RooflineError for anything not understood, InfeasibleError where the shapes do not divide.
    """
    loaded = model if isinstance(model, LoadedModel) else load_model(str(model))
    name, count = split_device(device) if isinstance(device, str) else (device, None)
    target = name if isinstance(name, Target) else load_target(name)
    scenario = Scenario(
        batch=whole("batch", batch),
        input_token=whole("input", input),
        output_token=whole("output", output),
        precision=precision_of(loaded, target.device, weights, activations, kv),
        parallelism=parallelism_of(count, tp, pp, ep, dp),
        attention=parse_attention(attention or "fused"),
    )
    site = load_site(target.device, prices, price_kind, pue, grid)
    return Case(loaded.model, target.device, load_calibration(target, backend), scenario, site)


def predict(
    model: str | Path | LoadedModel,
    device: str | Target,
    *,
    concurrency: int | None = None,
    rate: float | None = None,
    cv: float | None = None,
    input_cv: float | None = None,
    output_cv: float | None = None,
    engine: str | None = None,
    max_batch_tokens: int | None = None,
    max_sequences: int | None = None,
    prefix_hit: float | None = None,
    disaggregated: str | None = None,
    draft_tokens: int | None = None,
    acceptance: float | None = None,
    draft: str | None = None,
    **settings: Any,
) -> Prediction:
    """The Prediction for `model` on `device`; `settings` as case_of takes them (batch, input, output, tp, weights, …).

    With `concurrency` (clients, each sending its next request when the last is answered) or `rate` (requests per
    second, `cv` the coefficient of variation of the times between them), `serving` has the steady state under that
    traffic: on `engine` (vllm, sglang, trtllm or a .toml), under its limits or `max_batch_tokens` and `max_sequences`;
    lengths vary by `input_cv` and `output_cv`; `prefix_hit` of the prompt tokens are cached; `disaggregated` as in
    "2P4D"; `draft_tokens` per step by the model `draft` (None: at no cost), each accepted with `acceptance`.
    Errors: RooflineError for anything not understood, InfeasibleError where the shapes do not divide or memory does
    not hold one request.
    """
    given = {name: value for name, value in locals().items() if name in SETTINGS}
    if not is_asked(given):
        return predict_case(case_of(model, device, **settings))
    from .serving.deployed import service_of  # what a plain prediction does without

    name, count = split_device(device) if isinstance(device, str) else (device, None)
    target = name if isinstance(name, Target) else load_target(name)
    asked = asked_of(given, target)
    backend = backend_of(asked, target, settings.get("backend"))
    spread = settings if asked.pools is None else _pooled(settings, count, sum(asked.pools))
    case = case_of(model, device, **{**spread, "backend": backend})
    service = service_of(case.model, case.device, case.calibration, case.scenario, asked)
    return replace(predict_case(case), serving=service, not_modelled=SERVED_NOT_MODELLED)


SERVED_NOT_MODELLED = (
    "power and clock throttling: energy is at rated power, an upper bound",
    "preemption and recomputation when the KV cache runs full",
    "imbalance of experts, of replicas, and of lengths that go together",
    "front ends that cannot keep up with the devices",
    "conversion of quantised weights",
    "LoRA",
)
"""What a prediction under traffic leaves out."""


def _pooled(settings: Mapping[str, Any], count: int | None, replicas: int) -> dict[str, Any]:
    """`settings` with a replica for each of two pools' members.

    Errors: RooflineError where the devices do not divide so, or flags contradict each other.
    """
    if settings.get("dp") not in (None, 1, replicas):
        raise RooflineError(
            f"dp, disaggregated: {settings['dp']} replicas contradict {replicas} in two pools. Leave --dp out."
        )
    worker = whole("pp", settings.get("pp") or 1) * whole("tp", settings.get("tp") or 1)
    if count is not None and count % replicas:
        raise RooflineError(
            f"disaggregated: {count} devices do not divide by the {replicas} replicas of both pools. Give "
            f"DEVICE:{worker * replicas}, or other pools."
        )
    return {**settings, "dp": replicas}


def predict_each(
    model: str,
    device: str,
    numbers: Mapping[str, Sequence[int | None]],
    names: Mapping[str, str | None],
    service: Mapping[str, Any] | None = None,
) -> Iterator[Prediction | InfeasibleError]:
    """One Prediction for every combination of the lists in `numbers` (the numeric arguments of `predict`), in order.

    `service`: the settings of a service under traffic that `predict` takes, the same for all.
    A combination that the model or the device does not allow gives the InfeasibleError instead: the others still count.
    """
    loaded = load_model(model)
    for values in product(*numbers.values()):
        settings: dict[str, Any] = {**dict(zip(numbers, values, strict=True)), **names, **(service or {})}
        try:
            yield predict(loaded, device, **settings)
        except InfeasibleError as error:
            yield error
