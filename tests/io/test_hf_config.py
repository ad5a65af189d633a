"""config.json files: models that must equal their presets, published totals, and files that must be refused."""

import json
import math
import os
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roofline.errors import RooflineError
from roofline.io.hf_config import LARGEST_BYTE, load_config
from roofline.io.models import load_model
from roofline.parameters import active_parameter_count, parameter_count
from roofline.structs import NO_WINDOW, Dtype

LLAMA = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 4096, "intermediate_size": 14336,
    "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128256,
    "max_position_embeddings": 131072, "hidden_act": "silu", "attention_bias": False, "mlp_bias": False,
    "tie_word_embeddings": False, "rope_theta": 500000.0, "rope_scaling": {"factor": 8.0, "rope_type": "llama3"},
    "rms_norm_eps": 1e-05, "torch_dtype": "bfloat16", "bos_token_id": 128000, "eos_token_id": [128001, 128008],
    "attention_dropout": 0.0, "initializer_range": 0.02, "pretraining_tp": 1, "use_cache": True,
    "transformers_version": "4.42.3",
}  # fmt: skip
GPT2 = {
    "architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "n_embd": 768, "n_layer": 12, "n_head": 12,
    "n_positions": 1024, "n_ctx": 1024, "vocab_size": 50257, "activation_function": "gelu_new", "attn_pdrop": 0.1,
    "embd_pdrop": 0.1, "resid_pdrop": 0.1, "initializer_range": 0.02, "layer_norm_epsilon": 1e-05,
    "summary_type": "cls_index", "task_specific_params": {"text-generation": {"do_sample": True}},
}  # fmt: skip
MIXTRAL = {
    "architectures": ["MixtralForCausalLM"], "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
    "num_attention_heads": 32, "num_key_value_heads": 8, "num_local_experts": 8, "num_experts_per_tok": 2,
    "sliding_window": None, "vocab_size": 32000, "max_position_embeddings": 32768, "hidden_act": "silu",
    "tie_word_embeddings": False, "router_aux_loss_coef": 0.02, "torch_dtype": "bfloat16",
}  # fmt: skip
QWEN3_MOE = {
    "architectures": ["Qwen3MoeForCausalLM"], "hidden_size": 2048, "intermediate_size": 6144, "head_dim": 128,
    "num_hidden_layers": 48, "num_attention_heads": 32, "num_key_value_heads": 4, "num_experts": 128,
    "num_experts_per_tok": 8, "moe_intermediate_size": 768, "decoder_sparse_step": 1, "mlp_only_layers": [],
    "norm_topk_prob": True, "attention_bias": False, "use_sliding_window": False, "sliding_window": None,
    "max_window_layers": 48, "vocab_size": 151936, "max_position_embeddings": 40960, "hidden_act": "silu",
    "tie_word_embeddings": False, "torch_dtype": "bfloat16",
}  # fmt: skip
DEEPSEEK_V3 = {
    "architectures": ["DeepseekV3ForCausalLM"], "auto_map": {"AutoConfig": "configuration_deepseek.DeepseekV3Config"},
    "hidden_size": 7168, "intermediate_size": 18432, "moe_intermediate_size": 2048, "num_hidden_layers": 61,
    "num_attention_heads": 128, "num_key_value_heads": 128, "q_lora_rank": 1536, "kv_lora_rank": 512,
    "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128, "n_routed_experts": 256,
    "num_experts_per_tok": 8, "n_shared_experts": 1, "first_k_dense_replace": 3, "moe_layer_freq": 1, "n_group": 8,
    "topk_group": 4, "topk_method": "noaux_tc", "scoring_func": "sigmoid", "norm_topk_prob": True,
    "routed_scaling_factor": 2.5, "num_nextn_predict_layers": 1, "attention_bias": False, "hidden_act": "silu",
    "vocab_size": 129280, "max_position_embeddings": 163840, "tie_word_embeddings": False, "torch_dtype": "bfloat16",
    "quantization_config": {
        "quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic", "weight_block_size": [128, 128],
    },
}  # fmt: skip
GPT_OSS = {
    "architectures": ["GptOssForCausalLM"], "hidden_size": 2880, "intermediate_size": 2880, "head_dim": 64,
    "num_hidden_layers": 24, "num_attention_heads": 64, "num_key_value_heads": 8, "num_local_experts": 32,
    "num_experts_per_tok": 4, "experts_per_token": 4, "attention_bias": True, "sliding_window": 128,
    "layer_types": ["sliding_attention", "full_attention"] * 12, "vocab_size": 201088, "swiglu_limit": 7.0,
    "max_position_embeddings": 131072, "initial_context_length": 4096, "hidden_act": "silu",
    "tie_word_embeddings": False, "quantization_config": {
        "quant_method": "mxfp4",
        "modules_to_not_convert": [
            "model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head",
        ],
    },
}  # fmt: skip
GEMMA2 = {
    "architectures": ["Gemma2ForCausalLM"], "hidden_size": 3584, "intermediate_size": 14336, "head_dim": 256,
    "num_hidden_layers": 42, "num_attention_heads": 16, "num_key_value_heads": 8, "vocab_size": 256128,
    "sliding_window": 4096, "max_position_embeddings": 8192, "hidden_act": "gelu_pytorch_tanh",
    "hidden_activation": "gelu_pytorch_tanh", "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0,
    "query_pre_attn_scalar": 256, "cache_implementation": "hybrid", "attention_bias": False,
    "torch_dtype": "bfloat16",
}  # fmt: skip
OPT = {
    "architectures": ["OPTForCausalLM"], "hidden_size": 2048, "ffn_dim": 8192, "num_hidden_layers": 24,
    "num_attention_heads": 32, "vocab_size": 50272, "max_position_embeddings": 2048, "word_embed_proj_dim": 2048,
    "do_layer_norm_before": True, "activation_function": "relu", "layerdrop": 0.0, "dropout": 0.1,
    "torch_dtype": "float16", "prefix": "</s>",
}  # fmt: skip
OPT_350M = OPT | {
    "hidden_size": 1024, "ffn_dim": 4096, "num_attention_heads": 16, "word_embed_proj_dim": 512,
    "do_layer_norm_before": False,
}  # fmt: skip
FALCON_7B = {
    "architectures": ["FalconForCausalLM"], "hidden_size": 4544, "num_hidden_layers": 32, "num_attention_heads": 71,
    "vocab_size": 65024, "multi_query": True, "parallel_attn": True, "new_decoder_architecture": False, "bias": False,
    "alibi": False, "hidden_dropout": 0.0, "attention_dropout": 0.0, "layer_norm_epsilon": 1e-05,
    "apply_residual_connection_post_layernorm": False, "torch_dtype": "bfloat16",
}  # fmt: skip
FALCON_40B = FALCON_7B | {
    "hidden_size": 8192, "num_hidden_layers": 60, "num_attention_heads": 128, "num_kv_heads": 8,
    "new_decoder_architecture": True,
}  # fmt: skip
BERT = {
    "architectures": ["BertForMaskedLM"], "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12,
    "num_attention_heads": 12, "vocab_size": 30522, "max_position_embeddings": 512, "type_vocab_size": 2,
    "hidden_act": "gelu", "position_embedding_type": "absolute", "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1, "pad_token_id": 0, "gradient_checkpointing": False,
    "torch_dtype": "float32",
}  # fmt: skip
GEMMA3 = {
    "architectures": ["Gemma3ForConditionalGeneration"], "boi_token_index": 255999, "image_token_index": 262144,
    "mm_tokens_per_image": 256, "torch_dtype": "bfloat16", "vision_config": {"hidden_size": 1152},
    "text_config": {
        "hidden_size": 5376, "intermediate_size": 21504, "head_dim": 128, "num_hidden_layers": 62,
        "num_attention_heads": 32, "num_key_value_heads": 16, "sliding_window": 1024, "query_pre_attn_scalar": 168,
        "rope_scaling": {"factor": 8.0, "rope_type": "linear"}, "model_type": "gemma3_text",
    },
}  # fmt: skip
LLAMA4 = {
    "architectures": ["Llama4ForConditionalGeneration"], "torch_dtype": "bfloat16", "vision_config": {},
    "text_config": {
        "hidden_size": 5120, "intermediate_size": 8192, "intermediate_size_mlp": 16384, "head_dim": 128,
        "num_hidden_layers": 48, "num_attention_heads": 40, "num_key_value_heads": 8, "num_local_experts": 128,
        "num_experts_per_tok": 1, "interleave_moe_layer_step": 2, "attention_chunk_size": 8192, "use_qk_norm": False,
        "vocab_size": 202048, "max_position_embeddings": 1048576, "hidden_act": "silu", "attention_bias": False,
        "for_llm_compressor": False,
    },
}  # fmt: skip
GLM4_MOE = {
    "architectures": ["Glm4MoeForCausalLM"], "hidden_size": 5120, "intermediate_size": 12288, "head_dim": 128,
    "moe_intermediate_size": 1536, "num_hidden_layers": 92, "num_attention_heads": 96, "num_key_value_heads": 8,
    "n_routed_experts": 160, "num_experts_per_tok": 8, "n_shared_experts": 1, "first_k_dense_replace": 3,
    "use_qk_norm": True, "attention_bias": True, "partial_rotary_factor": 0.5, "num_nextn_predict_layers": 1,
    "vocab_size": 151552, "max_position_embeddings": 131072, "hidden_act": "silu", "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
}  # fmt: skip
QWEN2 = LLAMA | {
    "architectures": ["Qwen2ForCausalLM"], "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28,
    "num_attention_heads": 28, "num_key_value_heads": 4, "vocab_size": 152064, "use_sliding_window": False,
    "sliding_window": 131072, "max_window_layers": 28,
}  # fmt: skip
for name in ("attention_bias", "mlp_bias", "pretraining_tp"):
    QWEN2.pop(name)
