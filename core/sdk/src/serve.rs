//! A built component behind the boundary.

use std::sync::Arc;

use abi_stable::std_types::{RResult, RSlice, RStr, RVec, Tuple2};
use isr_api::{
    ComponentError, FrozenPolicy, GenerateRequest, Judge, JudgeCase, Kind, ObjectiveBatch, Policy,
    PreferenceObjective, PromptedTarget, RetrospectionCase, Retrospector, ScoreRequest, Target,
    TrainExample, TrainStep, VideoEncoder, VideoInput, ViewLogProbs,
};

use crate::asked::{HostObjective, HostPolicy};
use crate::current::{self, HostHandle};
use crate::error::RemoteError;
use crate::form::{
    DescribeForm, ExampleForm, FramesForm, GenerateForm, JudgeForm, Number, PromptedForm, RequirementsForm,
    ScoreForm, SnapshotForm, TargetForm, TextForm, TrainForm, VerdictForm, VoteForm, view_named,
};
use crate::guard::{drop_guarded, guarded};
use crate::interface::{HostBox, Instance, RawError, RawMessage, RawReply, RawValue, RawView};
use crate::message::Message;
use crate::pack::{self, Packing};
use crate::together::Questions;

/// What a component's config builds.
#[derive(Clone)]
pub enum Built {
    /// A judge.
    Judge(Arc<dyn Judge>),
    /// A retrospector.
    Retrospector(Arc<dyn Retrospector>),
    /// An objective.
    Objective(Arc<dyn PreferenceObjective>),
    /// An encoder.
    Encoder(Arc<dyn VideoEncoder>),
    /// A policy.
    Policy(Arc<dyn Policy>),
}

/// `Arc<dyn Judge>` and the like: what a plugin may build.
pub trait Component: Sized {
    /// Its kind.
    const KIND: Kind;
    /// As one of all kinds.
    fn built(self) -> Built;
}

macro_rules! component {
    ($($trait:ident => $kind:ident),+) => {
        $(impl Component for Arc<dyn $trait> {
            const KIND: Kind = Kind::$kind;
            fn built(self) -> Built {
                Built::$kind(self)
            }
        })+
    };
}
component!(
    Judge => Judge, Retrospector => Retrospector, PreferenceObjective => Objective,
    VideoEncoder => Encoder, Policy => Policy
);

/// Answers calls; a panic, that of a drop included, goes no further.
pub(crate) struct Served {
    built: Option<Built>,
    name: String,
    host: HostHandle,
}

impl Served {
    pub(crate) fn new(built: Built, name: &str, host: HostHandle) -> Self {
        Self { built: Some(built), name: name.to_owned(), host }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        if let Err(error) = drop_guarded(self.built.take()) {
            let message = format!("plugin `{}`, drop: panicked: {error}", self.name);
            self.host.log(1, "isr_plugin", &message);
        }
    }
}

impl Instance for Served {
    fn call(
        &self,
        method: RStr<'_>,
        request: RawMessage<'_>,
        host: HostBox,
    ) -> RResult<RawReply, RawError> {
        let host = HostHandle::new(host);
        let reply = guarded(|| {
            let request = Message::from(request);
            current::during(&host, || self.dispatch(method.as_str(), &request, &host))
        });
        reply.map(Message::into_raw).map_err(RawError::from).into()
    }

    fn evaluate(&self, views: RSlice<'_, RawView<'_>>) -> RResult<RawValue, RawError> {
        guarded(|| self.value(views)).map_err(RawError::from).into()
    }
}

impl Served {
    fn dispatch(&self, method: &str, request: &Message, host: &HostHandle) -> Result<Message, RemoteError> {
        match (&self.built, method) {
            (Some(Built::Judge(judge)), "judge") => judge_case(judge.as_ref(), request, host),
            (Some(Built::Retrospector(it)), "describe") => describe(it.as_ref(), request, host),
            (Some(Built::Objective(objective)), "requirements") => {
                Message::new(&RequirementsForm::from(&objective.requirements()), Vec::new())
            }
            (Some(Built::Encoder(it)), "fingerprint") => text(it.fingerprint().as_str()),
            (Some(Built::Encoder(it)), "computed_on") => text(&it.device_key()),
            (Some(Built::Encoder(it)), "encode") => encode(it.as_ref(), request, host),
            (Some(Built::Policy(it)), "fingerprint") => text(it.fingerprint().as_str()),
            (Some(Built::Policy(it)), _) => policy_call(it.as_ref(), method, request, host),
            _ => Err(unknown(method)),
        }
    }

    fn value(&self, views: RSlice<'_, RawView<'_>>) -> Result<RawValue, RemoteError> {
        let Some(Built::Objective(objective)) = &self.built else { return Err(unknown("evaluate")) };
        let view = |raw: &RawView<'_>| {
            Ok(ViewLogProbs {
                view: view_named(raw.view.as_str())?,
                policy: raw.policy.to_vec(),
                reference: raw.reference.to_vec(),
                lengths: raw.lengths.iter().map(|&length| length as usize).collect(),
            })
        };
        let views = views.iter().map(view).collect::<Result<_, RemoteError>>()?;
        let value = objective.evaluate(&ObjectiveBatch { views });
        let value = value.map_err(|error| RemoteError::from_component(&error))?;
        let gradients: RVec<RVec<f64>> = value.gradients.into_iter().map(RVec::from).collect();
        let metrics = value.metrics.into_iter().map(|(name, number)| Tuple2(name.into(), number));
        Ok(RawValue { loss: value.loss, gradients, metrics: metrics.collect() })
    }
}

