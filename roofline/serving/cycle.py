"""One replica whose slots are always taken: how long its requests take, in closed form; elementwise.

With D the decode step at the running batch, L the prompt tokens that no cache holds, k = max(L / chunk, 1) the steps
that a prompt takes, X what its chunks add to k steps (weights are read once), P = k·D + X, n the output tokens behind
the first, and B the sequences that run:

    TPOT        t = D + (B - 1) · X · t / T       the other sequences bring (B - 1) prompts while one runs
    slot time   T = S + n·t                       S: from admission to the first token
    throughput  B / T

which is a quadratic in t. Where prompts alone fill every step, T = B·P (one prompt after another) and S follows.
Engines that put prompts first stop all decodes for them: X = P of a step of prompts alone.

Source: Little's law; Agrawal et al., Sarathi-Serve (arXiv 2403.02310) on chunked prefill.
"""

from dataclasses import dataclass

import numpy as np

from ..structs import Array, Number
from .engine import ChunkedPrefill, PrefillFirst
from .lengths import Lengths
from .step import ServedModel

ROUNDS = 4
"""Repetitions of the fixed point in the decoding sequences: they move by less than 1 % after three."""


@dataclass(frozen=True, slots=True)
class Speculation:
    """Speculative decoding: `draft_token` tokens are drafted and verified in one step.

    `acceptance`: probability that a drafted token is accepted, given that those before it were. `draft`: the model that
    drafts, on the same devices (None: drafting costs nothing, as n-gram lookup). A step yields
    (1 - acceptance^(draft_token + 1)) / (1 - acceptance) tokens (Leviathan et al., arXiv 2211.17192, equation 1).
    """

    draft_token: Number
    acceptance: Number
    draft: ServedModel | None = None

    @property
    def token_per_step(self) -> Number:
        """Expected tokens of one verification: the accepted ones and the one that the step itself gives."""
        share = np.minimum(np.asarray(self.acceptance, dtype=np.float64), 1.0 - 1e-9)
        return (1.0 - share ** (self.draft_token + 1.0)) / (1.0 - share)


NO_SPECULATION = Speculation(0.0, 0.0)


@dataclass(frozen=True, slots=True, eq=False)
class Load:
    """What requests are, per configuration: `prompt` tokens to prefill behind `cached` ones, `steps` decode steps."""

    served: ServedModel
    prompt: Array
    cached: Array
    steps: Array
    context: Array
    budget: Array
    prompt_cv2: Array
    output_cv2: Array
    output: Array
    speculation: Speculation


def load_of(served: ServedModel, lengths: Lengths, prefix_hit: Number, speculation: Speculation) -> Load:
    """The Load of requests of such lengths; `prefix_hit`: share of prompt tokens that the prefix cache holds."""
    prompt, output = np.float64(1.0) * lengths.prompt.mean, np.maximum(lengths.output.mean, 1.0)
    return Load(
        served=served,
        prompt=np.maximum(np.asarray(prompt * (1.0 - prefix_hit)), 1.0),
        cached=np.asarray(prompt * prefix_hit),
        steps=np.asarray((output - 1.0) / speculation.token_per_step),
        context=np.asarray(prompt + output * (1.0 + lengths.output.cv2) / 2.0),
        budget=np.asarray(served.engine.limits.max_batch_token, dtype=np.float64),
        prompt_cv2=np.asarray(lengths.prompt.cv2),
        output_cv2=np.asarray(lengths.output.cv2),
        output=np.asarray(output),
        speculation=speculation,
    )


@dataclass(frozen=True, slots=True, eq=False)
class Costs:
    """Seconds at one load: decode step, what a prompt adds, a prompt beside the decodes, a prompt alone.

    `chunks`: steps of one prompt. `group`: prompts that share a step, each paying its share.
    """

    decode_s: Array
    host_s: Array
    added_s: Array
    beside_s: Array
    alone_s: Array
    chunks: Array
    group: Array


def costs_of(load: Load, decoding: Array, waiting: Number = 1.0) -> Costs:
    """The Costs with `decoding` sequences generating (at least one) and `waiting` prompts there to share a step."""
    served, one = load.served, np.maximum(decoding, 1.0)
    draft = load.speculation
    step = served.decode_step_s(one, load.context, 1.0 + draft.draft_token)
    decode_s = step.total_s
    if draft.draft is not None:
        decode_s = decode_s + draft.draft_token * draft.draft.decode_step_s(one, load.context).total_s
    match served.engine.schedule:
        case ChunkedPrefill():
            room = np.maximum(load.budget - one * (1.0 + draft.draft_token), 1.0)
        case PrefillFirst():
            room = load.budget
    chunks = np.maximum(load.prompt / room, 1.0)
    group = np.clip(np.floor(room / load.prompt), 1.0, np.maximum(waiting, 1.0))
    chunk = load.prompt / chunks
    behind = load.cached + 0.5 * (load.prompt - chunk)
    alone_s = chunks * served.prefill_step_s(chunk, behind, group).total_s / group
    match served.engine.schedule:
        case ChunkedPrefill():
            plain = step if draft is NO_SPECULATION else served.decode_step_s(one, load.context)
            mixed = served.mixed_step_s(chunk, behind, group, one, load.context)
            added_s = chunks * np.maximum(mixed.total_s - plain.total_s, 0.0) / group
            beside_s = chunks * decode_s + added_s
        case PrefillFirst():
            added_s = beside_s = alone_s
    return Costs(decode_s, step.host_s, added_s, beside_s, alone_s, chunks, group)


