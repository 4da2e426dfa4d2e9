//! Assembly of prompts: optional video, optional system prompt, text.

use isr_api::{JudgeCase, Prompt, VideoInput};

/// A user message of video and text, after a system prompt if there is one.
pub(crate) fn assemble(video: Option<&VideoInput>, system: Option<&str>, text: String) -> Prompt {
    let prompt = match video {
        Some(video) => Prompt::about(video, text),
        None => Prompt::text(text),
    };
    match system {
        Some(system) => prompt.with_system(system),
        None => prompt,
    }
}

/// The visual context that a judge's prompt shows; `None` if it is switched off or the run has none.
pub(crate) fn visible_context(case: &JudgeCase, use_context: bool) -> Option<&str> {
    let context = case.context.as_ref().filter(|_| use_context);
    context.map(|context| context.text.trim())
}