PHI3 = {
    "architectures": ["Phi3ForCausalLM"], "hidden_size": 3072, "intermediate_size": 8192, "num_hidden_layers": 32,
    "num_attention_heads": 32, "num_key_value_heads": 32, "sliding_window": 2047, "vocab_size": 32064,
    "max_position_embeddings": 4096, "original_max_position_embeddings": 4096, "hidden_act": "silu",
    "attention_bias": False, "tie_word_embeddings": False, "torch_dtype": "bfloat16",
}  # fmt: skip
MISTRAL = MIXTRAL | {"architectures": ["MistralForCausalLM"], "sliding_window": 4096}
for name in ("num_local_experts", "num_experts_per_tok", "router_aux_loss_coef"):
    MISTRAL.pop(name)


def write(folder, config):
    file = folder / "config.json"
    file.write_text(config if isinstance(config, str) else json.dumps(config))
    return file


def refused(folder, config):
    with pytest.raises(RooflineError) as error:
        load_model(write(folder, config))
    assert "config.json" in str(error.value)
    assert len(str(error.value)) < 900
    return str(error.value)


@pytest.mark.parametrize(
    ("config", "preset"),
    [
        (LLAMA, "llama-3.1-8b"), (GPT2, "gpt2-small"), (MIXTRAL, "mixtral-8x7b"), (QWEN3_MOE, "qwen3-30b-a3b"),
        (DEEPSEEK_V3, "deepseek-v3"), (GPT_OSS, "gpt-oss-20b"), (GEMMA2, "gemma-2-9b"), (OPT, "opt-1.3b"),
        (OPT_350M, "opt-350m"), (FALCON_7B, "falcon-7b"), (FALCON_40B, "falcon-40b"), (BERT, "bert-base-uncased"),
        (LLAMA4, "llama-4-maverick-17b-128e"), (GLM4_MOE, "glm-4.5"), (QWEN2, "qwen2.5-7b"), (PHI3, "phi-3-mini"),
        (MISTRAL, "mistral-7b-v0.1"),
    ],
)  # fmt: skip
def test_a_config_is_the_preset(tmp_path, config, preset):
    """Layer by layer, and with it the parameter count."""
    read, known = load_model(write(tmp_path, config)), load_model(preset)
    named = {"name": "", "family": "", "note": ""}
    assert replace(read.model, **named) == replace(known.model, **named)
    assert parameter_count(read.model) == parameter_count(known.model)
    if "torch_dtype" in config:
        assert (read.weight_dtype, read.expert_dtype) == (known.weight_dtype, known.expert_dtype)


