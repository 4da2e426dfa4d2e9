//! `config.json` as released checkpoints have it, in the keys that matter.

use isr_api::Frames;
use serde_json::json;

use super::{Family, parse_config};
use crate::model::ModelConfig;
use crate::model::config::VisionConfig;
use crate::model::prompt_layout::FeatureBlock;

fn parse(source: &str) -> ModelConfig {
    parse_config(serde_json::from_str(source).unwrap()).unwrap()
}

fn family(config: &ModelConfig) -> &str {
    Family::of(&config.source).unwrap().model_type
}

fn frames(count: usize, width: u32, height: u32) -> Frames {
    let rgb = vec![0; count * (width * height * 3) as usize];
    Frames::new(width, height, rgb, (0..count).map(|t| t as f64 / 2.0).collect()).unwrap()
}

/// `Qwen/Qwen2.5-VL-7B-Instruct`: the decoder's settings stand at the top level.
#[test]
fn qwen2_5_vl_7b_is_read() {
    let config = parse(
        r#"{
        "architectures": ["Qwen2_5_VLForConditionalGeneration"], "attention_dropout": 0.0,
        "bos_token_id": 151643, "eos_token_id": 151645, "vision_start_token_id": 151652,
        "vision_end_token_id": 151653, "vision_token_id": 151654, "image_token_id": 151655,
        "video_token_id": 151656, "hidden_act": "silu", "hidden_size": 3584, "initializer_range": 0.02,
        "intermediate_size": 18944, "max_position_embeddings": 128000, "max_window_layers": 28,
        "model_type": "qwen2_5_vl", "num_attention_heads": 28, "num_hidden_layers": 28,
        "num_key_value_heads": 4, "rms_norm_eps": 1e-06, "rope_theta": 1000000.0, "sliding_window": 32768,
        "tie_word_embeddings": false, "torch_dtype": "bfloat16", "use_cache": true,
        "use_sliding_window": false, "vision_config": {
            "depth": 32, "hidden_act": "silu", "hidden_size": 1280, "intermediate_size": 3420,
            "num_heads": 16, "in_chans": 3, "out_hidden_size": 3584, "patch_size": 14,
            "spatial_merge_size": 2, "spatial_patch_size": 14, "window_size": 112,
            "fullatt_block_indexes": [7, 15, 23, 31], "tokens_per_second": 2, "temporal_patch_size": 2
        },
        "rope_scaling": { "type": "mrope", "mrope_section": [16, 24, 24] }, "vocab_size": 152064
    }"#,
    );
    assert_eq!((family(&config), config.text.head_dim(), config.text.kv_heads()), ("qwen2_5_vl", 128, 4));
    assert!(config.text.has_qkv_bias() && !config.text.has_out_bias() && !config.text.has_qk_norm());
    assert_eq!(config.text.axes().unwrap().unwrap()[14..18], [0, 0, 1, 1]);
    // 8 frames of 448x336 at 2 a second: 4 steps of 12x16 features, a second apart.
    assert_eq!(config.feature_shape(&frames(8, 448, 336)).unwrap(), [4, 192, 3584]);
    let layout = config.layout(&frames(8, 448, 336)).unwrap();
    let [FeatureBlock::Grid(grid)] = layout.blocks.as_slice() else { panic!("{layout:?}") };
    assert_eq!((grid.steps, grid.rows, grid.columns, grid.interval), (4, 12, 16, 2.0));
}

