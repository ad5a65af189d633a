"""Reads a local Hugging Face config.json, offline and without transformers. What is not understood is an error."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import RooflineError, clip, unknown
from ..model import Model, Moe
from ..structs import Dtype
from .hf_dense import DENSE
from .hf_fields import Fields
from .hf_moe import MIXTURES
from .hf_quantization import quantized_dtypes, torch_dtype
from .loaded import LoadedModel

LARGEST_BYTE = 5 * 1024**2
"""Published configs have a few kB; the largest, with long label lists, under 1 MB."""

ARCHITECTURES = DENSE | MIXTURES

MULTIMODAL = {
    "Gemma3ForConditionalGeneration": "Gemma3ForCausalLM",
    "Llama4ForConditionalGeneration": "Llama4ForCausalLM",
    "Mistral3ForConditionalGeneration": "MistralForCausalLM",
}
"""Models with a vision tower, of which only `text_config` is read: the tower is neither counted nor timed."""

_NO_EFFECT = {
    "bookkeeping and tokens":
        "_name_or_path auto_map model_type transformers_version architectures use_cache cache_implementation "
        "bos_token_id eos_token_id pad_token_id sep_token_id cls_token_id mask_token_id unk_token_id "
        "decoder_start_token_id prefix id2label label2id task_specific_params problem_type return_dict "
        "output_attentions output_hidden_states chunk_size_feed_forward unsloth_fixed unsloth_version "
        "_attn_implementation attn_implementation _attn_implementation_autoset _flash_attn_2_enabled "
        "for_llm_compressor apply_residual_connection_post_layernorm use_embedding_sharing",
    "training only":
        "initializer_range initializer_factor init_std initializer attention_dropout hidden_dropout "
        "hidden_dropout_prob attention_probs_dropout_prob resid_pdrop embd_pdrop attn_pdrop dropout "
        "embedding_dropout residual_dropout activation_dropout layerdrop classifier_dropout gradient_checkpointing "
        "output_router_logits router_aux_loss_coef router_jitter_noise input_jitter_noise aux_loss_alpha seq_aux "
        "pretraining_tp ep_size summary_activation summary_first_dropout summary_proj_to_labels summary_type "
        "summary_use_proj",
    "scales fused into kernels that are counted":
        "rms_norm_eps layer_norm_eps layer_norm_epsilon norm_epsilon query_pre_attn_scalar attn_logit_softcapping "
        "final_logit_softcapping logit_scale scale_attn_weights attn_scale scale_attn_by_inverse_layer_idx "
        "reorder_and_upcast_attn floor_scale attn_temperature_tuning swiglu_limit",
    "which experts are chosen, not how many":
        "norm_topk_prob scoring_func routed_scaling_factor n_group topk_group",
    "values of the rotary table":
        "rope_theta rope_scaling rope_parameters rope_local_base_freq rope_interleave partial_rotary_factor rotary_pct "
        "rotary_emb_base rotary_emb_fraction original_max_position_embeddings initial_context_length",
    "order of equal operations":
        "use_parallel_residual use_parallel_block use_parallel_embedding",
}  # fmt: skip
"""Fields that change neither FLOP nor bytes, by reason."""

_NO_EFFECT_IN = {
    "GPT2LMHeadModel": ("n_ctx",),
    "Phi3ForCausalLM": ("full_attn_mod", "interpolate_factor"),
    "Llama4ForCausalLM": ("use_qk_norm",),
    "Cohere2ForCausalLM": ("layer_switch", "order_of_interleaved_layers", "position_embedding_type"),
    "DeepseekV3ForCausalLM": ("head_dim", "qk_head_dim"),
}  # fmt: skip
_MULTIMODAL_NO_EFFECT = (
    "vision_config", "boi_token_index", "eoi_token_index", "image_token_index", "image_token_id", "mm_tokens_per_image",
    "video_token_id", "multimodal_projector_bias", "projector_hidden_act", "spatial_merge_size", "vision_feature_layer",
)  # fmt: skip


def load_config(path: Path) -> LoadedModel:
    """The model that a config.json (or a directory that holds one) describes.

    Layers for multi-token prediction and vision towers are not counted; the note says so. Errors: RooflineError for a
    file that cannot be read, is not one JSON object, or has an architecture, a field or a value that is not understood.
    """
    file = path / "config.json" if path.is_dir() else path
    source = clip(str(file), 120)[1:-1]
    fields = Fields(_parse(_read(file, source), source), source)
    name = file.absolute().parent.name if file.name == "config.json" else file.stem
    printable = "".join(letter if letter.isprintable() else "?" for letter in name[:100])
    model, notes, native = _model(fields, printable or "config")
    routed = any(isinstance(layer.mlp, Moe) for layer in model.layers)
    weight, expert, quantization = quantized_dtypes(fields, native, routed)
    fields.done()
    note = " ".join((*notes, quantization)).strip()
    return LoadedModel(replace(model, note=note), weight, expert, source, "file", note)


def _read(file: Path, source: str) -> bytes:
    try:
        if not file.exists():
            raise RooflineError(f"{source}: no such file. Give a config.json or the directory that holds one.")
        if not file.is_file():
            raise RooflineError(f"{source}: not a regular file. Give a config.json or the directory that holds one.")
        size = file.stat().st_size
        if size > LARGEST_BYTE:
            raise RooflineError(f"{source}: {size:,} bytes. Accepted: up to {LARGEST_BYTE:,}. Give a config.json.")
        return file.read_bytes()
    except (OSError, ValueError) as error:
        raise RooflineError(f"{source}: cannot be read ({clip(str(error), 160)}). Give a readable file.") from error


def _parse(raw: bytes, source: str) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        table: dict[str, Any] = {}
        for name, value in pairs:
            if name in table:
                raise RooflineError(f"{source}: field {clip(name)} appears twice. Keep one of them.")
            table[name] = value
        return table

    def constant(literal: str) -> float:
        raise RooflineError(f"{source}: {literal} is not JSON. Accepted: finite numbers.")

    try:
        data = json.loads(raw.decode("utf-8-sig"), object_pairs_hook=unique, parse_constant=constant)
    except RecursionError as error:
        raise RooflineError(f"{source}: nested too deeply. A config.json has three levels.") from error
    except ValueError as error:  # not UTF-8, not JSON, or a number of thousands of digits
        raise RooflineError(f"{source}: not a JSON file ({clip(str(error), 160)}). Download it again.") from error
    if not isinstance(data, dict):
        raise RooflineError(f"{source}: holds a JSON {type(data).__name__}. Accepted: one object, {{...}}.")
    return data


def _model(fields: Fields, name: str) -> tuple[Model, list[str], Dtype | None]:
    """The model, notes on what is not counted, and the dtype stated outside or inside `text_config`."""
    architecture = _architecture(fields)
    _ignore(fields, architecture)
    if architecture not in MULTIMODAL:
        return *_text_model(fields, name, architecture), torch_dtype(fields)
    fields.ignore(_MULTIMODAL_NO_EFFECT)
    text = fields.table("text_config")
    if fields.has("tie_word_embeddings"):
        text.inherit(fields, "tie_word_embeddings")
    fields.ignore(("tie_word_embeddings",))
    native = torch_dtype(fields) or torch_dtype(text)
    text.ignore(("torch_dtype", "dtype"))
    model, notes = _text_model(text, name, MULTIMODAL[architecture])
    text.done()
    return model, ["The vision tower is not counted.", *notes], native


def _ignore(fields: Fields, architecture: str) -> None:
    for names in _NO_EFFECT.values():
        fields.ignore(names.split())
    fields.ignore(_NO_EFFECT_IN.get(architecture, ()))


def _text_model(fields: Fields, name: str, architecture: str) -> tuple[Model, list[str]]:
    _ignore(fields, architecture)
    notes = []
    if fields.count("num_nextn_predict_layers", 0.0, least=0):
        notes.append("Layers for multi-token prediction are not counted.")
    return ARCHITECTURES[architecture](fields, name), notes


def _architecture(fields: Fields) -> str:
    stated = fields.raw("architectures")
    if not isinstance(stated, list) or len(stated) != 1 or not isinstance(stated[0], str):
        raise fields.error("architectures", 'a list of one name, such as ["LlamaForCausalLM"]')
    known = (*ARCHITECTURES, *MULTIMODAL)
    if stated[0] not in known:
        raise unknown(fields.label("architectures"), stated[0], known)
    return str(stated[0])
