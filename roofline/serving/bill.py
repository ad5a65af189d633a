"""What the prompts and the outputs of a service pay of its bill."""

import numpy as np

from ..economics import allocated_share
from ..structs import Number
from .lengths import Lengths
from .state import SteadyState
from .step import ServedModel


def phase_shares(served: ServedModel, state: SteadyState, lengths: Lengths) -> tuple[Number, Number]:
    """The shares of the bill that input and output tokens pay, elementwise: as the device-seconds of a request's prompt
    (its own steps, without the front end) and of its decode steps (each shared by those that generate in it).

    Of replicas that do both; two pools are billed apart. The rule, and who pays for idle time: see economics.
    """
    host, prompt = served.engine.host, lengths.prompt.mean
    prompt_s = np.maximum(state.prefill_s - host.request_s - host.prompt_token_s * prompt, 0.0)
    steps = np.maximum(lengths.output.mean - 1.0, 0.0)
    sharing = np.maximum(state.batch / served.replicas, 1.0)
    return allocated_share(prompt_s, steps * state.step_s / sharing)