/// `Qwen/Qwen3-VL-8B-Instruct`.
#[test]
fn qwen3_vl_8b_is_read() {
    let config = parse(
        r#"{
        "architectures": ["Qwen3VLForConditionalGeneration"], "image_token_id": 151655,
        "model_type": "qwen3_vl", "text_config": {
            "attention_bias": false, "attention_dropout": 0.0, "bos_token_id": 151643, "dtype": "bfloat16",
            "eos_token_id": 151645, "head_dim": 128, "hidden_act": "silu", "hidden_size": 4096,
            "initializer_range": 0.02, "intermediate_size": 12288, "max_position_embeddings": 262144,
            "model_type": "qwen3_vl_text", "num_attention_heads": 32, "num_hidden_layers": 36,
            "num_key_value_heads": 8, "rms_norm_eps": 1e-06, "rope_scaling": {
                "mrope_interleaved": true, "mrope_section": [24, 20, 20], "rope_type": "default"
            },
            "rope_theta": 5000000, "use_cache": true, "vocab_size": 151936
        },
        "tie_word_embeddings": false, "video_token_id": 151656, "vision_config": {
            "deepstack_visual_indexes": [8, 16, 24], "depth": 27, "hidden_act": "gelu_pytorch_tanh",
            "hidden_size": 1152, "in_channels": 3, "initializer_range": 0.02, "intermediate_size": 4304,
            "model_type": "qwen3_vl", "num_heads": 16, "num_position_embeddings": 2304,
            "out_hidden_size": 4096, "patch_size": 16, "spatial_merge_size": 2, "temporal_patch_size": 2
        },
        "vision_end_token_id": 151653, "vision_start_token_id": 151652
    }"#,
    );
    assert!(config.text.has_qk_norm() && !config.text.has_qkv_bias());
    assert_eq!(config.text.theta(), 5e6);
    let axes = config.text.axes().unwrap().unwrap();
    assert_eq!((&axes[..4], &axes[57..62]), ([0, 1, 2, 0].as_slice(), [0, 1, 2, 0, 0].as_slice()));
    assert_eq!(config.feature_shape(&frames(7, 320, 256)).unwrap(), [4, 80, 4 * 4096]);
    let text = config.layout(&frames(7, 320, 256)).unwrap().text.unwrap();
    assert!(
        text.starts_with("<0.2 seconds><|vision_start|><|video_pad|><|vision_end|><1.2 seconds>"),
        "{text}"
    );
    assert!(text.contains("<3.0 seconds>"), "{text}");
}

/// `llava-hf/LLaVA-NeXT-Video-7B-hf`: the decoder is Vicuna's, and named only.
#[test]
fn llava_next_video_7b_is_read() {
    let config = parse(
        r#"{
        "architectures": ["LlavaNextVideoForConditionalGeneration"], "ignore_index": -100,
        "image_token_index": 32001, "video_token_index": 32000, "model_type": "llava_next_video",
        "projector_hidden_act": "gelu", "spatial_pool_mode": "average", "spatial_pool_stride": 2,
        "text_config": {
            "_name_or_path": "lmsys/vicuna-7b-v1.5", "architectures": ["LlamaForCausalLM"],
            "max_position_embeddings": 4096, "model_type": "llama", "pad_token_id": 0,
            "rms_norm_eps": 1e-05, "torch_dtype": "float16", "vocab_size": 32064
        },
        "vision_config": {
            "hidden_size": 1024, "image_size": 336, "intermediate_size": 4096,
            "model_type": "clip_vision_model", "num_attention_heads": 16, "num_hidden_layers": 24,
            "patch_size": 14, "projection_dim": 768, "vocab_size": 32000
        },
        "vision_feature_layer": -2, "vision_feature_select_strategy": "default"
    }"#,
    );
    assert_eq!((config.text.hidden_size, config.text.num_hidden_layers), (4096, 32));
    let VisionConfig::Clip(vision) = &config.vision else { panic!("{:?}", config.vision) };
    assert_eq!(vision.feature_layers, [23]);
    assert_eq!(config.feature_shape(&frames(8, 640, 360)).unwrap(), [8, 144, 1024]);
}

/// `ShareGPTVideo/LLaVA-Hound-DPO`, its tower's shape known.
#[test]
fn llava_hound_7b_is_read() {
    let config = parse(
        r#"{
        "X": ["Image", "Video"], "architectures": ["LlavaLlamaForCausalLM"], "bos_token_id": 1,
        "eos_token_id": 2, "hidden_act": "silu", "hidden_size": 4096, "image_aspect_ratio": "pad",
        "intermediate_size": 11008, "max_position_embeddings": 4096, "mm_hidden_size": 1024,
        "mm_image_tower": "LanguageBind/LanguageBind_Image", "mm_projector_type": "mlp2x_gelu",
        "mm_use_x_patch_token": false, "mm_use_x_start_end": false,
        "mm_video_tower": "LanguageBind/LanguageBind_Video_merge", "mm_vision_select_feature": "patch",
        "mm_vision_select_layer": -2, "model_type": "llava", "num_attention_heads": 32,
        "num_hidden_layers": 32, "num_key_value_heads": 32, "rms_norm_eps": 1e-05, "rope_scaling": null,
        "tie_word_embeddings": false, "vocab_size": 32000, "vision_config": {
            "add_time_attn": true, "hidden_act": "gelu", "hidden_size": 1024, "image_size": 224,
            "intermediate_size": 4096, "model_type": "clip_vision_model", "num_attention_heads": 16,
            "num_frames": 8, "num_hidden_layers": 24, "patch_size": 14
        }
    }"#,
    );
    assert_eq!((family(&config), config.tower()), ("llava_llama", "video_tower."));
    assert_eq!(config.feature_shape(&frames(8, 336, 189)).unwrap(), [8, 256, 1024]);
}

