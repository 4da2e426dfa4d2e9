//! `isr score`.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow, bail};
use clap::Args;
use futures::{StreamExt, stream};
use isr_api::{Continuation, Error, ScoreRequest, TokenLogProbs};
use isr_data::{RowError, Rows};
use serde::Deserialize;
use serde_json::{Value, json};

use super::failure::on_one_line;
use super::model::{Model, ModelArgs};
use super::output::print_line;
use super::session::Session;
use super::terminal::printable;

/// Lines whose videos are decoded while the model works.
const IN_FLIGHT: usize = 4;

/// Compute the log-probs of given answers
///
/// Each line of FILE is a JSON object with `id`, `video`, `prompt`, and `response`: a complete answer,
/// scored with the token that ends it; or `token_ids` in place of `response`: exactly these tokens. Other
/// keys are ignored. FILE may also be a JSON array of such objects. Without --json, a line `ID<TAB>SUM` is
/// printed for each.
#[derive(Args)]
pub(super) struct ScoreArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// The answers
    #[arg(long, value_name = "FILE.jsonl")]
    data: PathBuf,
    /// Folder that relative `video` paths start from [default: the folder of FILE, or where nothing is
    /// there, the current one]
    #[arg(long, value_name = "DIR")]
    video_root: Option<PathBuf>,
    /// Print JSON lines with `id`, `token_ids`, `logprobs` (natural logarithms, one a token) and `sum`; or
    /// `id`, `line` and `error` for a line that cannot be scored
    #[arg(long)]
    json: bool,
}

/// What a line must hold.
#[derive(Deserialize)]
struct Line {
    id: Value,
    video: PathBuf,
    prompt: String,
    response: Option<String>,
    token_ids: Option<Vec<u32>>,
}

/// What became of a line.
struct Scored {
    line: usize,
    id: Value,
    outcome: Result<TokenLogProbs>,
}

impl ScoreArgs {
    pub(super) fn execute(&self, session: &Session) -> Result<()> {
        let failed =
            |reason: String| Error::Config(format!("cannot read {}: {reason}", self.data.display()));
        let file = File::open(&self.data).map_err(|error| failed(error.to_string()))?;
        let rows = Rows::open(file).map_err(|error| failed(error.to_string()))?;
        let model = self.model.load()?;
        let cancel = session.cancelled_by_signals();
        session.block_on(async {
            tokio::select! {
                () = cancel.cancelled() => Err(Error::Cancelled.into()),
                outcome = self.score_all(model, rows) => outcome,
            }
        })?;
        Ok(())
    }

    async fn score_all(&self, model: &Model, rows: Rows<File>) -> Result<()> {
        let tasks = rows.map(|(line, row)| self.score_row(model, line, row));
        let mut results = stream::iter(tasks).buffered(IN_FLIGHT);
        let (mut failed, mut total) = (0, 0);
        while let Some(scored) = results.next().await {
            total += 1;
            failed += usize::from(scored.outcome.is_err());
            self.show(&scored)?;
        }
        match failed {
            0 => Ok(()),
            _ => bail!("{failed} of {total} lines cannot be scored"),
        }
    }

    async fn score_row(&self, model: &Model, line: usize, row: Result<Value, RowError>) -> Scored {
        let value = row.map_err(anyhow::Error::from);
        let id = value.as_ref().ok().and_then(|value| value.get("id")).cloned().unwrap_or_default();
        let outcome = match value.and_then(|value| Ok(serde_json::from_value(value)?)) {
            Ok(parsed) => self.score(model, parsed).await,
            Err(error) => Err(error),
        };
        Scored { line, id, outcome }
    }

    async fn score(&self, model: &Model, line: Line) -> Result<TokenLogProbs> {
        let continuation = match (line.response, line.token_ids) {
            (_, Some(ids)) => Continuation::Tokens(ids),
            (Some(text), None) => Continuation::Answer(text),
            (None, None) => bail!("missing field `response`"),
        };
        if line.id.is_null() {
            bail!("`id` is null");
        }
        let prompt = model.prompt(&self.video(&line.video), &line.prompt).await?;
        let request = ScoreRequest { prompt, continuations: vec![continuation] };
        let mut scores = model.policy.score(request).await?;
        scores.pop().ok_or_else(|| anyhow!("the policy returned no score"))
    }

    fn video(&self, path: &Path) -> PathBuf {
        if let Some(root) = &self.video_root {
            return root.join(path);
        }
        let beside = self.data.parent().unwrap_or(Path::new("")).join(path);
        if beside.exists() { beside } else { path.to_owned() }
    }

    fn show(&self, scored: &Scored) -> Result<()> {
        let Scored { line, id, outcome } = scored;
        match outcome {
            Ok(scores) if self.json => print_line(json!({
                "id": id,
                "token_ids": scores.token_ids,
                "logprobs": scores.logprobs,
                "sum": sum(scores),
            })),
            Ok(scores) => print_line(format_args!("{}\t{}", plain(id), sum(scores))),
            Err(error) if self.json => {
                print_line(json!({ "id": id, "line": line, "error": on_one_line(error) }))
            }
            Err(error) => {
                let path = self.data.display();
                let text = format!("error: {path}:{line}: {}", on_one_line(error));
                Ok(writeln!(io::stderr(), "{}", printable(&text))?)
            }
        }
    }
}

/// The sum, where that of nothing is 0 and not -0.
fn sum(scores: &TokenLogProbs) -> f64 {
    scores.sum() + 0.0
}

/// A text without its quotes.
fn plain(id: &Value) -> String {
    id.as_str().map_or_else(|| id.to_string(), str::to_owned)
}