def test_gemma3_text_model_with_defaults_left_out(tmp_path):
    """The published file of the 27B states neither vocabulary nor pattern; its table has 64 rows more."""
    read, known = load_model(write(tmp_path, GEMMA3)), load_model("gemma-3-27b")
    assert read.model.layers == known.model.layers
    assert parameter_count(read.model) - parameter_count(known.model) == 64 * 5376
    assert "vision tower" in read.note
    assert read.weight_dtype is Dtype.BF16


@pytest.mark.parametrize(
    ("config", "count"),
    [
        # Phi-2: the safetensors total on the Hub, 2.78 B.
        ({"architectures": ["PhiForCausalLM"], "hidden_size": 2560, "intermediate_size": 10240, "num_hidden_layers": 32,
          "num_attention_heads": 32, "vocab_size": 51200, "max_position_embeddings": 2048, "hidden_act": "gelu_new",
          "qk_layernorm": False, "tie_word_embeddings": False, "partial_rotary_factor": 0.4}, 2_779_683_840),
        # Pythia-160M (arXiv 2304.01373, table 1): 85,056,000 without the embeddings, and 2·50304·768 for them.
        ({"architectures": ["GPTNeoXForCausalLM"], "hidden_size": 768, "intermediate_size": 3072, "rotary_pct": 0.25,
          "num_hidden_layers": 12, "num_attention_heads": 12, "vocab_size": 50304, "max_position_embeddings": 2048,
          "hidden_act": "gelu", "tie_word_embeddings": False, "use_parallel_residual": True, "rotary_emb_base": 10000},
         85_056_000 + 2 * 50304 * 768),
        # Command R (35B): 256000·8192 + 40·(4·8192² + 3·8192·22528 + 8192) + 8192, tied, one norm without a shift.
        ({"architectures": ["CohereForCausalLM"], "hidden_size": 8192, "intermediate_size": 22528,
          "logit_scale": 0.0625, "num_hidden_layers": 40, "num_attention_heads": 64, "num_key_value_heads": 64,
          "vocab_size": 256000, "max_position_embeddings": 8192, "hidden_act": "silu",
          "use_qk_norm": False}, 34_980_831_232),
        # StarCoder2-3B: 49152·3072 + 30·(2·(3072² + 3072) + 2·(3072·256 + 256) + 2·3072·12288 + 12288 + 3072 + 4·3072)
        # + 2·3072 (arXiv 2402.19173 rounds to 3B).
        ({"architectures": ["Starcoder2ForCausalLM"], "hidden_size": 3072, "intermediate_size": 12288,
          "num_hidden_layers": 30, "num_attention_heads": 24, "num_key_value_heads": 2, "sliding_window": 4096,
          "use_bias": True, "mlp_type": "default", "norm_type": "layer_norm", "vocab_size": 49152,
          "max_position_embeddings": 16384, "hidden_act": "gelu_pytorch_tanh"}, 3_030_371_328),
        # OLMo 2 7B: 2·100352·4096 + 32·(4·4096² + 3·4096·11008 + 2·4096 + 2·4096) + 4096 (arXiv 2501.00656).
        ({"architectures": ["Olmo2ForCausalLM"], "hidden_size": 4096, "intermediate_size": 11008, "hidden_act": "silu",
          "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 32, "vocab_size": 100352,
          "max_position_embeddings": 4096, "tie_word_embeddings": False}, 7_298_617_344),
        # Gemma 2B: report (arXiv 2403.08295, table 2): 524,550,144 embedding + 1,981,884,416, with 256,128 rows there.
        ({"architectures": ["GemmaForCausalLM"], "hidden_size": 2048, "intermediate_size": 16384, "head_dim": 256,
          "num_hidden_layers": 18, "num_attention_heads": 8, "num_key_value_heads": 1, "vocab_size": 256128,
          "max_position_embeddings": 8192, "hidden_act": "gelu"}, 524_550_144 + 1_981_884_416),
        # RoBERTa-base: (50265 + 514 + 1)·768 + 2·768 + 12·(12·768² + 13·768) + 768² + 768; 125M in arXiv 1907.11692.
        ({"architectures": ["RobertaModel"], "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12,
          "num_attention_heads": 12, "vocab_size": 50265, "max_position_embeddings": 514, "type_vocab_size": 1,
          "hidden_act": "gelu"}, 124_645_632),
        # Qwen1.5-MoE-A2.7B: 14.3B (the release note of Qwen1.5-MoE).
        ({"architectures": ["Qwen2MoeForCausalLM"], "hidden_size": 2048, "intermediate_size": 5632, "num_experts": 60,
          "moe_intermediate_size": 1408, "shared_expert_intermediate_size": 5632, "num_experts_per_tok": 4,
          "decoder_sparse_step": 1, "num_hidden_layers": 24, "num_attention_heads": 16, "num_key_value_heads": 16,
          "vocab_size": 151936, "max_position_embeddings": 8192, "hidden_act": "silu", "use_sliding_window": False,
          "sliding_window": 32768, "max_window_layers": 21, "tie_word_embeddings": False}, 14_315_784_192),
        # Phi-3.5-MoE: 41.9B, 6.6B active (arXiv 2404.14219, section 2).
        ({"architectures": ["PhiMoEForCausalLM"], "hidden_size": 4096, "intermediate_size": 6400,
          "num_local_experts": 16, "num_experts_per_tok": 2, "num_hidden_layers": 32, "num_attention_heads": 32,
          "num_key_value_heads": 8, "attention_bias": True, "lm_head_bias": True, "sliding_window": 131072,
          "vocab_size": 32064,
          "max_position_embeddings": 131072, "hidden_act": "silu", "input_jitter_noise": 0.01,
          "tie_word_embeddings": False}, 41_873_153_344),
        # DeepSeek-V2-Lite: 15.7B (arXiv 2405.04434, appendix B).
        ({"architectures": ["DeepseekV2ForCausalLM"], "hidden_size": 2048, "intermediate_size": 10944,
          "moe_intermediate_size": 1408, "num_hidden_layers": 27, "num_attention_heads": 16, "num_key_value_heads": 16,
          "q_lora_rank": None, "kv_lora_rank": 512, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128,
          "n_routed_experts": 64, "num_experts_per_tok": 6, "n_shared_experts": 2, "first_k_dense_replace": 1,
          "moe_layer_freq": 1, "topk_method": "greedy", "vocab_size": 102400, "max_position_embeddings": 163840,
          "hidden_act": "silu", "attention_bias": False, "tie_word_embeddings": False}, 15_706_484_224),
    ],
    ids=lambda value: value["architectures"][0] if isinstance(value, dict) else "",
)  # fmt: skip
def test_published_totals(tmp_path, config, count):
    assert parameter_count(load_model(write(tmp_path, config)).model) == count


