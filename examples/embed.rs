//! The loop inside another program: a judge of its own, an observer of its own, a run that is cancelled
//! after its first iteration, and one that goes on from there.
//!
//! ```text
//! cargo run --example embed
//! ```
//!
//! Everything is made in a temporary folder: a model of random weights, and a few clips. So the run
//! shows how the parts fit together, not how a model gets better.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use isr_dpo::config::{LoadedConfig, Loader, RunConfig};
use isr_dpo::{
    BuildContext, CancellationToken, Cause, Component, ComponentError, Event, FrozenPolicy, Judge,
    JudgeCase, NewModelConfig, Observer, Verdict,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Prefers the answer with more different words.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct VarietyJudgeConfig {
    /// How many words of difference make the judge sure, at least 1.
    sure_at: usize,
}

struct VarietyJudge {
    sure_at: f64,
}

/// The judge is declared beside its code. From then on a config can name it.
impl Component for VarietyJudgeConfig {
    type Built = Arc<dyn Judge>;

    fn validate(&self) -> Result<(), String> {
        match self.sure_at {
            0 => Err("sure_at is 0; it must be at least 1".to_owned()),
            _ => Ok(()),
        }
    }

    fn build(&self, _: &BuildContext) -> Result<Arc<dyn Judge>, Cause> {
        Ok(Arc::new(VarietyJudge { sure_at: self.sure_at as f64 }))
    }
}

isr_dpo::register!(Judge "variety" => VarietyJudgeConfig, example = "sure_at = 3\n");

#[async_trait]
impl Judge for VarietyJudge {
    /// A pure function of the two answers. A judge that asks a model awaits `policy.score(...)` or
    /// `policy.generate(...)` here.
    async fn judge(&self, case: &JudgeCase, _policy: &FrozenPolicy) -> Result<Verdict, ComponentError> {
        let words = |text: &str| {
            let mut words: Vec<&str> = text.split_whitespace().collect();
            words.sort_unstable();
            words.dedup();
            words.len() as f64
        };
        let difference = (words(&case.first.text) - words(&case.second.text)) / self.sure_at;
        Ok(Verdict {
            p_first: 0.5 + difference.clamp(-1.0, 1.0) / 2.0,
            votes: Vec::new(),
            consistent: true,
        })
    }
}

/// Prints what an application may want to know, and stops the run where it says so.
struct Watcher {
    stop_after: Option<u32>,
    cancel: CancellationToken,
}

impl Observer for Watcher {
    fn observe(&self, event: &Event<'_>) {
        match event {
            Event::RunStarted { iteration, iterations, .. } => {
                println!("begins with iteration {iteration} of {iterations}");
            }
            Event::StageFinished { iteration, stage, .. } => {
                println!("iteration {iteration}: {} is done", stage.name());
            }
            Event::IterationFinished { summary } => {
                println!("iteration {}: trained on {} pairs", summary.iteration, summary.pairs.kept);
                if self.stop_after == Some(summary.iteration) {
                    self.cancel.cancel();
                }
            }
            _ => {}
        }
    }
}

const CONFIG: &str = r#"
name = "embedded"
seed = 1

[data]
type = "world"
training_clips = 4
evaluation_clips = 2

[video]
type = "ffmpeg"
sampling = { rule = "uniform", frames = 2 }

[encoder]
type = "clip"

[policy]
type = "llava"
batch = 8

[judge]
type = "variety"
sure_at = 3

[objective]
type = "dpo"

[selection]
type = "consistent"

[loop]
iterations = 2
sampling = { max_new_tokens = 12 }

[train]
batch_size = 4
learning_rate = 1e-4
"#;

/// The config, with paths in `folder`. A program could also build the struct without any text.
fn config(folder: &Path) -> Result<LoadedConfig<RunConfig>, isr_dpo::Error> {
    let path = |name: &str| folder.join(name).display().to_string();
    let paths = [format!("data.dir={:?}", path("world")), format!("policy.model={:?}", path("model"))];
    Loader::new().text("embed.rs", CONFIG, folder).overrides(paths).load()
}

fn tiny_model() -> NewModelConfig {
    NewModelConfig {
        hidden_size: 32,
        intermediate_size: 64,
        layers: 2,
        vocabulary: 400,
        vision_hidden_size: 32,
        vision_intermediate_size: 64,
        vision_layers: 2,
        ..NewModelConfig::default()
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let temporary = tempfile::tempdir()?;
    let folder = temporary.path();
    let corpus = ["the bar is red and moves left", "which colour is the ring?"].map(str::to_owned);
    tiny_model().create(&folder.join("model"), &corpus, 0)?;
    let out = folder.join("run");

    let cancel = CancellationToken::new();
    let watcher = Arc::new(Watcher { stop_after: Some(1), cancel: cancel.clone() });
    let run = isr_dpo::open_run(config(folder)?, &out, vec![watcher], cancel)?;
    match run.run().await {
        Err(isr_dpo::Error::Cancelled) => println!("cancelled; what was done is in the run directory"),
        Err(error) => return Err(error.into()),
        Ok(_) => return Err("the run was not cancelled".into()),
    }
    // The directory is locked as long as the run is held.
    drop(run);

    let cancel = CancellationToken::new();
    let watcher = Arc::new(Watcher { stop_after: None, cancel: cancel.clone() });
    let run = isr_dpo::open_run(config(folder)?, &out, vec![watcher], cancel)?;
    let summary = run.run().await?;
    println!("complete: {} iterations", summary.iterations.len());
    Ok(())
}
