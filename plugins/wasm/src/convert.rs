//! Conversions between the domain types and the bindings of `wit/isr.wit`.

use isr_api as core;
use isr_api::VideoInput;
use isr_api::messages::{GranularityMessage, RequirementsMessage};

use crate::bindings::host::{Continuation, Message, Part, Role, Sampling, TokenLogprobs};
use crate::bindings::judge::exports::isr::plugin::judge as judging;
use crate::bindings::objective::exports::isr::plugin::objective as by_view;
use crate::bindings::objective_by_name::exports::isr::plugin::objective_by_name as by_name;
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

/// Requirements of the interface `objective`.
pub(crate) fn requirements(required: by_view::Requirements) -> RequirementsMessage {
    let view = |view| match view {
        by_view::View::Chosen => core::View::Chosen,
        by_view::View::Rejected => core::View::Rejected,
    };
    let granularity = match required.granularity {
        by_view::Granularity::Summed => GranularityMessage::Summed,
        by_view::Granularity::PerToken => GranularityMessage::PerToken,
    };
    RequirementsMessage {
        views: required.views.into_iter().map(|it| view(it).name().to_owned()).collect(),
        granularity: Some(granularity),
        per_token: None,
        reference: required.reference,
        across_batch: false,
    }
}

/// Requirements of the interface `objective-by-name`.
pub(crate) fn named_requirements(required: by_name::Requirements) -> RequirementsMessage {
    let granularity = match required.granularity {
        by_name::Granularity::Summed => GranularityMessage::Summed,
        by_name::Granularity::PerToken => GranularityMessage::PerToken,
    };
    let (views, reference) = (required.views, required.reference);
    RequirementsMessage {
        views,
        granularity: Some(granularity),
        per_token: None,
        reference,
        across_batch: false,
    }
}

/// A batch for the interface `objective`.
///
/// # Errors
/// A view that the interface does not have.
pub(crate) fn views(batch: &core::ObjectiveBatch) -> Result<Vec<by_view::ViewLogprobs>, String> {
    let of = |of: &core::ViewLogProbs| {
        let view = match of.view {
            core::View::Chosen => by_view::View::Chosen,
            core::View::Rejected => by_view::View::Rejected,
            other => return Err(format!("the interface `objective` has no view {other:?}")),
        };
        let (policy, reference) = (of.policy.clone(), of.reference.clone());
        Ok(by_view::ViewLogprobs { view, policy, reference, lengths: lengths(&of.lengths) })
    };
    batch.views.iter().map(of).collect()
}

/// A batch for the interface `objective-by-name`.
pub(crate) fn named_views(batch: &core::ObjectiveBatch) -> Vec<by_name::ViewLogprobs> {
    let of = |of: &core::ViewLogProbs| by_name::ViewLogprobs {
        view: of.view.name().to_owned(),
        policy: of.policy.clone(),
        reference: of.reference.clone(),
        lengths: lengths(&of.lengths),
    };
    batch.views.iter().map(of).collect()
}

fn lengths(lengths: &[usize]) -> Vec<u32> {
    lengths.iter().map(|length| u32::try_from(*length).unwrap_or(u32::MAX)).collect()
}

/// A value of the interface `objective`.
pub(crate) fn value(value: by_view::ObjectiveValue) -> core::ObjectiveValue {
    let by_view::ObjectiveValue { loss, gradients, metrics } = value;
    core::ObjectiveValue { loss, gradients, metrics: metrics.into_iter().collect() }
}

/// A value of the interface `objective-by-name`.
pub(crate) fn named_value(value: by_name::ObjectiveValue) -> core::ObjectiveValue {
    let by_name::ObjectiveValue { loss, gradients, metrics } = value;
    core::ObjectiveValue { loss, gradients, metrics: metrics.into_iter().collect() }
}