def test_phi_moe_active(tmp_path):
    """6.6 B active of 41.9 B (arXiv 2404.14219): two of sixteen experts."""
    config = {
        "architectures": ["PhimoeForCausalLM"], "hidden_size": 4096, "intermediate_size": 6400, "num_local_experts": 16,
        "num_experts_per_tok": 2, "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
        "attention_bias": True, "lm_head_bias": True, "sliding_window": None, "vocab_size": 32064,
        "max_position_embeddings": 131072, "hidden_act": "silu", "tie_word_embeddings": False,
    }  # fmt: skip
    assert active_parameter_count(load_model(write(tmp_path, config)).model) == pytest.approx(6.6e9, rel=0.01)


def test_local_and_global_layers(tmp_path):
    cohere2 = {
        "architectures": ["Cohere2ForCausalLM"], "hidden_size": 4096, "intermediate_size": 14336, "head_dim": 128,
        "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "sliding_window": 4096,
        "sliding_window_pattern": 4, "vocab_size": 256000, "max_position_embeddings": 8192, "hidden_act": "silu",
    }  # fmt: skip
    windows = [layer.attention.window for layer in load_model(write(tmp_path, cohere2)).model.layers]
    assert windows == [4096, 4096, 4096, NO_WINDOW] * 8
    qwen = QWEN2 | {"use_sliding_window": True, "sliding_window": 4096, "max_window_layers": 20}
    windows = [layer.attention.window for layer in load_model(write(tmp_path, qwen)).model.layers]
    assert windows == [NO_WINDOW] * 20 + [4096] * 8
    stated = GEMMA2 | {"layer_types": ["full_attention"] * 41 + ["sliding_attention"]}
    windows = [layer.attention.window for layer in load_model(write(tmp_path, stated)).model.layers]
    assert windows == [NO_WINDOW] * 41 + [4096]


