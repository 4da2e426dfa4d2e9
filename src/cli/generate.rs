//! `isr generate`.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use isr_api::{ComponentError, Error, FrozenPolicy, Response, Sampling};
use serde_json::json;

use super::model::{Model, ModelArgs};
use super::output::print_line;
use super::session::Session;

/// Answer a prompt about a video
#[derive(Args)]
pub(super) struct GenerateArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// A video file, or a folder of PNG or JPEG frames
    #[arg(long, value_name = "FILE_OR_FOLDER")]
    video: PathBuf,
    /// What the model is asked about the video
    #[arg(long, value_name = "TEXT")]
    prompt: String,
    /// Take the most probable token each time
    #[arg(long, conflicts_with_all = ["temperature", "top_p", "seed"])]
    greedy: bool,
    /// Softmax temperature; 0 is greedy
    #[arg(long, value_name = "T", default_value_t = 1.0)]
    temperature: f64,
    /// Sample from the smallest set of tokens whose probability reaches this
    #[arg(long, value_name = "P", default_value_t = 1.0)]
    top_p: f64,
    /// Seed of the draws
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Longest answer in tokens
    #[arg(long, value_name = "N", default_value_t = 256)]
    max_new_tokens: usize,
    /// Print one JSON object with `text`, `token_ids`, `logprobs` (natural logarithms, one a token, at
    /// temperature 1) and `finish_reason` (`stop` or `length`)
    #[arg(long)]
    json: bool,
}

impl GenerateArgs {
    pub(super) fn execute(&self, session: &Session) -> Result<()> {
        let sampling = self.sampling()?;
        let model = self.model.load()?;
        let cancel = session.cancelled_by_signals();
        let response = session.block_on(async {
            tokio::select! {
                () = cancel.cancelled() => Err(Error::Cancelled.into()),
                response = self.answer(model, sampling) => response.map_err(anyhow::Error::from),
            }
        })?;
        print_line(self.shown(&response))?;
        Ok(())
    }

    fn sampling(&self) -> Result<Sampling> {
        let sampling = match self.greedy {
            true => Sampling::greedy(self.max_new_tokens),
            false => Sampling {
                temperature: self.temperature,
                top_p: self.top_p,
                max_new_tokens: self.max_new_tokens,
                ..Sampling::default()
            },
        };
        let flag = |reason: String| match reason.split_once(' ') {
            Some((key, rest)) => format!("--{} {rest}", key.replace('_', "-")),
            None => reason,
        };
        sampling.validate().map_err(|reason| Error::Config(flag(reason)))?;
        Ok(sampling)
    }

    async fn answer(&self, model: &Model, sampling: Sampling) -> Result<Response, ComponentError> {
        let prompt = model.prompt(&self.video, &self.prompt).await?;
        FrozenPolicy::new(model.policy.clone()).answer(prompt, sampling, self.seed).await
    }

    fn shown(&self, response: &Response) -> String {
        if !self.json {
            return response.text.clone();
        }
        let Response { text, token_ids, logprobs, finish_reason, reasoning, .. } = response;
        let mut object = json!({
            "text": text,
            "token_ids": token_ids,
            "logprobs": logprobs,
            "finish_reason": finish_reason,
        });
        if let Some(reasoning) = reasoning {
            object["reasoning"] = json!(reasoning);
        }
        object.to_string()
    }
}