/// `llava-hf/llava-onevision-qwen2-7b-ov-hf`.
#[test]
fn llava_onevision_7b_is_read() {
    let config = parse(
        r#"{
        "architectures": ["LlavaOnevisionForConditionalGeneration"], "ignore_index": -100,
        "image_grid_pinpoints": [[384, 384]], "image_token_index": 151646, "model_type": "llava_onevision",
        "projector_hidden_act": "gelu", "text_config": {
            "_name_or_path": "Qwen/Qwen2-7B-Instruct", "architectures": ["Qwen2ForCausalLM"],
            "bos_token_id": 151643, "eos_token_id": 151645, "hidden_size": 3584, "intermediate_size": 18944,
            "model_type": "qwen2", "num_attention_heads": 28, "num_hidden_layers": 28,
            "num_key_value_heads": 4, "rope_theta": 1000000.0, "torch_dtype": "bfloat16",
            "vocab_size": 152000
        },
        "tie_word_embeddings": false, "use_image_newline_parameter": true, "video_token_index": 151647,
        "vision_aspect_ratio": "anyres_max_9", "vision_config": {
            "hidden_size": 1152, "image_size": 384, "intermediate_size": 4304,
            "model_type": "siglip_vision_model", "num_attention_heads": 16, "num_hidden_layers": 26,
            "patch_size": 14, "vision_use_head": false
        },
        "vision_feature_layer": -1, "vision_feature_select_strategy": "full"
    }"#,
    );
    assert!(config.text.has_qkv_bias());
    assert_eq!(config.tower_layers(), 26);
    // The tower's 27 x 27 features are pooled to 14 x 14 behind the projector; a newline ends the video.
    assert_eq!(config.feature_shape(&frames(8, 640, 360)).unwrap(), [8, 729, 1152]);
    let layout = config.layout(&frames(8, 640, 360)).unwrap();
    assert_eq!(layout.blocks, [FeatureBlock::Lines { count: 1, length: 8 * 196 }]);
    assert_eq!((layout.blocks[0].len(), layout.text), (8 * 196 + 1, None));
}

/// `OpenGVLab/InternVL3-8B-hf`, whose config leaves out what is the default.
#[test]
fn internvl3_8b_is_read() {
    let config = parse(
        r#"{
        "architectures": ["InternVLForConditionalGeneration"], "downsample_ratio": 0.5,
        "image_seq_length": 256, "image_token_id": 151667, "model_type": "internvl",
        "projector_hidden_act": "gelu", "text_config": {
            "architectures": ["Qwen2ForCausalLM"], "bos_token_id": 151643, "eos_token_id": 151645,
            "hidden_size": 3584, "intermediate_size": 18944, "max_position_embeddings": 32768,
            "max_window_layers": 70, "model_type": "qwen2", "num_attention_heads": 28,
            "num_hidden_layers": 28, "num_key_value_heads": 4, "rms_norm_eps": 1e-06,
            "rope_theta": 1000000.0, "sliding_window": null, "use_sliding_window": false,
            "vocab_size": 151674
        },
        "vision_config": {
            "architectures": ["InternVisionModel"], "attention_bias": true, "hidden_act": "gelu",
            "hidden_size": 1024, "image_size": [448, 448], "intermediate_size": 4096,
            "layer_norm_eps": 1e-06, "layer_scale_init_value": 0.1, "model_type": "internvl_vision",
            "norm_type": "layer_norm", "num_attention_heads": 16, "num_hidden_layers": 24,
            "patch_size": [14, 14], "use_absolute_position_embeddings": true, "use_mask_token": false,
            "use_mean_pooling": true, "use_qk_norm": false
        },
        "vision_feature_layer": -1, "vision_feature_select_strategy": "default"
    }"#,
    );
    assert_eq!((config.tower_layers(), config.tower()), (24, "vision_tower."));
    assert_eq!(config.feature_shape(&frames(3, 640, 360)).unwrap(), [3, 256, 4096]);
    let layout = config.layout(&frames(2, 640, 360)).unwrap();
    assert_eq!(layout.blocks, [FeatureBlock::Row(256); 2]);
    let text = "Frame1: <img><IMG_CONTEXT></img>\nFrame2: <img><IMG_CONTEXT></img>";
    assert_eq!(layout.text.as_deref(), Some(text));
}