def test_directory_file_and_byte_order_mark(tmp_path):
    folder = tmp_path / "my-model"
    folder.mkdir()
    file = write(folder, LLAMA)
    assert load_model(folder) == load_model(file)
    assert load_model(file).model.name == "my-model"
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    assert parameter_count(load_model(folder).model) == 8_030_261_248


@pytest.mark.parametrize(
    ("quantization", "weights"),
    [
        ({"quant_method": "fp8"}, Dtype.FP8),
        ({"quant_method": "gptq", "bits": 4, "group_size": 128, "desc_act": True, "sym": True}, Dtype.INT4),
        ({"quant_method": "gptq", "bits": 8, "group_size": -1}, Dtype.INT8),
        ({"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True, "version": "gemm"}, Dtype.INT4),
        (
            {"quant_method": "compressed-tensors", "format": "pack-quantized", "ignore": ["lm_head"], "config_groups": {
                "group_0": {"targets": ["Linear"], "input_activations": None,
                            "weights": {"num_bits": 4, "type": "int", "group_size": 128, "strategy": "group"}}}},
            Dtype.INT4,
        ),
        (
            {"quant_method": "compressed-tensors", "config_groups": {"group_0": {"targets": ["Linear"], "weights": {
                "num_bits": 8, "type": "float", "strategy": "channel", "symmetric": True}}}},
            Dtype.FP8,
        ),
    ],
)  # fmt: skip
def test_quantised_checkpoints(tmp_path, quantization, weights):
    dense = load_model(write(tmp_path, LLAMA | {"quantization_config": quantization}))
    assert (dense.weight_dtype, dense.expert_dtype) == (weights, None)
    routed = load_model(write(tmp_path, MIXTRAL | {"quantization_config": quantization}))
    assert (routed.weight_dtype, routed.expert_dtype) == (weights, weights)
    assert parameter_count(dense.model) == 8_030_261_248


def test_mxfp4_holds_the_experts_only(tmp_path):
    loaded = load_model(write(tmp_path, GPT_OSS | {"torch_dtype": "bfloat16"}))
    assert (loaded.weight_dtype, loaded.expert_dtype) == (Dtype.BF16, Dtype.FP4)
    kept = load_model("gpt-oss-20b")
    assert (loaded.weight_dtype, loaded.expert_dtype) == (kept.weight_dtype, kept.expert_dtype)


def test_other_scale_groups_are_noted(tmp_path):
    config = LLAMA | {"quantization_config": {"quant_method": "awq", "bits": 4, "group_size": 64}}
    assert "64" in load_model(write(tmp_path, config)).note


def test_unstated_dtype_is_not_guessed(tmp_path):
    silent = {name: value for name, value in LLAMA.items() if name != "torch_dtype"}
    assert load_model(write(tmp_path, silent)).weight_dtype is None
    assert load_model(write(tmp_path, silent | {"dtype": "float16"})).weight_dtype is Dtype.FP16


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"hidden_size": "4096"}, ["hidden_size", "'4096'", "without quotes"]),
        ({"hidden_size": -1}, ["hidden_size", "-1", "from 1"]),
        ({"hidden_size": 0}, ["hidden_size", "is 0"]),
        ({"hidden_size": 4096.5}, ["hidden_size", "4096.5", "whole number"]),
        ({"hidden_size": True}, ["hidden_size", "True", "whole number"]),
        ({"hidden_size": None}, ["hidden_size", "None"]),
        ({"hidden_size": [4096]}, ["hidden_size", "[4096]"]),
        ({"hidden_size": 10**40}, ["hidden_size", "1,000,000,000"]),
        ({"num_hidden_layers": 10**8}, ["num_hidden_layers", "10,000"]),
        ({"num_attention_heads": 33, "num_key_value_heads": 33}, ["num_attention_heads", "33", "divisor", "4096"]),
        ({"num_key_value_heads": 64}, ["num_key_value_heads", "64", "divisor of num_attention_heads = 32"]),
        ({"num_key_value_heads": 5}, ["num_key_value_heads", "5", "divisor of num_attention_heads = 32"]),
        ({"architectures": ["LlamaForCausalML"]}, ["architectures", "Did you mean 'LlamaForCausalLM'"]),
        ({"architectures": ["T5ForConditionalGeneration"]}, ["architectures", "is not known"]),
        ({"architectures": []}, ["architectures", "list of one name"]),
        ({"architectures": "LlamaForCausalLM"}, ["architectures", "list of one name"]),
        ({"atention_bias": True}, ["atention_bias", "Did you mean 'attention_bias'"]),
        ({"new_speedup": 3}, ["new_speedup", "is not known"]),
        ({"sliding_window": 4096}, ["sliding_window", "is not known"]),  # Llama has none: not silently dropped
        ({"attention_bias": "false"}, ["attention_bias", "true or false"]),
        ({"hidden_act": "relu2"}, ["hidden_act", "Did you mean 'relu'"]),
        ({"torch_dtype": "float64"}, ["torch_dtype", "Did you mean"]),
        ({"quantization_config": {"quant_method": "gtpq"}}, ["quantization_config.quant_method", "'gptq'"]),
        ({"quantization_config": {"quant_method": "gptq", "bits": 3}}, ["quantization_config.bits", "4 or 8"]),
        ({"quantization_config": {"quant_method": "gptq", "bits": 4, "dynamic": {}}}, ["quantization_config.dynamic"]),
        ({"quantization_config": {"quant_method": "mxfp4"}}, ["quant_method", "this model has none"]),
        ({"quantization_config": "fp8"}, ["quantization_config", "JSON object"]),
        (
            {"quantization_config": {"quant_method": "fp8", "ignored_layers": ["model.layers.0.mlp.down_proj"]}},
            ["quantization_config.ignored_layers", "down_proj", "mixed"],
        ),
        ({"quantization_config": {"quant_method": "fp8", "ignored_layers": "lm_head"}}, ["ignored_layers", "list"]),
        ({"quantization_config": {"quant_method": "awq", "bits": 4, "group_size": 0}}, ["group_size", "-1"]),
        (
            {"quantization_config": {"quant_method": "compressed-tensors", "config_groups": {"a": {}, "b": {}}}},
            ["config_groups", "2 groups"],
        ),
    ],
)
def test_refused_values(tmp_path, change, words):
    message = refused(tmp_path, LLAMA | change)
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    ("base", "change", "words"),
    [
        (MIXTRAL, {"num_experts_per_tok": 9}, ["num_experts_per_tok", "9", "at most the number of experts, 8"]),
        (DEEPSEEK_V3, {"topk_method": "random"}, ["topk_method", "random"]),
        (DEEPSEEK_V3, {"num_key_value_heads": 64}, ["num_key_value_heads", "128"]),
        (GPT_OSS, {"layer_types": ["sliding_attention"] * 23}, ["layer_types", "24 entries"]),
        (GPT_OSS, {"layer_types": ["linear_attention"] * 24}, ["layer_types", "linear_attention", "Accepted"]),
        (GPT_OSS, {"layer_types": [["x"]] * 24}, ["layer_types"]),
        (PHI3, {"layer_types": ["sliding_attention"] * 32, "sliding_window": None}, ["sliding_window"]),
        (QWEN2, {"layer_types": ["sliding_attention"] * 28}, ["sliding_window", "layer_types"]),
        (BERT, {"position_embedding_type": "relative_key"}, ["position_embedding_type", "'absolute'"]),
        (BERT, {"is_decoder": True}, ["is_decoder", "False"]),
        (QWEN3_MOE, {"mlp_only_layers": [48]}, ["mlp_only_layers", "0 to 47"]),
        (FALCON_40B, {"num_kv_heads": 3}, ["num_kv_heads", "divisor"]),
        (GPT2, {"n_head": 7}, ["n_head", "divisor"]),
        (LLAMA4, {"text_config": LLAMA4["text_config"] | {"depth": 1}}, ["text_config.depth", "is not known"]),
        (LLAMA4, {"text_config": None}, ["text_config", "JSON object"]),
    ],
)
def test_refused_values_of_other_architectures(tmp_path, base, change, words):
    message = refused(tmp_path, base | change)
    for word in words:
        assert word in message


