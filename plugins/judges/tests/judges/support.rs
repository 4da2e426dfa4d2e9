//! Components from sections of TOML, and calls of them.

use std::sync::Arc;

use isr_api::{BuildContext, ComponentError, Judge, JudgeCase, Part, Prompt, Role, Verdict};
use isr_config::registry::JudgeConfig;
use isr_testing::ScriptedPolicy;

/// Parses a judge's section.
pub(crate) fn parse(section: &str) -> Result<Box<dyn JudgeConfig>, String> {
    toml::from_str(section).map_err(|error| error.to_string())
}

/// Builds the judge of a valid section.
pub(crate) fn judge(section: &str) -> Arc<dyn Judge> {
    let config = parse(section).unwrap();
    config.validate().unwrap();
    config.build(&BuildContext::default()).unwrap()
}

/// The validation error of a section that parses.
pub(crate) fn refusal(section: &str) -> String {
    parse(section).unwrap().validate().unwrap_err()
}

/// The judge's verdict with this policy.
pub(crate) async fn judged(
    policy: &Arc<ScriptedPolicy>,
    judge: &Arc<dyn Judge>,
    case: &JudgeCase,
) -> Result<Verdict, ComponentError> {
    judge.judge(case, &policy.frozen()).await
}

/// A prompt with one message per line as `[role] text`; a video is `<video>` and a newline.
pub(crate) fn written(prompt: &Prompt) -> String {
    let message = |message: &isr_api::Message| {
        let parts = message.parts.iter().map(|part| match part {
            Part::Text(text) => text.as_str(),
            Part::Video(_) => "<video>\n",
        });
        let role = match message.role {
            Role::System => "system",
            Role::User => "user",
            Role::Assistant => "assistant",
        };
        format!("[{role}] {}", parts.collect::<String>())
    };
    prompt.messages.iter().map(message).collect::<Vec<_>>().join("\n")
}
