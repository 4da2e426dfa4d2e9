//! The plugin's side of a component: dispatch of calls.

use std::sync::Arc;

use abi_stable::std_types::{RResult, RSlice, RStr, RVec, Tuple2};
use isr_api::messages::{RequirementsMessage, VerdictMessage, view_named};
use isr_api::{
    ComponentError, FrozenPolicy, Judge, Kind, ObjectiveBatch, Policy, PreferenceObjective, Retrospector,
    VideoEncoder, VideoInput, ViewLogProbs,
};

use crate::batching::RequestBatcher;
use crate::calls;
use crate::current::{self, HostHandle};
use crate::error::RemoteError;
use crate::guard::{drop_guarded, guarded};
use crate::host_proxies::{HostObjective, HostPolicy};
use crate::interface::{HostBox, Instance, RawError, RawMessage, RawReply, RawValue, RawView};
use crate::message::Message;
use crate::messages::{CheckpointMessage, FramesMessage, TextMessage};
use crate::pack;

/// A built component of any kind.
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

/// The types that a component's config may build, such as `Arc<dyn Judge>`.
pub trait Component: Sized {
    /// The kind that it is exported as.
    const KIND: Kind;
    /// The component as a [`Built`].
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

/// A component behind the boundary: dispatches calls by method name, and turns panics, in drops too, into errors.
pub(crate) struct ComponentServer {
    built: Option<Built>,
    name: String,
    host: HostHandle,
}

impl ComponentServer {
    pub(crate) fn new(built: Built, name: &str, host: HostHandle) -> Self {
        Self { built: Some(built), name: name.to_owned(), host }
    }
}

impl Drop for ComponentServer {
    fn drop(&mut self) {
        if let Err(error) = drop_guarded(self.built.take()) {
            let message = format!("plugin `{}`, drop: panicked: {error}", self.name);
            self.host.log(1, "isr_plugin", &message);
        }
    }
}

impl Instance for ComponentServer {
    fn call(
        &self,
        method: RStr<'_>,
        request: RawMessage<'_>,
        host: HostBox,
    ) -> RResult<RawReply, RawError> {
        let host = HostHandle::new(host);
        let reply = guarded(|| {
            let request = Message::from(request);
            current::with_host(&host, || self.dispatch(method.as_str(), &request, &host))
        });
        reply.map(Message::into_raw).map_err(RawError::from).into()
    }

    fn evaluate(&self, views: RSlice<'_, RawView<'_>>) -> RResult<RawValue, RawError> {
        guarded(|| self.value(views)).map_err(RawError::from).into()
    }
}

impl ComponentServer {
    fn dispatch(&self, method: &str, request: &Message, host: &HostHandle) -> Result<Message, RemoteError> {
        match (&self.built, method) {
            (Some(Built::Judge(judge)), "judge") => judge_case(judge.as_ref(), request, host),
            (Some(Built::Retrospector(it)), "describe") => describe(it.as_ref(), request, host),
            (Some(Built::Objective(objective)), "requirements") => {
                let required = RequirementsMessage::from(&objective.requirements()).with_per_token();
                Message::new(&required, Vec::new())
            }
            (Some(Built::Encoder(it)), "fingerprint") => text(it.fingerprint().as_str()),
            (Some(Built::Encoder(it)), "computed_on") => text(&it.device_key()),
            (Some(Built::Encoder(it)), "encode") => encode(it.as_ref(), request, host),
            (Some(Built::Policy(it)), "fingerprint") => {
                let fingerprint =
                    it.try_fingerprint().map_err(|error| RemoteError::from_component(&error))?;
                text(fingerprint.as_str())
            }
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
    Message::new(&TextMessage { text: text.to_owned() }, Vec::new())
}

/// Completes a call about one video, during which the policy answers requests.
fn with_policy<T>(
    host: &HostHandle,
    scene: &VideoInput,
    call: impl AsyncFnOnce(FrozenPolicy) -> Result<T, ComponentError>,
) -> Result<T, RemoteError> {
    let requests = Arc::new(RequestBatcher::new(host));
    let (host, known) = (host.clone(), vec![scene.clone()]);
    let policy = HostPolicy { host, requests: Arc::clone(&requests), known };
    let answered = requests.block_on(call(FrozenPolicy::new(Arc::new(policy))));
    answered.map_err(|error| RemoteError::from_component(&error))
}

/// Completes a call during which the policy cannot be asked.
fn wait<T>(
    host: &HostHandle,
    call: impl Future<Output = Result<T, ComponentError>>,
) -> Result<T, RemoteError> {
    RequestBatcher::new(host).block_on(call).map_err(|error| RemoteError::from_component(&error))
}

fn judge_case(judge: &dyn Judge, request: &Message, host: &HostHandle) -> Result<Message, RemoteError> {
    let case = calls::judge_case(request)?;
    let verdict = with_policy(host, &case.scene, async |policy| judge.judge(&case, &policy).await)?;
    Message::new(&VerdictMessage::from(&verdict), Vec::new())
}

fn describe(it: &dyn Retrospector, request: &Message, host: &HostHandle) -> Result<Message, RemoteError> {
    let case = calls::retrospection_case(request)?;
    text(&with_policy(host, &case.scene, async |policy| it.describe(&case, &policy).await)?)
}

fn encode(it: &dyn VideoEncoder, request: &Message, host: &HostHandle) -> Result<Message, RemoteError> {
    let frames = pack::frames(request, request.read::<FramesMessage>()?)?;
    calls::features_message(wait(host, it.encode(&frames))?)
}

fn policy_call(
    policy: &dyn Policy,
    method: &str,
    request: &Message,
    host: &HostHandle,
) -> Result<Message, RemoteError> {
    match method {
        "generate" => {
            let asked = calls::generate_request(request, &[])?;
            Message::new(&wait(host, policy.generate(asked))?, Vec::new())
        }
        "score" => {
            let asked = calls::score_request(request, &[])?;
            Message::new(&wait(host, policy.score(asked))?, Vec::new())
        }
        "train_step" => {
            let step = calls::train_step(request)?;
            let objective = Arc::new(HostObjective::new(host.clone())?);
            Message::new(&wait(host, policy.train_step(step, objective))?, Vec::new())
        }
        "save" | "load" => {
            let checkpoint: CheckpointMessage = request.read()?;
            let kind = checkpoint.kind();
            match method {
                "save" => wait(host, policy.save(&checkpoint.dir, kind))?,
                _ => wait(host, policy.load(&checkpoint.dir, kind))?,
            }
            Message::new(&(), Vec::new())
        }
        other => Err(unknown(other)),
    }
}