@pytest.mark.parametrize("name", ["hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size"])
def test_missing_fields_are_named(tmp_path, name):
    assert f"field {name} is missing" in refused(tmp_path, {k: v for k, v in LLAMA.items() if k != name})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["not a JSON file"]),
        (json.dumps(LLAMA)[:-40], ["not a JSON file"]),
        ("[1, 2]", ["JSON list", "one object"]),
        ("3", ["JSON int"]),
        ('{"hidden_size": NaN}', ["NaN"]),
        ('{"hidden_size": -Infinity}', ["-Infinity"]),
        ('{"hidden_size": 1, "hidden_size": 2}', ["'hidden_size' appears twice"]),
        (json.dumps(LLAMA).replace('"hidden_size": 4096', '"hidden_size": 1e400'), ["hidden_size is inf"]),
        ("[" * 200_000, ["nested too deeply"]),
        ('{"a":' * 200_000, ["nested too deeply"]),
        ('{"hidden_size": ' + "9" * 10_000 + "}", ["not a JSON file"]),
    ],
)
def test_broken_files(tmp_path, text, words):
    message = refused(tmp_path, text)
    for word in words:
        assert word in message


def test_a_folder_name_cannot_reach_the_terminal(tmp_path):
    folder = tmp_path / "m\x1b[31m\n"
    folder.mkdir()
    loaded = load_model(write(folder, LLAMA))
    assert (loaded.model.name + loaded.source).isprintable()
    assert refused(folder, "{").isprintable()


