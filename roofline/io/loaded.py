"""What reading a model gives, whether it came from a preset or from a config.json."""

from dataclasses import dataclass

from ..model import Model
from ..structs import Dtype


@dataclass(frozen=True, slots=True)
class PublishedCount:
    """A parameter count as its source prints it; `active` None where the source states none."""

    total: float
    active: float | None
    source: str


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model, the format its weights are published in, and where all of that is from.

    `weight_dtype`: format of the matrices outside the routed experts; `expert_dtype`: of the routed experts (None in a
    dense model). They differ in gpt-oss: bf16 attention, MXFP4 experts. None: the source does not say. Embeddings,
    head, router, norms and biases stay unquantised in every checkpoint read here.
    `kind`: how good the source of the shape is: "vendor doc", "secondary", "assumed", or "file" for a config.json.
    """

    model: Model
    weight_dtype: Dtype | None
    expert_dtype: Dtype | None
    source: str
    kind: str
    note: str
    published: PublishedCount | None = None
