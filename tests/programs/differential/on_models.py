"""Whole models of transformers: random weights, one or two small layers, a training step or inference.

transformers is not a dependency of the tests; without it these cases are skipped.
"""

import torch
from made import mixed, whole

from support.differential import Call, Program, Skip, register

try:
    import transformers
except ImportError:
    transformers = None

TEXT = {"vocab_size": 32, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}
PIXELS = {"image_size": 8, "patch_size": 4, "num_channels": 3}
LLAMA = {**TEXT, **SMALL, "num_key_value_heads": 1, "max_position_embeddings": 32}


def tokens(length=6):
    return {"input_ids": whole(2, length, below=29) + 3}


def labelled(length=6):
    return tokens(length) | {"labels": tokens(length)["input_ids"]}


def uncached(length=6):
    return labelled(length) | {"use_cache": False}


def masked():
    return labelled() | {"attention_mask": torch.tensor([[1] * 6, [1, 1, 1, 1, 0, 0]])}


def image():
    return {"pixel_values": mixed(2, 3, 8, 8)}


def pair():
    return tokens() | {"decoder_input_ids": whole(2, 4, below=29) + 3, "use_cache": False}


# name -> configuration, its fields, model, inputs, does it train
MODELS = {
    # decoders
    "gpt2": (
        "GPT2Config",
        {**TEXT, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 16},
        "GPT2LMHeadModel",
        uncached,
        True,
    ),
    "llama": ("LlamaConfig", LLAMA, "LlamaForCausalLM", uncached, True),
    "qwen2": ("Qwen2Config", LLAMA, "Qwen2ForCausalLM", uncached, True),
    "gemma": ("GemmaConfig", {**LLAMA, "head_dim": 8}, "GemmaForCausalLM", uncached, True),
    "mistral": ("MistralConfig", {**LLAMA, "sliding_window": 4}, "MistralForCausalLM", uncached, False),
    "opt": (
        "OPTConfig",
        {
            **TEXT,
            "hidden_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "ffn_dim": 24,
            "max_position_embeddings": 16,
            "word_embed_proj_dim": 16,
            "dropout": 0.0,
        },
        "OPTForCausalLM",
        uncached,
        True,
    ),
    "gpt_neox": (
        "GPTNeoXConfig",
        {**TEXT, **SMALL, "max_position_embeddings": 16},
        "GPTNeoXForCausalLM",
        uncached,
        False,
    ),
    "bloom": (
        "BloomConfig",
        {**TEXT, "hidden_size": 16, "n_layer": 1, "n_head": 2},
        "BloomForCausalLM",
        uncached,
        False,
    ),
    "llama_with_cache": ("LlamaConfig", LLAMA, "LlamaForCausalLM", tokens, False),
    # mixture of experts, state space
    "mixtral": (
        "MixtralConfig",
        {**LLAMA, "num_local_experts": 2, "num_experts_per_tok": 1},
        "MixtralForCausalLM",
        uncached,
        True,
    ),
    "mamba": (
        "MambaConfig",
        {**TEXT, "hidden_size": 8, "num_hidden_layers": 1, "state_size": 4},
        "MambaForCausalLM",
        uncached,
        False,
    ),
    # encoders
    "bert": ("BertConfig", {**TEXT, **SMALL, "max_position_embeddings": 16}, "BertForMaskedLM", masked, True),
    "distilbert": (
        "DistilBertConfig",
        {**TEXT, "dim": 16, "n_layers": 1, "n_heads": 2, "hidden_dim": 24, "max_position_embeddings": 16},
        "DistilBertForMaskedLM",
        masked,
        True,
    ),
    "roberta": (
        "RobertaConfig",
        {**TEXT, **SMALL, "max_position_embeddings": 16},
        "RobertaModel",
        tokens,
        False,
    ),
    "albert": (
        "AlbertConfig",
        {**TEXT, **SMALL, "embedding_size": 8, "max_position_embeddings": 16},
        "AlbertModel",
        tokens,
        False,
    ),
    "electra": (
        "ElectraConfig",
        {**TEXT, **SMALL, "embedding_size": 8, "max_position_embeddings": 16},
        "ElectraModel",
        tokens,
        False,
    ),
    # encoder and decoder
    "t5": (
        "T5Config",
        {
            "vocab_size": 32,
            "pad_token_id": 0,
            "eos_token_id": 2,
            "decoder_start_token_id": 0,
            "d_model": 16,
            "d_kv": 8,
            "d_ff": 24,
            "num_layers": 1,
            "num_heads": 2,
        },
        "T5ForConditionalGeneration",
        pair,
        True,
    ),
    "bart": (
        "BartConfig",
        {
            **TEXT,
            "d_model": 16,
            "encoder_layers": 1,
            "decoder_layers": 1,
            "encoder_attention_heads": 2,
            "decoder_attention_heads": 2,
            "encoder_ffn_dim": 24,
            "decoder_ffn_dim": 24,
            "max_position_embeddings": 16,
        },
        "BartForConditionalGeneration",
        pair,
        True,
    ),
    # vision
    "vit": ("ViTConfig", {**SMALL, **PIXELS}, "ViTForImageClassification", image, True),
    "deit": ("DeiTConfig", {**SMALL, **PIXELS}, "DeiTModel", image, False),
    "swin": (
        "SwinConfig",
        {**PIXELS, "patch_size": 2, "embed_dim": 8, "depths": [1, 1], "num_heads": [1, 2], "window_size": 2},
        "SwinForImageClassification",
        image,
        False,
    ),
    "convnext": (
        "ConvNextConfig",
        {"num_channels": 3, "patch_size": 2, "hidden_sizes": [4, 8], "depths": [1, 1], "num_stages": 2},
        "ConvNextForImageClassification",
        image,
        False,
    ),
    "resnet": (
        "ResNetConfig",
        {"embedding_size": 4, "hidden_sizes": [4, 8], "depths": [1, 1], "layer_type": "basic"},
        "ResNetForImageClassification",
        image,
        True,
    ),
    # audio
    "whisper": (
        "WhisperConfig",
        {
            **TEXT,
            "d_model": 16,
            "encoder_layers": 1,
            "decoder_layers": 1,
            "encoder_attention_heads": 2,
            "decoder_attention_heads": 2,
            "encoder_ffn_dim": 24,
            "decoder_ffn_dim": 24,
            "num_mel_bins": 8,
            "max_source_positions": 8,
            "max_target_positions": 8,
            "decoder_start_token_id": 1,
        },
        "WhisperForConditionalGeneration",
        lambda: {
            "input_features": mixed(2, 8, 16),
            "decoder_input_ids": whole(2, 4, below=29) + 3,
            "use_cache": False,
        },
        False,
    ),
    "wav2vec2": (
        "Wav2Vec2Config",
        {
            **SMALL,
            "vocab_size": 32,
            "conv_dim": [8, 8],
            "conv_kernel": [4, 4],
            "conv_stride": [2, 2],
            "num_feat_extract_layers": 2,
            "num_conv_pos_embeddings": 4,
            "num_conv_pos_embedding_groups": 2,
            "feat_extract_norm": "layer",
        },
        "Wav2Vec2Model",
        lambda: {"input_values": mixed(2, 64)},
        False,
    ),
    # two kinds of input
    "clip": (
        "CLIPConfig",
        {
            "text_config": {**SMALL, **TEXT, "max_position_embeddings": 16},
            "vision_config": {**SMALL, **PIXELS},
            "projection_dim": 8,
        },
        "CLIPModel",
        lambda: {**tokens(), **image()},
        False,
    ),
}