@dataclass(frozen=True, slots=True, eq=False)
class Cycle:
    """A replica with `running` slots taken all the time: times of one request, and requests per second."""

    costs: Costs
    tpot_s: Array
    service_s: Array
    slot_s: Array
    decoding: Array
    request_per_s: Array


def cycle_of(load: Load, running: Array) -> Cycle:
    """The Cycle of `running` sequences."""
    match load.served.engine.schedule:
        case ChunkedPrefill():
            return _apart(load, running)
        case PrefillFirst():
            apart, waves = _apart(load, running), _in_waves(load, running)
            return _mixture(apart, waves, in_step(load, waves.costs), running)


def _apart(load: Load, running: Array) -> Cycle:
    """Requests out of step with each other: a finished one is replaced at once.

    The fixed point in how many sequences are past their prompt.
    """
    decoding, busy = running, 0.0 * running
    for _ in range(ROUNDS):
        costs = costs_of(load, decoding)
        others_s = np.maximum(running - 1.0, 0.0) * costs.added_s
        service_s = _until_token_s(load, costs, running, busy)
        # n·t² + (S - n·D - others)·t - D·S = 0
        linear = service_s - load.steps * costs.decode_s - others_s
        square = np.maximum(load.steps, 1e-9)
        free_s = (-linear + np.sqrt(linear**2 + 4.0 * square * costs.decode_s * service_s)) / (2.0 * square)
        unhindered_s = service_s + load.steps * free_s
        slot_s = np.maximum(unhindered_s, _prefill_floor_s(load, costs, running))
        crowded_s = costs.decode_s / np.maximum(1.0 - others_s / slot_s, 1e-9)
        tpot_s = np.where(slot_s > unhindered_s, crowded_s, free_s)
        decoding = running * load.steps * tpot_s / slot_s
        busy = np.maximum(running - 1.0, 0.0) * costs.beside_s / slot_s
    return Cycle(costs, tpot_s, slot_s - load.steps * tpot_s, slot_s, decoding, running / slot_s)


BUSIEST = 0.95
"""Utilisation of the token budget beyond which its queue is that of the saturated closed loop, not of a random one."""


def _until_token_s(load: Load, costs: Costs, running: Array, busy: Array) -> Array:
    """Mean seconds from admission to the first token.

    Requests of equal length keep meeting the same others: the engine's `prefill_wait`, in times of a prompt's own
    steps. Lengths that differ by more than a prompt's time mix them: a queue with random arrivals at the utilisation
    `busy` of the others (M/G/1), behind the step that was scheduled before the request came (none where it is alone).
    """
    differing = np.sqrt(load.output_cv2) * load.steps * costs.decode_s
    alike = costs.beside_s / (costs.beside_s + differing)
    kept = np.minimum(load.served.engine.prefill_wait, np.maximum(running, 1.0))
    usage = np.minimum(busy, BUSIEST)
    mixed = np.minimum(1.0 + usage / (1.0 - usage) * (1.0 + load.prompt_cv2) / 2.0, np.maximum(running, 1.0))
    unseen_s = load.served.engine.ahead * np.clip(running - 1.0, 0.0, 1.0) * costs.decode_s
    waited_s: Array = alike * kept * costs.beside_s + (1.0 - alike) * (mixed * costs.beside_s + unseen_s)
    return waited_s


def _in_waves(load: Load, running: Array) -> Cycle:
    """Requests in step with each other: all prompts of a wave in groups of g, then all decode steps together.

    A request waits for (running + g)/2 prompts before its first token and for the (running - g)/2 behind it after.
    """
    costs = costs_of(load, running, running)
    behind_s = 0.5 * np.maximum(running - costs.group, 0.0) * costs.alone_s
    tpot_s = costs.decode_s + behind_s / np.maximum(load.steps, 1.0)
    service_s = 0.5 * (np.maximum(running, costs.group) + costs.group) * costs.alone_s
    slot_s = service_s + load.steps * tpot_s
    return Cycle(costs, tpot_s, service_s, slot_s, running + 0.0 * tpot_s, running / slot_s)


def _mixture(apart: Cycle, waves: Cycle, share: Array, running: Array) -> Cycle:
    """`share` of the requests in waves, the others apart: times and running sequences are means."""

    def mean(one: Array, other: Array) -> Array:
        return one * (1.0 - share) + other * share

    slot_s = mean(apart.slot_s, waves.slot_s)
    return Cycle(
        costs=Costs(*(mean(getattr(apart.costs, name), getattr(waves.costs, name)) for name in Costs.__slots__)),
        tpot_s=mean(apart.tpot_s, waves.tpot_s),
        service_s=mean(apart.service_s, waves.service_s),
        slot_s=slot_s,
        decoding=mean(apart.decoding, waves.decoding),
        request_per_s=running / slot_s,
    )


def in_step(load: Load, costs: Costs) -> Array:
    """Share of requests that run in step with all others, each wave of them starting together.

    Prompts first: requests of equal length that start together end together, so nothing pulls them apart until their
    lengths differ by more than a prompt's time. Chunked prefill lets a finished request be replaced at once: none.
    """
    match load.served.engine.schedule:
        case ChunkedPrefill():
            return np.zeros(np.shape(costs.decode_s))
        case PrefillFirst():
            apart_s = np.sqrt(load.output_cv2) * load.steps * costs.decode_s
            share: Array = costs.alone_s / (costs.alone_s + apart_s)
            return share


def _prefill_floor_s(load: Load, costs: Costs, running: Array) -> Array:
    """Least time in which `running` requests can follow each other through the token budget."""
    match load.served.engine.schedule:
        case ChunkedPrefill():
            return running * costs.beside_s
        case PrefillFirst():
            return 0.0 * costs.beside_s
