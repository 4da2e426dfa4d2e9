//! The interface `host`: log, answers of the policy, frames of the video.

use std::future::Future;
use std::sync::Arc;

use isr_api::messages::{MessageError, QuestionLimits};
use isr_api::{ComponentError, FrozenPolicy, GenerateRequest, ScoreRequest};
use tokio::task::JoinHandle;
use wasmtime::component::{HasSelf, Linker};

use super::state::{CaseContext, State};
use crate::bindings::host::{self, Continuation, Level, Message, Sampling, TokenLogprobs};
use crate::bindings::types::{self, Failure, Fault, Response};
use crate::convert;

/// Limits of a plugin's questions.
const LIMITS: QuestionLimits = QuestionLimits::DEFAULT;

pub(super) fn add(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    host::add_to_linker::<State, HasSelf<State>>(linker, |state| state)?;
    types::add_to_linker::<State, HasSelf<State>>(linker, |state| state)
}

impl types::Host for State {}

impl host::Host for State {
    fn log(&mut self, level: Level, message: String) {
        let plugin = self.plugin.as_str();
        match level {
            Level::Error => tracing::error!(plugin, "{message}"),
            Level::Warn => tracing::warn!(plugin, "{message}"),
            Level::Info => tracing::info!(plugin, "{message}"),
            Level::Debug => tracing::debug!(plugin, "{message}"),
        }
    }

    async fn generate(
        &mut self,
        prompt: Vec<Message>,
        sampling: Sampling,
        n: u32,
        seed: u64,
    ) -> Result<Vec<Response>, Failure> {
        let context = self.context()?;
        let (prompt, sampling) = (convert::prompt(prompt, &context.video), convert::sampling(sampling));
        let request = GenerateRequest { prompt, sampling, n: n as usize, seed };
        self.admit(LIMITS.check_generate(&request))?;
        let responses = self.wait(&context, |policy| async move { policy.generate(request).await }).await?;
        Ok(responses.into_iter().map(convert::response).collect())
    }

    async fn score(
        &mut self,
        prompt: Vec<Message>,
        continuations: Vec<Continuation>,
    ) -> Result<Vec<TokenLogprobs>, Failure> {
        let context = self.context()?;
        let prompt = convert::prompt(prompt, &context.video);
        let continuations = continuations.into_iter().map(convert::continuation).collect();
        let request = ScoreRequest { prompt, continuations };
        self.admit(LIMITS.check_score(&request))?;
        let scores = self.wait(&context, |policy| async move { policy.score(request).await }).await?;
        Ok(scores.into_iter().map(convert::token_logprobs).collect())
    }

    fn frame(&mut self, index: u32) -> Option<Vec<u8>> {
        let frames = &self.context.as_ref()?.video.frames;
        let index = usize::try_from(index).ok().filter(|index| *index < frames.len())?;
        frames.frame(index).map(<[u8]>::to_vec)
    }
}

impl State {
    fn context(&self) -> Result<Arc<CaseContext>, Failure> {
        let context = self.context.as_ref().map(Arc::clone);
        context.ok_or_else(|| failed("there is no policy to ask during this call".to_owned()))
    }

    /// Counts a question, and refuses one that exceeds a limit. A refusal is logged too, since the plugin may keep
    /// it to itself.
    fn admit(&mut self, size: Result<(), MessageError>) -> Result<(), Failure> {
        self.asked += 1;
        let admitted = size.and_then(|()| LIMITS.check_count(self.asked));
        admitted.map_err(|error| {
            tracing::warn!(plugin = self.plugin, "a question is refused: {error}");
            failed(error.to_string())
        })
    }

    /// Waits for the policy, which works in its own runtime; the plugin's clock stands still meanwhile.
    async fn wait<T, F>(
        &mut self,
        context: &CaseContext,
        ask: impl FnOnce(FrozenPolicy) -> F,
    ) -> Result<T, Failure>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, ComponentError>> + Send + 'static,
    {
        let _paused = self.clock.pause();
        let mut asked = AbortOnDrop(context.runtime.spawn(ask(context.policy.clone())));
        let outcome =
            (&mut asked.0).await.map_err(|error| failed(format!("the policy failed: {error}")))?;
        outcome.map_err(|error| {
            let fault =
                if matches!(error, ComponentError::BadInput(_)) { Fault::BadInput } else { Fault::Failed };
            Failure { fault, message: error.to_string() }
        })
    }
}

/// Ends a task that nobody waits for.
struct AbortOnDrop<T>(JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn failed(message: String) -> Failure {
    Failure { fault: Fault::Failed, message }
}
