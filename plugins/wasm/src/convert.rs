//! Between the types of `isr-api` and those of `wit/isr.wit`.

use isr_api as core;
use isr_api::VideoInput;

use crate::bindings::host::{Continuation, Message, Part, Role, Sampling, TokenLogprobs};
use crate::bindings::judge::exports::isr::plugin::judge as judging;
use crate::bindings::objective::exports::isr::plugin::objective as weighing;
use crate::bindings::retrospector::exports::isr::plugin::retrospector as describing;
use crate::bindings::types::{self, FinishReason, Response, VisualContext};

pub(crate) fn judge_case(case: &core::JudgeCase) -> judging::JudgeCase {
    judging::JudgeCase {
        scene: scene(&case.scene),
        instruction: case.instruction.clone(),
        context: case.context.as_ref().map(context),
        first: response(case.first.clone()),
        second: response(case.second.clone()),
        seed: case.seed,
    }
}

pub(crate) fn retrospection_case(case: &core::RetrospectionCase) -> describing::RetrospectionCase {
    let previous = case.previous.as_ref().map(context);
    describing::RetrospectionCase { scene: scene(&case.scene), previous, seed: case.seed }
}

fn scene(scene: &VideoInput) -> types::Scene {
    let frames = &scene.frames;
    let timestamps = frames.timestamps.clone();
    types::Scene { video: scene.key(), width: frames.width, height: frames.height, timestamps }
}

fn context(context: &core::VisualContext) -> VisualContext {
    VisualContext { iteration: context.iteration, text: context.text.clone() }
}

pub(crate) fn response(response: core::Response) -> Response {
    let finish_reason = match response.finish_reason {
        core::FinishReason::Stop => FinishReason::Stop,
        core::FinishReason::Length => FinishReason::Length,
    };
    let core::Response { text, token_ids, logprobs, .. } = response;
    Response { text, token_ids, logprobs, finish_reason }
}

pub(crate) fn verdict(verdict: judging::Verdict) -> core::Verdict {
    let vote = |vote: judging::Vote| core::Vote {
        first_shown_first: vote.first_shown_first,
        p_first: vote.p_first,
    };
    core::Verdict {
        p_first: verdict.p_first,
        votes: verdict.votes.into_iter().map(vote).collect(),
        consistent: verdict.consistent,
    }
}

pub(crate) fn prompt(messages: Vec<Message>, scene: &VideoInput) -> core::Prompt {
    let part = |part| match part {
        Part::Text(text) => core::Part::Text(text),
        Part::Video => core::Part::Video(scene.clone()),
    };
    let message = |message: Message| {
        let role = match message.role {
            Role::System => core::Role::System,
            Role::User => core::Role::User,
            Role::Assistant => core::Role::Assistant,
        };
        core::Message { role, parts: message.parts.into_iter().map(part).collect() }
    };
    core::Prompt { messages: messages.into_iter().map(message).collect() }
}

pub(crate) fn sampling(sampling: Sampling) -> core::Sampling {
    let Sampling { temperature, top_p, top_k, max_new_tokens, stop } = sampling;
    core::Sampling {
        temperature,
        top_p,
        top_k: top_k as usize,
        max_new_tokens: max_new_tokens as usize,
        stop,
    }
}

pub(crate) fn continuation(continuation: Continuation) -> core::Continuation {
    match continuation {
        Continuation::Answer(text) => core::Continuation::Answer(text),
        Continuation::Opening(text) => core::Continuation::Prefix(text),
        Continuation::Tokens(tokens) => core::Continuation::Tokens(tokens),
    }
}

pub(crate) fn token_logprobs(scored: core::TokenLogProbs) -> TokenLogprobs {
    TokenLogprobs { token_ids: scored.token_ids, logprobs: scored.logprobs }
}

pub(crate) fn requirements(form: weighing::Requirements) -> Result<core::Requirements, String> {
    let view = |view| match view {
        weighing::View::Chosen => core::View::Chosen,
        weighing::View::Rejected => core::View::Rejected,
    };
    let views: Vec<_> = form.views.into_iter().map(view).collect();
    let twice = (1..views.len()).any(|index| views[..index].contains(&views[index]));
    if views.is_empty() || twice {
        return Err("its `views` must name `chosen`, `rejected` or both, each once".to_owned());
    }
    let granularity = match form.granularity {
        weighing::Granularity::Summed => core::Granularity::Summed,
        weighing::Granularity::PerToken => core::Granularity::PerToken,
    };
    Ok(core::Requirements { views, granularity, reference: form.reference })
}

pub(crate) fn views(batch: &core::ObjectiveBatch) -> Result<Vec<weighing::ViewLogprobs>, String> {
    let of = |of: &core::ViewLogProbs| {
        let view = match of.view {
            core::View::Chosen => weighing::View::Chosen,
            core::View::Rejected => weighing::View::Rejected,
            other => return Err(format!("the interface has no view {other:?}")),
        };
        let lengths = of.lengths.iter().map(|length| u32::try_from(*length).unwrap_or(u32::MAX)).collect();
        let (policy, reference) = (of.policy.clone(), of.reference.clone());
        Ok(weighing::ViewLogprobs { view, policy, reference, lengths })
    };
    batch.views.iter().map(of).collect()
}

pub(crate) fn value(value: weighing::ObjectiveValue) -> core::ObjectiveValue {
    let weighing::ObjectiveValue { loss, gradients, metrics } = value;
    core::ObjectiveValue { loss, gradients, metrics: metrics.into_iter().collect() }
}
