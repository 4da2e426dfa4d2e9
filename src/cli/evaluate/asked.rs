//! A model that is asked: one that is loaded, or one behind a server.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Result, anyhow};
use isr_api::{
    BuildContext, Component, ComponentError, Error, FrozenPolicy, Sampling, VideoReader, without_reasoning,
};
use isr_chat::{ChatClient, RequestStyle, ServerConfig, data_urls};
use isr_dpo::GenerationConfig;

use crate::cli::model::{Model, ModelArgs, uniform_frames};

/// A model and how it is asked.
pub(super) enum Asked {
    Loaded { model: Model, policy: FrozenPolicy, max_new_tokens: usize },
    Served(Box<Served>),
}

/// A model behind a server.
pub(super) struct Served {
    client: ChatClient,
    style: RequestStyle,
    temperature: Option<f64>,
    reader: Arc<dyn VideoReader>,
    frames: usize,
}

impl Asked {
    /// Loads a model; blocks.
    pub(super) fn load(path: &Path, generation: &GenerationConfig) -> Result<Self> {
        let GenerationConfig { max_new_tokens, frames, system, device, precision, .. } = generation.clone();
        let model = ModelArgs { model: path.to_owned(), frames, system, device, precision }.open()?;
        let policy = FrozenPolicy::new(model.policy.clone());
        Ok(Self::Loaded { model, policy, max_new_tokens })
    }

    /// A client of a server.
    pub(super) fn serve(server: &ServerConfig, generation: &GenerationConfig) -> Result<Self> {
        let client = server.client("model").map_err(|error| Error::Config(error.to_string()))?;
        let mut style = server.style(generation.system.clone());
        if style.max_tokens == 0 {
            style.max_tokens = u32::try_from(generation.max_new_tokens)?;
        }
        let temperature = server.temperature.map_or(Some(0.0), |temperature| temperature.value());
        let reader = uniform_frames(generation.frames)?.build(&BuildContext::default());
        let reader = reader.map_err(|cause| anyhow!("{cause}"))?;
        let frames = generation.frames;
        Ok(Self::Served(Box::new(Served { client, style, temperature, reader, frames })))
    }

    /// The greedy answer to a question about a video.
    pub(super) async fn answer(&self, video: &Path, question: &str) -> Result<String, ComponentError> {
        match self {
            Self::Loaded { model, policy, max_new_tokens } => {
                let prompt = model.prompt(video, question).await?;
                let said = policy.answer(prompt, Sampling::greedy(*max_new_tokens), 0).await?;
                let cut = || ComponentError::bad_input("the answer was cut while reasoning");
                let answer = without_reasoning(&said.text).filter(|_| !said.is_unanswered());
                answer.map(str::to_owned).ok_or_else(cut)
            }
            Self::Served(served) => served.answer(video, question).await,
        }
    }
}

impl Served {
    async fn answer(&self, video: &Path, question: &str) -> Result<String, ComponentError> {
        let frames = self.reader.read(video).await?;
        let pictures = data_urls(&frames, self.frames).map_err(ComponentError::bad_input)?;
        let body = self.style.body(question, &pictures, self.temperature, 0);
        let reply = self.client.complete(body, 0).await?;
        if reply.text.trim().is_empty() {
            let reason =
                if reply.cut { "the answer was cut while reasoning" } else { "the answer is empty" };
            return Err(ComponentError::bad_input(reason));
        }
        Ok(reply.text)
    }
}
