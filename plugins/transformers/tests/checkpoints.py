"""Tiny random checkpoints of families, with the tokenizer of tests/golden and templates of the families' form."""

import warnings
from pathlib import Path

import torch
from transformers import (Gemma3Config, Gemma3ImageProcessor, Gemma3Processor, Glm4vConfig, Glm4vImageProcessor,
                          Glm4vProcessor, InternVLConfig, InternVLProcessor, LlavaOnevisionConfig,
                          LlavaOnevisionImageProcessor, LlavaOnevisionProcessor, PreTrainedTokenizerFast, Qwen2VLConfig,
                          Qwen2VLImageProcessor, Qwen2VLProcessor, SmolVLMConfig, SmolVLMImageProcessor, SmolVLMProcessor)
from transformers import AutoModelForImageTextToText, GenerationConfig, GotOcr2ImageProcessor
from transformers.models.glm4v.video_processing_glm4v import Glm4vVideoProcessor
from transformers.models.internvl.video_processing_internvl import InternVLVideoProcessor
from transformers.models.llava_onevision.video_processing_llava_onevision import LlavaOnevisionVideoProcessor
from transformers.models.qwen2_vl.video_processing_qwen2_vl import Qwen2VLVideoProcessor
from transformers.models.smolvlm.video_processing_smolvlm import SmolVLMVideoProcessor

TOKENIZER = Path(__file__).resolve().parents[3] / "tests" / "golden" / "tiny_qwen3_vl" / "tokenizer.json"
FAMILIES = ["qwen2_vl", "llava_onevision", "internvl", "smolvlm", "gemma3", "glm4v"]

PARTS = ("{{% for c in m['content'] %}}{{% if c['type'] == 'image' %}}{image}{{% elif c['type'] == 'video' %}}{video}"
         "{{% else %}}{{{{ c['text'] }}}}{{% endif %}}{{% endfor %}}")
CHATML = ("{{% for m in messages %}}<|im_start|>{{{{ m['role'] }}}}\n" + PARTS + "<|im_end|>\n{{% endfor %}}"
          "{{% if add_generation_prompt %}}<|im_start|>assistant\n{{% endif %}}")
GEMMA = ("<bos>{{% for m in messages %}}<start_of_turn>{{{{ 'model' if m['role'] == 'assistant' else m['role'] }}}}\n" + PARTS +
         "<end_of_turn>\n{{% endfor %}}{{% if add_generation_prompt %}}<start_of_turn>model\n{{% endif %}}")
GLM = ("[gMASK]<sop>{{% for m in messages %}}<|{{{{ m['role'] }}}}|>\n" + PARTS + "{{% endfor %}}"
       "{{% if add_generation_prompt %}}<|assistant|>\n{{% endif %}}")
SMOL = ("<|im_start|>{{% for m in messages %}}{{{{ m['role'] | capitalize }}}}: " + PARTS + "<end_of_utterance>\n"
        "{{% endfor %}}{{% if add_generation_prompt %}}Assistant:{{% endif %}}")

TEXT = {"vocab_size": 2048, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "max_position_embeddings": 4096}
VISION = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}


def tokenizer(eos, named, *others):
    """The tokenizer of tests/golden with further special tokens, of which some have names."""
    made = PreTrainedTokenizerFast(tokenizer_file=str(TOKENIZER), eos_token=eos, pad_token="<|endoftext|>",
                                   extra_special_tokens=named)
    made.add_special_tokens({"additional_special_tokens": [*named.values(), eos, *others]}, False)
    return made


