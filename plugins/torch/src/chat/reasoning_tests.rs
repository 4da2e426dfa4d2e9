//! Reasoning in the forms of templates on the hub, as short excerpts of what they write.

use isr_api::{Continuation, Message, Part, Prompt, ReasoningFormat, ReasoningMarkers, Role};

use super::Chat;
use super::reasoning::{ReasoningConfig, ReasoningMode};
use super::tests::{golden, reasoning_chat};
use crate::model::ModelConfig;

/// Turns of ChatML.
const TURNS: &str = "{% for m in messages %}<|im_start|>{{ m.role }}\n";
const TEXT: &str = "{% for c in m.content %}{{ c.text }}{% endfor %}<|im_end|>\n{% endfor %}";
const ASK: &str = "{% if add_generation_prompt %}<|im_start|>assistant\n";

/// `Qwen/Qwen3-VL-8B-Thinking`: the prompt opens the reasoning; the last turn has one, which is empty where the content has
/// none; earlier turns have what stands behind `</think>`.
fn qwen_thinking() -> String {
    format!(
        "{TURNS}{{% set c = m.content[0].text %}}{{% set r = '' %}}{{% if m.role == 'assistant' and '</think>' in c %}}\
         {{% set r = c.split('</think>')[0].rstrip('\n').split('<think>')[-1].lstrip('\n') %}}\
         {{% set c = c.split('</think>')[-1].lstrip('\n') %}}{{% endif %}}\
         {{% if m.role == 'assistant' and loop.last %}}{{{{ '<think>\n' + r.strip('\n') + '\n</think>\n\n' }}}}{{% endif %}}\
         {{{{ c }}}}<|im_end|>\n{{% endfor %}}{ASK}<think>\n{{% endif %}}"
    )
}

/// GLM-4.1V-Thinking in the form whose prompt ends with `<think>`; its turns are the content as it is.
fn glm_thinking() -> String {
    format!("{TURNS}{TEXT}{ASK}<think>{{% endif %}}")
}

/// InternVL3.5, GLM-4.1V where the model opens its reasoning: the template has no word of it.
fn plain() -> String {
    format!("{TURNS}{TEXT}{ASK}{{% endif %}}")
}

fn chat(template: &str, reasoning: &ReasoningConfig) -> (Chat, ModelConfig) {
    let (chat, config) = reasoning_chat(&golden("qwen3_vl").0, template, None, reasoning);
    (chat.unwrap(), config)
}

fn auto(template: &str) -> (Chat, ModelConfig) {
    chat(template, &ReasoningConfig::default())
}

fn markers() -> ReasoningConfig {
    ReasoningConfig::Markers(ReasoningMarkers::default())
}

#[test]
fn markers_are_those_that_the_template_opens_or_names_or_the_config_chooses() {
    let format = |opened| Some(ReasoningFormat { opened, ..ReasoningFormat::default() });
    let found = |template: &str, config: &ReasoningConfig| chat(template, config).0.reasoning().cloned();
    let of = |template: &str| found(template, &ReasoningConfig::default());
    assert_eq!(of(&qwen_thinking()), format(true));
    assert_eq!(of(&glm_thinking()), format(true));
    let hybrid = qwen_thinking().replace("assistant\n<think>\n{% endif", "assistant\n{% endif");
    assert_eq!(of(&hybrid), format(false));
    let closed = glm_thinking().replace("<think>{%", "<think>\n\n</think>\n\n{%");
    assert_eq!(of(&closed), format(false));
    // This tokenizer has no such tokens.
    assert_eq!(of(&plain()), None);
    assert_eq!(found(&plain(), &markers()), format(false));
    assert_eq!(found(&qwen_thinking(), &ReasoningConfig::Mode(ReasoningMode::Off)), None);
    let kimi = plain().replace("assistant\n{%", "assistant\n\u{25c1}think\u{25b7}{%");
    assert_eq!(of(&kimi).unwrap().markers.close, "\u{25c1}/think\u{25b7}");
}

#[test]
fn the_identity_is_as_it_was_where_no_prompt_opens_reasoning_and_no_config_chose() {
    let identity = |config: &ReasoningConfig| chat(&plain(), config).0.identity();
    assert!(identity(&ReasoningConfig::default()).ends_with(']'));
    assert_ne!(identity(&ReasoningConfig::default()), identity(&markers()));
    assert_ne!(identity(&markers()), identity(&ReasoningConfig::Mode(ReasoningMode::Off)));
    assert!(auto(&qwen_thinking()).0.identity().contains("opened: true"));
}

