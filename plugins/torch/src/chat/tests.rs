//! Chat templates as checkpoints on the hub have them.

use std::path::{Path, PathBuf};

use isr_api::{Continuation, Frames, Prompt, VideoInput};

use super::{Chat, Rendered};
use crate::model::families::read_config;
use crate::model::{ModelConfig, Slot};

/// `Qwen/Qwen2.5-VL-7B-Instruct`.
const QWEN: &str = "{% set image_count = namespace(value=0) %}{% set video_count = namespace(value=0) %}\
    {% for message in messages %}{% if loop.first and message['role'] != 'system' %}<|im_start|>system\nYou \
    are a helpful assistant.<|im_end|>\n{% endif %}<|im_start|>{{ message['role'] }}\n\
    {% if message['content'] is string %}{{ message['content'] }}<|im_end|>\n{% else %}\
    {% for content in message['content'] %}{% if content['type'] == 'image' or 'image' in content or \
    'image_url' in content %}{% set image_count.value = image_count.value + 1 %}{% if add_vision_id %}Picture \
    {{ image_count.value }}: {% endif %}<|vision_start|><|image_pad|><|vision_end|>{% elif content['type'] == \
    'video' or 'video' in content %}{% set video_count.value = video_count.value + 1 %}{% if add_vision_id %}\
    Video {{ video_count.value }}: {% endif %}<|vision_start|><|video_pad|><|vision_end|>{% elif 'text' in \
    content %}{{ content['text'] }}{% endif %}{% endfor %}<|im_end|>\n{% endif %}{% endfor %}\
    {% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

/// `llava-hf/LLaVA-NeXT-Video-7B-hf`.
const LLAVA: &str = "{% for message in messages %}{% if message['role'] == 'system' %}\
    {{ message['content'][0]['text'] }}{% else %}{{ message['role'].upper() + ': ' }}{% endif %}\
    {# Render all images first #}{% for content in message['content'] | selectattr('type', 'equalto', 'image') %}\
    {{ '<image>\\n' }}{% endfor %}{# Render all videos next #}{% for content in message['content'] | \
    selectattr('type', 'equalto', 'video') %}{{ '<video>\\n' }}{% endfor %}{# Render all text last #}\
    {% if message['role'] != 'assistant' %}{% for content in message['content'] | selectattr('type', \
    'equalto', 'text') %}{{ content['text'] + ' ' }}{% endfor %}{% else %}{% for content in \
    message['content'] | selectattr('type', 'equalto', 'text') %}{% generation %}{{ content['text'] + ' ' }}\
    {% endgeneration %}{% endfor %}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:' }}\
    {% endif %}";

fn golden(family: &str) -> (PathBuf, serde_json::Value) {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden");
    let text = std::fs::read_to_string(folder.join(format!("{family}.json"))).unwrap();
    (folder.join(format!("tiny_{family}")), serde_json::from_str(&text).unwrap())
}

/// A golden checkpoint's chat with another template, and its config.
fn chat(folder: &Path, template: &str) -> (Chat, ModelConfig) {
    let config = read_config(folder).unwrap();
    let mut chat = Chat::read(folder, &config).unwrap();
    chat.template = template.replace("{% generation %}", "").replace("{% endgeneration %}", "");
    (chat, config)
}

fn scene(json: &serde_json::Value) -> VideoInput {
    let side = |index: usize| json["source_hw"][index].as_u64().unwrap() as u32;
    let (height, width) = (side(0), side(1));
    let rgb = vec![0; (8 * height * width * 3) as usize];
    let timestamps = (0..8).map(|t| f64::from(t) / 2.0).collect();
    VideoInput {
        video: "v".into(),
        frames: Frames::new(width, height, rgb, timestamps).unwrap().into(),
        features: None,
    }
}

fn ids(rendered: &Rendered, visual: u32) -> Vec<u32> {
    let id = |slot: &Slot| if let Slot::Token(id) = slot { *id } else { visual };
    rendered.slots.iter().map(id).collect()
}

#[test]
fn qwens_own_template_gives_the_references_tokens() {
    let (folder, json) = golden("qwen2_5_vl");
    let (chat, config) = chat(&folder, QWEN);
    let prompt = Prompt::about(&scene(&json), json["question"].as_str().unwrap());
    let rendered = chat.render(&prompt, |frames| config.layout(frames)).unwrap();
    assert_eq!(serde_json::json!(ids(&rendered, 2007)), json["input_ids"]);
    let text = json["responses"]["chosen_text"].as_str().unwrap().trim_end_matches("<|im_end|>");
    let answer = chat.continuation(&rendered, &Continuation::Answer(text.to_owned())).unwrap();
    assert_eq!(serde_json::json!(answer), json["responses"]["chosen_ids"]);
}

#[test]
fn llavas_template_without_an_end_of_turn_gets_one() {
    let (folder, json) = golden("llava_next_video");
    let (chat, config) = chat(&folder, LLAVA);
    let prompt = Prompt::about(&scene(&json), "Why?");
    let rendered = chat.render(&prompt, |frames| config.layout(frames)).unwrap();
    assert_eq!(rendered.text, "USER: <video>\nWhy? ASSISTANT:");
    let text = json["responses"]["chosen_text"].as_str().unwrap().trim_end_matches("</s>");
    let answer = chat.continuation(&rendered, &Continuation::Answer(text.to_owned())).unwrap();
    assert_eq!(serde_json::json!(answer), json["responses"]["chosen_ids"]);
    let opening = chat.continuation(&rendered, &Continuation::Prefix("A".to_owned())).unwrap();
    assert_eq!(opening, [321]);
}

#[test]
fn a_placeholder_in_the_text_is_refused() {
    let (folder, json) = golden("qwen3_vl");
    let config = read_config(&folder).unwrap();
    let chat = Chat::read(&folder, &config).unwrap();
    let prompt = Prompt::about(&scene(&json), "what is <|video_pad|>?");
    let error = chat.render(&prompt, |frames| config.layout(frames)).unwrap_err().to_string();
    assert!(error.contains("<|video_pad|>"), "{error}");
}

#[test]
fn what_a_template_refuses_is_the_conversations_fault() {
    use crate::error::TorchError;
    let template = "{% macro check(role) %}{% if role == 'system' %}{{ raise_exception('no system here') }}\
        {% endif %}{% endmacro %}{% for message in messages %}{{ check(message.role) }}x{% endfor %}";
    let (chat, config) = chat(&golden("llava").0, template);
    let refused = chat.render(&Prompt::text("hi").with_system("be brief"), |frames| config.layout(frames));
    let Err(TorchError::Prompt(text)) = refused.map(|_| ()) else { panic!("it was not refused") };
    assert_eq!(text, "the chat template refuses the conversation: no system here");
    assert!(chat.render(&Prompt::text("hi"), |frames| config.layout(frames)).is_ok());
    let (broken, _) = self::chat(&golden("llava").0, "{{ messages.nothing.at_all }}");
    let failed = broken.render(&Prompt::text("hi"), |frames| config.layout(frames));
    assert!(matches!(failed, Err(TorchError::Template(_))));
}