def make(family, folder):
    """Writes the checkpoint of a family; returns its folder."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        config, processor, stops = globals()[family]()
    config._attn_implementation = "eager"
    torch.manual_seed(7)
    model = AutoModelForImageTextToText.from_config(config, dtype=torch.float32).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            noise = torch.randn_like(weight)
            if weight.ndim < 2:
                weight.copy_(0.1 * noise + float(name.endswith("weight") and family != "gemma3"))
            else:
                embedding = 0.2 if family == "gemma3" else 0.5  # Gemma's is its output layer too
                scale = (4.0 if "head" in name else 1.0) / weight[0].numel() ** 0.5
                weight.copy_(noise * (embedding if "embed" in name else scale))
    ids = processor.tokenizer.convert_tokens_to_ids(stops)
    model.generation_config = GenerationConfig(eos_token_id=ids, pad_token_id=processor.tokenizer.pad_token_id)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def qwen2_vl():
    tokens = tokenizer("<|im_end|>", {})
    sizes = {"shortest_edge": 28 * 28, "longest_edge": 56 * 84}
    template = CHATML.format(image="<|vision_start|><|image_pad|><|vision_end|>",
                             video="<|vision_start|><|video_pad|><|vision_end|>")
    processor = Qwen2VLProcessor(Qwen2VLImageProcessor(size=sizes), tokens,
                                 Qwen2VLVideoProcessor(size={**sizes, "longest_edge": 4 * 56 * 84}), template)
    ids = {f"{name}_token_id": tokens.convert_tokens_to_ids(token) for name, token in
           {"image": "<|image_pad|>", "video": "<|video_pad|>", "vision_start": "<|vision_start|>",
            "vision_end": "<|vision_end|>"}.items()}
    text = {**TEXT, "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3]}}
    vision = {"depth": 2, "embed_dim": 32, "hidden_size": 64, "num_heads": 2}
    return Qwen2VLConfig(text_config=text, vision_config=vision, **ids), processor, ["<|im_end|>"]


def llava_onevision():
    tokens = tokenizer("<|im_end|>", {"image_token": "<image>", "video_token": "<video>"})
    size = {"height": 56, "width": 56}
    processor = LlavaOnevisionProcessor(
        LlavaOnevisionImageProcessor(size=size, image_grid_pinpoints=[[56, 56]]), tokens,
        LlavaOnevisionVideoProcessor(size=size), num_image_tokens=16, vision_feature_select_strategy="full",
        chat_template=CHATML.format(image="<image>", video="<video>"))
    config = LlavaOnevisionConfig(
        text_config={**TEXT, "model_type": "qwen2"}, image_grid_pinpoints=[[56, 56]],
        vision_config={**VISION, "model_type": "siglip_vision_model", "image_size": 56, "patch_size": 14,
                       "vision_use_head": False},
        image_token_index=tokens.image_token_id, video_token_index=tokens.video_token_id)
    return config, processor, ["<|im_end|>"]


def internvl():
    tokens = tokenizer("<|im_end|>", {"start_image_token": "<img>", "end_image_token": "</img>",
                                      "context_image_token": "<IMG_CONTEXT>", "video_token": "<video>"})
    size = {"height": 56, "width": 56}
    processor = InternVLProcessor(
        GotOcr2ImageProcessor(size=size), tokens, InternVLVideoProcessor(size=size), image_seq_length=4,
        chat_template=CHATML.format(image="<IMG_CONTEXT>", video="<video>"))
    config = InternVLConfig(
        text_config={**TEXT, "model_type": "qwen2"}, image_seq_length=4, image_token_id=tokens.context_image_token_id,
        vision_config={**VISION, "image_size": [56, 56], "patch_size": [14, 14]}, tie_word_embeddings=False)
    return config, processor, ["<|im_end|>"]


def smolvlm():
    tokens = tokenizer("<end_of_utterance>",
                       {"image_token": "<image>", "video_token": "<video>", "fake_image_token": "<fake_token_around_image>",
                        "global_image_token": "<global-img>", "end_of_utterance_token": "<end_of_utterance>"})
    size = {"longest_edge": 56}
    processor = SmolVLMProcessor(
        SmolVLMImageProcessor(size=size, max_image_size=size, do_image_splitting=False), tokens,
        SmolVLMVideoProcessor(size=size, max_image_size=size), image_seq_len=4,
        chat_template=SMOL.format(image="<image>", video="<video>"))
    config = SmolVLMConfig(
        text_config={**TEXT, "model_type": "llama", "pad_token_id": tokens.pad_token_id},
        vision_config={**VISION, "image_size": 56, "patch_size": 14}, image_token_id=tokens.image_token_id)
    return config, processor, ["<end_of_utterance>"]


def gemma3():
    tokens = tokenizer("<end_of_turn>", {"image_token": "<image_soft_token>", "boi_token": "<start_of_image>",
                                         "eoi_token": "<end_of_image>"}, "<bos>", "<start_of_turn>")
    tokens.bos_token = "<bos>"
    processor = Gemma3Processor(
        Gemma3ImageProcessor(size={"height": 56, "width": 56}), tokens, image_seq_length=4,
        chat_template=GEMMA.format(image="<start_of_image>", video=""))
    # A window that prompts exceed, so that caches slide.
    text = {**TEXT, "head_dim": 16, "query_pre_attn_scalar": 16, "sliding_window": 32,
            "layer_types": ["sliding_attention", "full_attention"], "pad_token_id": tokens.pad_token_id}
    config = Gemma3Config(
        text_config=text, mm_tokens_per_image=4, image_token_index=tokens.image_token_id,
        vision_config={**VISION, "image_size": 56, "patch_size": 14, "vision_use_head": False},
        boi_token_index=tokens.boi_token_id, eoi_token_index=tokens.eoi_token_id)
    return config, processor, ["<end_of_turn>"]


def glm4v():
    named = {"image_token": "<|image|>", "video_token": "<|video|>"}
    tokens = tokenizer("<|endoftext|>", named, "[gMASK]", "<sop>", "<|user|>", "<|assistant|>", "<|system|>",
                       "<|begin_of_image|>", "<|end_of_image|>", "<|begin_of_video|>", "<|end_of_video|>")
    sizes = {"shortest_edge": 28 * 28, "longest_edge": 4 * 56 * 84}
    processor = Glm4vProcessor(
        Glm4vImageProcessor(size=sizes), tokens, Glm4vVideoProcessor(size=sizes, max_image_size=sizes),
        GLM.format(image="<|begin_of_image|><|image|><|end_of_image|>",
                   video="<|begin_of_video|><|video|><|end_of_video|>"))
    ids = {f"{name}_token_id": tokens.convert_tokens_to_ids(token) for name, token in
           {"image": "<|image|>", "video": "<|video|>", "image_start": "<|begin_of_image|>",
            "image_end": "<|end_of_image|>", "video_start": "<|begin_of_video|>", "video_end": "<|end_of_video|>"}.items()}
    config = Glm4vConfig(
        text_config={**TEXT, "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3]}},
        vision_config={"depth": 2, "hidden_size": 32, "out_hidden_size": 64, "num_heads": 2, "intermediate_size": 48,
                       "image_size": 56}, **ids)
    return config, processor, ["<|endoftext|>", "<|user|>"]


# What chat templates of reasoning models write: Qwen3-VL-Thinking opens the reasoning in the prompt and writes an empty one
# before the last answer; GLM-4.1V-Thinking has one form of turns; InternVL3.5 is asked to reason by its system prompt.
TURN = "{{% for m in messages %}}<|im_start|>{{{{ m['role'] }}}}\n{before}" + PARTS + "<|im_end|>\n{{% endfor %}}"
EMPTY = "{% if m['role'] == 'assistant' and loop.last %}<think>\n\n</think>\n\n{% endif %}"
ASKS = "{% if add_generation_prompt %}<|im_start|>assistant\nOPENING{% endif %}"


def reasoning_template(before, opening):
    return TURN.format(before=before, image="<|image_pad|>", video="<|video_pad|>") + ASKS.replace("OPENING", opening)


REASONING = {
    "opened": reasoning_template(EMPTY, "<think>\n"),
    "hybrid": reasoning_template(EMPTY, ""),
    "plain": reasoning_template("", "<think>"),
    "none": reasoning_template("", ""),
}