def model_program(configuration, fields, model, inputs, trains):
    if transformers is None:
        raise Skip("transformers is not installed")
    torch.manual_seed(0)
    try:
        config = getattr(transformers, configuration)(**fields)
        net = getattr(transformers, model)(config)
    except (AttributeError, ImportError) as error:
        raise Skip(f"this transformers has no such model: {error}") from error
    # modes that draw random numbers are cases of their own
    net.eval()
    if trains:
        return Program(target=net, calls=[Call((), inputs()), Call((), inputs())], train=True)
    return Program(target=net, calls=[Call((), inputs(), inside=torch.no_grad)] * 2)


for name, fields in MODELS.items():
    register(__name__, name, lambda fields=fields: model_program(*fields))


def gpt2_in_training_mode():
    build = model_program(*MODELS["gpt2"])
    build.target.train()
    return build


def llama_of_two_lengths():
    build = model_program(*MODELS["llama"])
    calls = [Call((), uncached(n), backward=0) for n in (5, 6, 7)]
    return Program(target=build.target, calls=calls)


def bert_block_by_block():
    build = model_program(*MODELS["bert"])
    for layer in build.target.bert.encoder.layer:
        layer.compile()
    return Program(
        target=build.target.forward, how="already", calls=build.calls, train=True, state=lambda: build.target
    )


for build in (gpt2_in_training_mode, llama_of_two_lengths, bert_block_by_block):
    register(__name__, build.__name__, build)