def test_bytes_that_are_no_text(tmp_path):
    (tmp_path / "config.json").write_bytes(b"\xff\xfe{\x00}")
    with pytest.raises(RooflineError, match="not a JSON file"):
        load_model(tmp_path)


def test_a_huge_file_is_refused_unread(tmp_path, monkeypatch):
    file = tmp_path / "config.json"
    with file.open("wb") as handle:
        handle.truncate(100 * 1024**2)
    monkeypatch.setattr("pathlib.Path.read_bytes", lambda self: pytest.fail("the file was read"))
    with pytest.raises(RooflineError, match=f"{LARGEST_BYTE:,}"):
        load_model(file)


def test_a_folder_without_a_config_and_things_that_are_no_files(tmp_path):
    for path in (tmp_path, tmp_path / "config.json"):
        with pytest.raises(RooflineError, match="no such file"):
            load_model(path)
    os.mkfifo(tmp_path / "config.json")
    with pytest.raises(RooflineError, match="not a regular file"):
        load_config(tmp_path / "config.json")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(field=st.sampled_from(sorted(DEEPSEEK_V3)), value=json_values)
def test_any_value_in_any_field_gives_a_model_or_an_error(tmp_path_factory, field, value):
    file = write(tmp_path_factory.getbasetemp(), DEEPSEEK_V3 | {field: value})
    try:
        count = parameter_count(load_model(file).model)
    except RooflineError as error:
        assert field in str(error) or "config" in str(error)
    else:
        assert math.isfinite(count) and count > 0


@given(layers=st.integers(1, 50), heads=st.integers(1, 16), width=st.integers(1, 10_000), more=st.integers(1, 1000))
def test_a_wider_config_has_more_parameters(tmp_path_factory, layers, heads, width, more):
    def count(intermediate):
        config = LLAMA | {
            "num_hidden_layers": layers, "num_attention_heads": heads, "num_key_value_heads": heads,
            "hidden_size": 8 * heads, "intermediate_size": intermediate,
        }  # fmt: skip
        return parameter_count(load_model(write(tmp_path_factory.getbasetemp(), config)).model)

    assert count(width + more) - count(width) == 3 * layers * 8 * heads * more