/// `lmms-lab/LLaVA-Video-7B-Qwen2`, its tower's shape known.
fn llava_video_7b() -> serde_json::Value {
    serde_json::from_str(
        r#"{
        "add_faster_video": false, "add_time_instruction": true, "architectures": ["LlavaQwenForCausalLM"],
        "bos_token_id": 151643, "eos_token_id": 151645, "faster_token_stride": 10, "force_sample": true,
        "hidden_act": "silu", "hidden_size": 3584, "image_aspect_ratio": "anyres_max_9",
        "intermediate_size": 18944, "max_position_embeddings": 32768, "max_window_layers": 28,
        "mm_hidden_size": 1152, "mm_newline_position": "grid", "mm_patch_merge_type": "spatial_unpad",
        "mm_projector_type": "mlp2x_gelu", "mm_resampler_type": null, "mm_spatial_pool_mode": "bilinear",
        "mm_spatial_pool_stride": 2, "mm_use_im_patch_token": false, "mm_use_im_start_end": false,
        "mm_vision_select_feature": "patch", "mm_vision_select_layer": -2,
        "mm_vision_tower": "google/siglip-so400m-patch14-384", "model_type": "llava",
        "num_attention_heads": 28, "num_hidden_layers": 28, "num_key_value_heads": 4, "rms_norm_eps": 1e-06,
        "rope_scaling": null, "rope_theta": 1000000.0, "sliding_window": 131072,
        "tie_word_embeddings": false, "use_sliding_window": false, "vocab_size": 152064,
        "vision_config": {
            "model_type": "siglip_vision_model", "hidden_size": 1152, "image_size": 384,
            "intermediate_size": 4304, "num_attention_heads": 16, "num_hidden_layers": 26, "patch_size": 14
        }
    }"#,
    )
    .unwrap()
}

#[test]
fn llava_video_7b_is_read() {
    let config = parse_config(llava_video_7b()).unwrap();
    assert_eq!(
        (family(&config), config.tower(), config.tower_layers()),
        ("llava_qwen", "vision_tower.", 26)
    );
    assert_eq!(config.feature_shape(&frames(3, 640, 360)).unwrap(), [3, 729, 1152]);
    let layout = config.layout(&frames(3, 640, 360)).unwrap();
    // A newline behind each row of 14.
    assert_eq!(layout.blocks, [FeatureBlock::Lines { count: 3 * 14, length: 14 }]);
    let text = "<image>\nThe video lasts for 1.50 seconds, and 3 frames are uniformly sampled from it. These frames are \
                located at 0.00s,0.50s,1.00s.Please answer the following questions related to this video.";
    assert_eq!(layout.text.as_deref(), Some(text));
}

#[test]
fn what_llava_next_does_not_compute_is_refused() {
    for (key, value, named) in [
        ("add_faster_video", json!(true), "add_faster_video"),
        ("mm_projector_type", json!("pooler"), "`pooler`"),
        ("mm_resampler_type", json!("perceiver"), "`perceiver`"),
        ("mm_spatial_pool_mode", json!("conv"), "`conv`"),
        ("mm_spatial_pool_stride", json!(28), "of 27 patches"),
        ("mm_newline_position", json!("column"), "`column`"),
        ("mm_patch_merge_type", json!("spatial"), "needs mm_patch_merge_type spatial_unpad"),
        ("mm_patch_merge_type", json!("other"), "`other`"),
        ("mm_vision_tower", json!(null), "names no tower"),
        ("vision_config", json!(null), "siglip-so400m-patch14-384"),
    ] {
        let mut source = llava_video_7b();
        source[key] = value;
        let error = parse_config(source).unwrap_err();
        assert!(error.contains(named), "{key}: {error}");
    }
}

#[test]
fn what_videos_of_siglip_and_internvl_do_not_have_is_refused() {
    let text = json!({ "model_type": "qwen2" });
    let with = |kind: &str, key: &str, value: serde_json::Value| {
        let mut source = json!({ "model_type": kind, "text_config": text, "vision_config": {} });
        match key.split_once('.') {
            Some((section, key)) => source[section][key] = value,
            None => source[key] = value,
        }
        parse_config(source)
    };
    for (kind, key, value, named) in [
        ("llava_onevision", "vision_feature_select_strategy", json!("default"), "`default`"),
        ("llava_onevision", "vision_config.model_type", json!("clip_vision_model"), "`clip_vision_model`"),
        ("llava_onevision", "vision_config.num_attention_heads", json!(7), "multiple of 7"),
        ("llava_onevision", "vision_feature_layer", json!(40), "[40]"),
        ("internvl", "vision_feature_select_strategy", json!("full"), "`full`"),
        ("internvl", "downsample_ratio", json!(0.3), "0.3"),
        ("internvl", "downsample_ratio", json!(0.2), "32 patches"),
        ("internvl", "vision_feature_layer", json!([1, 2]), "[1,2]"),
        ("internvl", "vision_feature_layer", json!(-40), "-40"),
        ("internvl", "vision_config.image_size", json!([448, 224]), "[448,224]"),
        ("internvl", "vision_config.norm_type", json!("batch_norm"), "`batch_norm`"),
    ] {
        let error = with(kind, key, value).unwrap_err();
        assert!(error.contains(named), "{kind} {key}: {error}");
    }
    assert!(with("internvl", "downsample_ratio", json!(0.25)).is_ok());
    assert!(with("llava_onevision", "vision_feature_layer", json!(null)).is_ok());
}

