//! What the host does for a plugin: its log, the policy's answers, the video's frames.

use std::future::Future;
use std::sync::Arc;
use std::time::Instant;

use isr_api::{ComponentError, GenerateRequest, ScoreRequest};
use wasmtime::component::{HasSelf, Linker};

use super::limits::ASKS;
use super::state::{Asked, State};
use crate::bindings::host::{self, Continuation, Level, Message, Sampling, TokenLogprobs};
use crate::bindings::types::{self, Failure, Fault, Response};
use crate::convert;

/// Most answers of one request.
const MOST_ANSWERS: u32 = 64;

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

    fn generate(
        &mut self,
        prompt: Vec<Message>,
        sampling: Sampling,
        n: u32,
        seed: u64,
    ) -> Result<Vec<Response>, Failure> {
        let asked = self.ask()?;
        let sampling = convert::sampling(sampling);
        sampling.validate().map_err(failed)?;
        if n == 0 || n > MOST_ANSWERS {
            return Err(failed(format!("n is {n}; it must be 1 to {MOST_ANSWERS}")));
        }
        let prompt = convert::prompt(prompt, &asked.scene);
        let request = GenerateRequest { prompt, sampling, n: n as usize, seed };
        let responses = self.wait(&asked, asked.policy.generate(request))?;
        Ok(responses.into_iter().map(convert::response).collect())
    }

    fn score(
        &mut self,
        prompt: Vec<Message>,
        continuations: Vec<Continuation>,
    ) -> Result<Vec<TokenLogprobs>, Failure> {
        let asked = self.ask()?;
        let prompt = convert::prompt(prompt, &asked.scene);
        let continuations = continuations.into_iter().map(convert::continuation).collect();
        let scores = self.wait(&asked, asked.policy.score(ScoreRequest { prompt, continuations }))?;
        Ok(scores.into_iter().map(convert::token_logprobs).collect())
    }

    fn frame(&mut self, index: u32) -> Option<Vec<u8>> {
        let frames = &self.asked.as_ref()?.scene.frames;
        let index = usize::try_from(index).ok().filter(|index| *index < frames.len())?;
        frames.frame(index).map(<[u8]>::to_vec)
    }
}

impl State {
    fn ask(&mut self) -> Result<Arc<Asked>, Failure> {
        self.asks += 1;
        if self.asks > ASKS {
            return Err(failed(format!("the call has asked {ASKS} questions, more than it may")));
        }
        let asked = self.asked.as_ref().map(Arc::clone);
        asked.ok_or_else(|| failed("there is no policy to ask during this call".to_owned()))
    }

    /// Waits for the policy; the plugin's clock stands still meanwhile.
    fn wait<T>(
        &mut self,
        asked: &Asked,
        answer: impl Future<Output = Result<T, ComponentError>>,
    ) -> Result<T, Failure> {
        let start = Instant::now();
        let outcome = asked.runtime.block_on(answer);
        self.extend(start.elapsed());
        outcome.map_err(|error| {
            let fault =
                if matches!(error, ComponentError::BadInput(_)) { Fault::BadInput } else { Fault::Failed };
            Failure { fault, message: error.to_string() }
        })
    }
}

fn failed(message: String) -> Failure {
    Failure { fault: Fault::Failed, message }
}
