"""A serving engine as numbers: how it schedules, what its host adds to a step, which limits it works under."""

from dataclasses import dataclass, field

from ..structs import Number
from ..timing import Band


@dataclass(frozen=True, slots=True)
class ChunkedPrefill:
    """Every step holds one token of each running sequence, and chunks of waiting prompts fill the rest of the budget.

    vLLM (V1) and TensorRT-LLM (in-flight batching). Source: Agrawal et al., Sarathi-Serve (arXiv 2403.02310).
    """


@dataclass(frozen=True, slots=True)
class PrefillFirst:
    """A step holds prompts alone as long as any waits (up to the budget), else one token of each running sequence.

    SGLang's default. Source: Zheng et al., SGLang (arXiv 2312.07104), and its scheduler's order of batches.
    """


Schedule = ChunkedPrefill | PrefillFirst


@dataclass(frozen=True, slots=True)
class HostCost:
    """Seconds that scheduler, launches, sampling and detokenisation add, seen from the device: what is not hidden.

    `step_s` per step and `layer_s` per layer of it; `sequence_s` per sequence that generates in it. A step with a
    prompt takes `prefill_step_s` and `prefill_layer_s` more (it is not replayed from a captured graph). `request_s`
    once per request and `prompt_token_s` per prompt token: front end and tokeniser, in TTFT alone.
    """

    step_s: float = 0.0
    layer_s: float = 0.0
    sequence_s: float = 0.0
    prefill_step_s: float = 0.0
    prefill_layer_s: float = 0.0
    request_s: float = 0.0
    prompt_token_s: float = 0.0


@dataclass(frozen=True, slots=True)
class KernelScale:
    """Time of a live step's kernels as a multiple of what the kernel models say, by family, in decode steps and for
    what prompts add to a step. 1: as the models say. Reasons for less: fusion (all-reduce with the norm), overlap.
    """

    prefill_gemm: float = 1.0
    decode_gemm: float = 1.0
    prefill_all_reduce: float = 1.0
    decode_all_reduce: float = 1.0
    prefill_attention: float = 1.0
    decode_attention: float = 1.0
    pointwise: float = 1.0


@dataclass(frozen=True, slots=True)
class Limits:
    """What a deployment is started with; numbers may be arrays (an axis of configurations).

    `max_batch_token`: token budget of a step. `max_sequence`: sequences that run at once. `memory_fraction`: share of
    the device's memory that the engine may fill. `reserve_byte`: what runtime, graphs and fragmentation take of it.
    """

    max_batch_token: Number = 8192.0
    max_sequence: Number = 256.0
    memory_fraction: Number = 0.9
    reserve_byte: Number = 4e9


@dataclass(frozen=True, slots=True)
class EngineEvidence:
    """What an engine's parameters rest on. Errors are absolute fractions of rows of model sets that were not fitted."""

    data: str = ""
    release: str = ""
    date: str = ""
    fitted_rows: int = 0
    unseen_rows: int = 0
    tpot_median_ape: float = 0.0
    tpot_mape: float = 0.0
    ttft_median_ape: float = 0.0
    ttft_mape: float = 0.0


@dataclass(frozen=True, slots=True)
class Engine:
    """A named serving engine.

    `backend`: whose kernels it runs (of a device's calibrations). `own_kernels`: families of which it brings kernels
    unlike those of other libraries; where its own were not measured, the datasheet says more than theirs.
    `reserved_output`: share of a request's output tokens whose KV blocks are set aside when it is admitted (0: blocks
    on demand). `prefill_wait`: mean time of a prompt until its first token in a closed loop of equal requests, in times
    of its own prefill: 1 if prompts never meet. `tpot_band`, `ttft_band`: multiples of the prediction between which
    four of five measurements lay. `ahead`: a step is scheduled while the one before runs, so a request waits for the
    rest of the running step and the whole next one.
    """

    name: str
    title: str
    release: str
    backend: str
    schedule: Schedule
    host: HostCost
    scale: KernelScale
    limits: Limits
    reserved_output: float
    prefill_wait: float
    own_kernels: tuple[str, ...]
    tpot_band: Band
    ttft_band: Band
    evidence: EngineEvidence = field(default_factory=EngineEvidence)
    assumptions: tuple[str, ...] = ()
    ahead: bool = False