#[test]
fn an_answer_stands_behind_an_empty_reasoning_which_its_beginning_does_not_score() {
    for (template, before) in [(qwen_thinking(), "\n</think>\n\n"), (glm_thinking(), "</think>\n")] {
        let (chat, config) = auto(&template);
        let rendered = chat.render(&Prompt::text("Why?"), |frames| config.layout(frames)).unwrap();
        let encoded = |text: &str| chat.tokens.encode(text, false).unwrap();
        let answer = chat.continuation(&rendered, &Continuation::Answer("It falls.".to_owned())).unwrap();
        assert_eq!(answer, encoded(&format!("{before}It falls.<|im_end|>")));
        // `t` is a letter of the marker, too.
        let opening = Continuation::Prefix("t".to_owned());
        let (ids, unscored) = chat.scored_continuation(&rendered, &opening).unwrap();
        assert_eq!(chat.decode_part(&ids[unscored..]).unwrap().trim(), "t", "{template}");
        assert_eq!(chat.decode_part(&ids).unwrap(), format!("{before}t"));
        assert!(unscored > 0);
    }
    let (chat, config) = chat(&plain(), &markers());
    let rendered = chat.render(&Prompt::text("Why?"), |frames| config.layout(frames)).unwrap();
    let scored = chat.scored_continuation(&rendered, &Continuation::Prefix("t".to_owned())).unwrap();
    assert_eq!(scored, (chat.tokens.encode("t", false).unwrap(), 0));
}

/// As datasets of reasoning models have them.
#[test]
fn an_answer_may_bring_its_reasoning_along() {
    let said = "<think>\nA bar.\n</think>\n\nIt falls.";
    for template in [qwen_thinking(), glm_thinking()] {
        let (chat, config) = auto(&template);
        let rendered = chat.render(&Prompt::text("Why?"), |frames| config.layout(frames)).unwrap();
        let ids = chat.continuation(&rendered, &Continuation::Answer(said.to_owned())).unwrap();
        let format = chat.reasoning_behind(&rendered).unwrap();
        let text = chat.decode(&ids).unwrap();
        let split = format.split(&text).unwrap();
        assert_eq!((split.reasoning, split.answer), ("A bar.", Some("It falls.")), "{text}");
        assert_eq!(text.matches("<think>").count(), 0, "the prompt has it");
    }
}

#[test]
fn earlier_turns_have_no_reasoning() {
    for (template, config) in [(glm_thinking(), ReasoningConfig::default()), (plain(), markers())] {
        let (chat, model) = chat(&template, &config);
        let text = |said: &str| {
            let mut prompt = Prompt::text("Why?");
            let turn = |role, text: &str| Message { role, parts: vec![Part::Text(text.to_owned())] };
            prompt.messages.extend([turn(Role::Assistant, said), turn(Role::User, "And then?")]);
            chat.render(&prompt, |frames| model.layout(frames)).unwrap().text
        };
        let plain = text("It falls.");
        assert_eq!(text("<think>\nA bar.\n</think>\n\nIt falls."), plain);
        assert_eq!(text("A bar.\n</think>\n\nIt falls."), plain);
        assert!(!text("<think>cut").contains("cut"));
        assert!(text("1 < 2 ").contains("1 < 2 <|im_end|>"), "white space stays");
    }
}

/// Some checkpoints' markers are special tokens, which texts leave out otherwise.
#[test]
fn special_markers_are_seen_in_responses() {
    let (folder, _) = golden("qwen3_vl");
    let special = super::tokens::Tokens::read(&folder).unwrap().special;
    let [open, close] = ["<|vision_start|>", "<|vision_end|>"].map(str::to_owned);
    assert!(special.contains(&open) && special.contains(&close));
    let markers = ReasoningMarkers { open, close };
    let (chat, _) = chat(&plain(), &ReasoningConfig::Markers(markers));
    let ids = chat.tokens.encode("<|vision_start|>hm<|vision_end|>Up.<|im_end|>", false).unwrap();
    assert_eq!(chat.decode(&ids).unwrap(), "<|vision_start|>hm<|vision_end|>Up.");
    let split = |text: &str| chat.reasoning().unwrap().split(text).map(|it| it.answer.map(str::to_owned));
    assert_eq!(split(&chat.decode(&ids).unwrap()), Some(Some("Up.".to_owned())));
}
