"""Multi-head latent attention, step by step, in the two forms of the predictor (arXiv 2405.04434, section 2.1)."""

from typing import TYPE_CHECKING

from ..model import LatentAttention
from ..structs import NO_WINDOW
from ..transformer import LatentForm
from . import operations
from .library import Library, Tensor
from .tape import Operands, Tape

if TYPE_CHECKING:
    from .steps import LayerRun


def latent_attention(run: "LayerRun", tape: Tape, attention: LatentAttention, x: Tensor) -> Tensor:
    """The output [tokens, hidden] of MLA: keys and values expanded from all latents, or queries absorbed into them."""
    nope, rank = int(attention.nope_dim), int(attention.kv_rank)
    if attention.query_rank is None:
        query = run.linear(tape, "q_proj", x)
    else:
        query = run.linear(tape, "q_b_proj", run.norm(tape, "q_a_norm", run.linear(tape, "q_a_proj", x)))
    query = _split(tape.library, query, run.shape.sequences, int(attention.heads))
    latent = run.linear(tape, "kv_a_proj", x)
    normed = run.norm(tape, "kv_a_norm", latent[:, :rank])
    shared_key = _split(tape.library, latent[:, rank:], run.shape.sequences, 1)
    turned = Operands(reads=(query[..., nope:], shared_key), aside=run.positions.rotary)
    query_rope, key_rope = tape.step("rope", operations.rope, turned)
    new = tape.library.concat((_split(tape.library, normed, run.shape.sequences, 1), key_rope))
    (latents,) = run.append(tape, (new,), NO_WINDOW)
    form = {LatentForm.EXPANDED: _expanded, LatentForm.ABSORBED: _absorbed}[run.form.latent]  # never as a whole
    return run.linear(tape, "o_proj", form(run, tape, attention, query[..., :nope], query_rope, latents))


def _split(library: Library, x: Tensor, sequences: int, heads: int) -> Tensor:
    """Tokens [tokens, heads · dim] as [sequences, heads, new tokens, dim]."""
    new_token = x.shape[0] // sequences
    return library.transpose(x.reshape(sequences, new_token, heads, -1), (0, 2, 1, 3))


def _expanded(
    run: "LayerRun", tape: Tape, attention: LatentAttention, nope: Tensor, rope: Tensor, latents: Tensor
) -> Tensor:
    """Keys and values per head, from the latent of every token in the cache."""
    library, sequences, keys = tape.library, latents.shape[0], latents.shape[2]
    heads, split = int(attention.heads), int(attention.nope_dim)
    flat = latents[..., : int(attention.kv_rank)].reshape(sequences * keys, -1)
    key_value = _split(library, run.linear(tape, "kv_b_proj", flat), sequences, heads)
    shared = latents[..., int(attention.kv_rank) :]
    key = library.concat((key_value[..., :split], library.concat((shared,) * heads, axis=1)))
    scale = (attention.nope_dim + attention.rope_dim) ** -0.5
    query = library.concat((nope, rope))
    return run.inner_attention(tape, query, key, key_value[..., split:], scale, NO_WINDOW)


def _absorbed(
    run: "LayerRun", tape: Tape, attention: LatentAttention, nope: Tensor, rope: Tensor, latents: Tensor
) -> Tensor:
    """The halves of kv_b_proj move to the queries and to the outputs; all heads attend over the same latents."""
    library, heads, split = tape.library, int(attention.heads), int(attention.nope_dim)
    sequences, _, new_token, _ = nope.shape
    (matrix,) = run.weights["kv_b_proj"]
    per_head = matrix.reshape(heads, split + int(attention.value_dim), -1)
    up = Operands(reads=(_by_head(library, nope),), weights=(per_head[:, :split],))
    query = _by_sequence(library, tape.step("q_absorb", _times, up), sequences)
    scale = (attention.nope_dim + attention.rope_dim) ** -0.5
    values = latents[..., : int(attention.kv_rank)]
    mixed = run.inner_attention(tape, library.concat((query, rope)), latents, values, scale, NO_WINDOW)
    by_head = _by_head(library, _split(library, mixed, sequences, heads))
    down = Operands(reads=(by_head,), weights=(per_head[:, split:].swapaxes(-1, -2),))
    out = _by_sequence(library, tape.step("v_absorb", _times, down), sequences)
    return library.transpose(out, (0, 2, 1, 3)).reshape(sequences * new_token, -1)


def _times(library: Library, x: Tensor, matrices: Tensor) -> Tensor:
    return library.matmul(x, matrices)


def _by_head(library: Library, x: Tensor) -> Tensor:
    """[sequences, heads, new tokens, dim] as [heads, tokens, dim]."""
    return library.transpose(x, (1, 0, 2, 3)).reshape(x.shape[1], -1, x.shape[3])


def _by_sequence(library: Library, x: Tensor, sequences: int) -> Tensor:
    """[heads, tokens, dim] as [sequences, heads, new tokens, dim]."""
    return library.transpose(x.reshape(x.shape[0], sequences, -1, x.shape[2]), (1, 0, 2, 3))