fn unknown(method: &str) -> RemoteError {
    RemoteError::failed(format!("there is no call `{method}` of this component"))
}

fn text(text: &str) -> Result<Message, RemoteError> {
    Message::new(&TextForm { text: text.to_owned() }, Vec::new())
}

/// Completes a call about one video, in which the policy may be asked.
fn asking<T>(
    host: &HostHandle,
    scene: &VideoInput,
    call: impl AsyncFnOnce(FrozenPolicy) -> Result<T, ComponentError>,
) -> Result<T, RemoteError> {
    let questions = Arc::new(Questions::new(host));
    let (host, known) = (host.clone(), vec![scene.clone()]);
    let policy = HostPolicy { host, questions: Arc::clone(&questions), known };
    let answered = questions.answer_while(call(FrozenPolicy::new(Arc::new(policy))));
    answered.map_err(|error| RemoteError::from_component(&error))
}

/// Completes a call in which it may not.
fn wait<T>(
    host: &HostHandle,
    call: impl Future<Output = Result<T, ComponentError>>,
) -> Result<T, RemoteError> {
    Questions::new(host).answer_while(call).map_err(|error| RemoteError::from_component(&error))
}

fn judge_case(judge: &dyn Judge, request: &Message, host: &HostHandle) -> Result<Message, RemoteError> {
    let JudgeForm { scene, instruction, context, first, second, seed } = request.form()?;
    let scene = pack::scene(request, scene)?;
    let case = JudgeCase { scene, instruction, context, first, second, seed };
    let verdict = asking(host, &case.scene, async |policy| judge.judge(&case, &policy).await)?;
    let vote = |vote: &isr_api::Vote| VoteForm {
        first_shown_first: vote.first_shown_first,
        p_first: Number(vote.p_first),
    };
    let votes = verdict.votes.iter().map(vote).collect();
    let p_first = Number(verdict.p_first);
    Message::new(&VerdictForm { p_first, votes, consistent: verdict.consistent }, Vec::new())
}

fn describe(it: &dyn Retrospector, request: &Message, host: &HostHandle) -> Result<Message, RemoteError> {
    let DescribeForm { scene, previous, seed } = request.form()?;
    let scene = pack::scene(request, scene)?;
    let case = RetrospectionCase { scene, previous, seed };
    text(&asking(host, &case.scene, async |policy| it.describe(&case, &policy).await)?)
}

fn encode(it: &dyn VideoEncoder, request: &Message, host: &HostHandle) -> Result<Message, RemoteError> {
    let frames = pack::frames(request, request.form::<FramesForm>()?)?;
    let features = wait(host, it.encode(&frames))?;
    let mut packing = Packing::default();
    let form = packing.features(&Arc::new(features));
    Message::new(&form, packing.blobs)
}

fn policy_call(
    policy: &dyn Policy,
    method: &str,
    request: &Message,
    host: &HostHandle,
) -> Result<Message, RemoteError> {
    match method {
        "generate" => {
            let GenerateForm { prompt, sampling, n, seed } = request.form()?;
            let prompt = pack::prompt(request, prompt, &[])?;
            let asked = GenerateRequest { prompt, sampling, n, seed };
            Message::new(&wait(host, policy.generate(asked))?, Vec::new())
        }
        "score" => {
            let ScoreForm { prompt, continuations } = request.form()?;
            let asked = ScoreRequest { prompt: pack::prompt(request, prompt, &[])?, continuations };
            Message::new(&wait(host, policy.score(asked))?, Vec::new())
        }
        "train_step" => {
            let step = train_step(request)?;
            let objective = Arc::new(HostObjective::new(host.clone())?);
            Message::new(&wait(host, policy.train_step(step, objective))?, Vec::new())
        }
        "save" | "load" => {
            let form: SnapshotForm = request.form()?;
            let what = form.what();
            match method {
                "save" => wait(host, policy.save(&form.dir, what))?,
                _ => wait(host, policy.load(&form.dir, what))?,
            }
            Message::new(&(), Vec::new())
        }
        other => Err(unknown(other)),
    }
}

fn train_step(request: &Message) -> Result<TrainStep, RemoteError> {
    let TrainForm { examples, step, learning_rate, max_grad_norm } = request.form()?;
    let target = |form: TargetForm| Target { continuation: form.continuation, reference: form.reference };
    let example = |form: ExampleForm| {
        let prompted = |PromptedForm { prompt, target: of }: PromptedForm| {
            Ok::<_, RemoteError>(PromptedTarget {
                prompt: pack::prompt(request, prompt, &[])?,
                target: target(of),
            })
        };
        Ok(TrainExample {
            prompt: pack::prompt(request, form.prompt, &[])?,
            chosen: target(form.chosen),
            rejected: form.rejected.map(target),
            corrupted: form.corrupted.map(prompted).transpose()?,
            mismatched: form.mismatched.map(target),
        })
    };
    let examples = examples.into_iter().map(example).collect::<Result<_, RemoteError>>()?;
    Ok(TrainStep { examples, step, learning_rate, max_grad_norm })
}
