"""The format that a Hugging Face checkpoint stores its weights in: torch_dtype and quantization_config."""

from ..errors import RooflineError, clip
from ..structs import Dtype
from .hf_fields import Fields

TORCH = {
    "float32": Dtype.FP32,
    "float16": Dtype.FP16,
    "bfloat16": Dtype.BF16,
    "float8_e4m3fn": Dtype.FP8,
    "float8_e5m2": Dtype.FP8,
}
_METHODS = ("fp8", "mxfp4", "gptq", "awq", "compressed-tensors")
_INTEGER = {4: Dtype.INT4, 8: Dtype.INT8}
_KEPT = ("lm_head", "embed_tokens", "gate", "router", "shared_expert_gate")
_VISION = ("vision", "visual", "multi_modal_projector")
_DEFAULT_GROUP = 128
"""Group of the scales that `STORED_BYTE` assumes for int4."""

_NO_EFFECT = {
    "fp8": "activation_scheme weight_block_size kv_cache_scheme fmt",
    "mxfp4": "",
    "gptq": "desc_act sym damp_percent true_sequential static_groups model_name_or_path model_file_base_name "
    "is_marlin_format checkpoint_format meta dataset tokenizer use_exllama use_cuda_fp16 exllama_config version "
    "quantizer pad_token_id",
    "awq": "zero_point version backend do_fuse exllama_config fuse_max_seq_len modules_to_fuse",
    "compressed-tensors": "kv_cache_scheme quantization_status global_compression_ratio version format",
}
_NO_EFFECT_ON_WEIGHTS = "actorder block_structure dynamic observer observer_kwargs strategy symmetric"


def torch_dtype(f: Fields) -> Dtype | None:
    """The dtype that the config states under either of its names; None when it does not."""
    name = "torch_dtype" if f.has("torch_dtype") else "dtype"
    f.ignore(("torch_dtype", "dtype"))
    return TORCH[f.word(name, TORCH)] if f.has(name) else None


def quantized_dtypes(f: Fields, native: Dtype | None, routed: bool) -> tuple[Dtype | None, Dtype | None, str]:
    """(format of the matrices outside routed experts, of the routed experts or None without any, note).

    Without a quantization_config both are `native`. `routed`: the model has experts. Methods read: fp8, mxfp4 (routed
    experts only, as in gpt-oss), gptq, awq, compressed-tensors with one group. A checkpoint that leaves some other
    matrices unquantised is refused.
    """
    if not f.has("quantization_config"):
        f.ignore(("quantization_config",))
        return native, native if routed else None, ""
    q = f.table("quantization_config")
    method = q.word("quant_method", _METHODS)
    q.ignore(_NO_EFFECT[method].split())
    dtype, note = {
        "fp8": _fp8, "mxfp4": _mxfp4, "gptq": _integer, "awq": _integer, "compressed-tensors": _compressed_tensors,
    }[method](q)  # fmt: skip
    kept = ("self_attn",) if method == "mxfp4" else ()
    for field in ("modules_to_not_convert", "ignored_layers", "ignore"):
        _check_kept(q, field, kept)
    q.done()
    if method == "mxfp4" and not routed:
        raise q.error("quant_method", "fp8, gptq, awq, compressed-tensors", "mxfp4 holds experts; this model has none.")
    return native if method == "mxfp4" else dtype, dtype if routed else None, note


def _check_kept(q: Fields, field: str, also: tuple[str, ...]) -> None:
    """Refuse a list of unquantised modules with anything in it but embeddings, head, routers, norms and vision."""
    entries = q.raw(field) or []
    if not isinstance(entries, list) or not all(isinstance(entry, str) for entry in entries):
        raise q.error(field, "a list of module names")
    for entry in entries:
        last = entry.removeprefix("re:").rstrip("$*.").rpartition(".")[2]
        if last in (*_KEPT, *also) or "norm" in last or any(part in entry for part in _VISION):
            continue
        raise RooflineError(
            f"{q.label(field)}: {clip(entry)} keeps a matrix out of quantisation. Accepted: embeddings, head, routers, "
            "norms and vision modules. A mixed checkpoint is not modelled: remove the entry to approximate it."
        )


def _fp8(q: Fields) -> tuple[Dtype, str]:
    return Dtype.FP8, ""


def _mxfp4(q: Fields) -> tuple[Dtype, str]:
    return Dtype.FP4, "Only the routed experts are stored in MXFP4."


def _integer(q: Fields) -> tuple[Dtype, str]:
    """GPTQ and AWQ: `bits` and `group_size` (-1: one scale per column)."""
    width = "w_bit" if q.has("w_bit") else "bits"
    bits = int(q.count(width))
    if bits not in _INTEGER:
        raise q.error(width, "4 or 8")
    group = "q_group_size" if q.has("q_group_size") else "group_size"
    return _INTEGER[bits], _group_note(q, group)


def _group_note(q: Fields, field: str) -> str:
    size = q.raw(field)
    if size is not None and (type(size) is not int or not (size == -1 or 16 <= size <= 65536)):
        raise q.error(field, "-1 (one scale per column) or a whole number from 16 to 65,536")
    return "" if size in (None, _DEFAULT_GROUP) else f"Scales are counted as for groups of 128; the file has {size}."


def _compressed_tensors(q: Fields) -> tuple[Dtype, str]:
    groups = q.table("config_groups")
    if len(groups.names()) != 1:
        raise RooflineError(
            f"{q.label('config_groups')} has {len(groups.names())} groups. Accepted: one, for all linear layers. "
            "Mixed precision is not modelled."
        )
    group = groups.table(groups.names()[0])
    if group.raw("targets") != ["Linear"]:
        raise group.error("targets", '["Linear"]')
    group.ignore(("input_activations", "output_activations", "format"))
    weights = group.table("weights")
    group.done()
    weights.ignore(_NO_EFFECT_ON_WEIGHTS.split())
    kind, bits = weights.word("type", ("int", "float")), int(weights.count("num_bits"))
    note = _group_note(weights, "group_size") if (kind, bits) == ("int", 4) else ""
    weights.ignore(("group_size",))
    weights.done()
    accepted = {("int", 4): Dtype.INT4, ("int", 8): Dtype.INT8, ("float", 8): Dtype.FP8}
    if (kind, bits) not in accepted:
        raise weights.error("num_bits", "4 or 8 for type int, 8 for type float")
    return accepted[kind, bits], note