#[test]
fn settings_without_a_size_are_refused() {
    let text = json!({ "model_type": "llama" });
    let clip = |patch: i64| json!({ "image_size": 56, "patch_size": patch });
    let llava = |patch: i64| json!({ "model_type": "llava", "image_token_index": 1, "text_config": text, "vision_config": clip(patch) });
    assert!(parse_config(llava(14)).is_ok());
    assert!(parse_config(llava(0)).unwrap_err().contains("patch_size is 0"));
    assert!(parse_config(llava(57)).unwrap_err().contains("patch_size is 57; it must be from 1 to 56"));
    let mut next = llava(14);
    next["model_type"] = json!("llava_next_video");
    next["video_token_index"] = json!(2);
    next["spatial_pool_stride"] = json!(9);
    assert!(parse_config(next).unwrap_err().contains("spatial_pool_stride is 9"));
    let vision = json!({ "deepstack_visual_indexes": [3, 40], "out_hidden_size": 4096 });
    let qwen = json!({ "model_type": "qwen3_vl", "video_token_id": 1, "text_config": {}, "vision_config": vision });
    assert!(parse_config(qwen).unwrap_err().contains("deepstack_visual_indexes [3, 40]"));
}

#[test]
fn sizes_of_towers_that_are_none_are_named() {
    let clip = |key: &str, value: i64| {
        let mut vision = json!({ "image_size": 56, "patch_size": 14 });
        vision[key] = json!(value);
        let text = json!({ "model_type": "llama" });
        parse_config(
            json!({ "model_type": "llava", "image_token_index": 1, "text_config": text, "vision_config": vision }),
        )
    };
    for (key, value) in [
        ("hidden_size", 0),
        ("hidden_size", 770),
        ("num_attention_heads", 0),
        ("num_hidden_layers", i64::MAX),
        ("image_size", i64::MAX),
        ("patch_size", -1),
        ("num_frames", 0),
    ] {
        let error = clip(key, value).unwrap_err();
        assert!(error.contains(&format!("vision_config.{key} is {value}")), "{error}");
    }
    let qwen = |kind: &str, key: &str, value: i64| {
        let mut vision = json!({ "out_hidden_size": 4096, "deepstack_visual_indexes": [] });
        vision[key] = json!(value);
        let text = json!({ "hidden_size": 4096, "num_attention_heads": 32, "num_key_value_heads": 32, "head_dim": 128 });
        parse_config(
            json!({ "model_type": kind, "video_token_id": 1, "text_config": text, "vision_config": vision }),
        )
    };
    assert!(qwen("qwen2_5_vl", "depth", 32).is_ok() && qwen("qwen3_vl", "depth", 27).is_ok());
    for (kind, key, value) in [
        ("qwen2_5_vl", "num_heads", 0),
        ("qwen2_5_vl", "hidden_size", 1281),
        ("qwen2_5_vl", "patch_size", 0),
        ("qwen2_5_vl", "temporal_patch_size", i64::MAX),
        ("qwen2_5_vl", "spatial_merge_size", 1 << 40),
        ("qwen2_5_vl", "window_size", 0),
        ("qwen2_5_vl", "window_size", 27),
        ("qwen2_5_vl", "tokens_per_second", -1),
        ("qwen2_5_vl", "depth", i64::MAX),
        ("qwen3_vl", "num_position_embeddings", 0),
        ("qwen3_vl", "num_position_embeddings", 2305),
        ("qwen3_vl", "intermediate_size", -5),
    ] {
        let error = qwen(kind, key, value).unwrap_err();
        assert!(error.contains(&format!("vision_config.{key} is {value}")), "{error}");
    }
}

#[test]
fn an_unknown_family_is_named_beside_the_known() {
    let error = parse_config(json!({ "model_type": "internvl_chat" })).unwrap_err();
    assert!(error.contains("`internvl_chat`") && error.contains("qwen3_vl"), "{error}");
}
