//! The loop inside another program: a judge that asks a service of that program through a channel, an observer that is
//! a closure, a run that is cancelled after its first iteration, and one that continues it.
//!
//! Everything is made in a temporary folder: a model of random weights, and a few clips. So the run shows how the
//! parts fit together, not how a model improves.

use std::collections::HashSet;
use std::error::Error;
use std::path::Path;

use async_trait::async_trait;
use isr_dpo::{CancellationToken, ComponentError, Event, FrozenPolicy, Judge, JudgeCase, Run, RunBuilder, Verdict};
use isr_dpo::{config::RunConfig, judges, objectives, torch, video, world};
use tokio::sync::{mpsc, oneshot};

/// A question to the service: two texts, and where the probability that the first is better goes.
type Question = ([String; 2], oneshot::Sender<f64>);

/// A judge that holds the sending end of a channel.
struct ServiceJudge(mpsc::Sender<Question>);

#[async_trait]
impl Judge for ServiceJudge {
    async fn judge(&self, case: &JudgeCase, _: &FrozenPolicy) -> Result<Verdict, ComponentError> {
        let (reply, answered) = oneshot::channel();
        let texts = [case.first.text.clone(), case.second.text.clone()];
        self.0.send((texts, reply)).await.map_err(ComponentError::failed)?;
        let p_first = answered.await.map_err(ComponentError::failed)?;
        Ok(Verdict { p_first, votes: Vec::new(), consistent: true })
    }
}

/// The service: it prefers the text with more distinct words.
async fn service(mut questions: mpsc::Receiver<Question>) {
    while let Some((texts, reply)) = questions.recv().await {
        let [first, second] = texts.map(|text| text.split(' ').collect::<HashSet<_>>().len() as f64);
        let _ = reply.send(0.5 + (first - second).clamp(-3.0, 3.0) / 6.0);
    }
}

/// A config in code; the judge is given to the builder.
fn config(folder: &Path) -> RunConfig {
    let world = world::WorldConfig {
        dir: folder.join("world"),
        training_clips: 4,
        evaluation_clips: 2,
        ..Default::default()
    };
    let mut config = RunConfig { name: "embedded".to_owned(), seed: 1, ..RunConfig::default() };
    config.data = Box::new(world);
    config.video = Box::new(video::FfmpegConfig::default());
    config.policy = Box::new(torch::TorchPolicyConfig::new(folder.join("model")));
    config.objective = Box::new(objectives::DpoConfig::default());
    config.selection = Box::new(judges::ConsistentSelectionConfig::default());
    config.r#loop.iterations = 2;
    config.r#loop.sampling.max_new_tokens = 12;
    config
}

fn run(folder: &Path, service: &mpsc::Sender<Question>) -> RunBuilder {
    Run::builder(config(folder)).judge(ServiceJudge(service.clone()))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    make_model(&folder.path().join("model"))?;
    let out = folder.path().join("run");
    let (ask, questions) = mpsc::channel(8);
    tokio::spawn(service(questions));

    let cancel = CancellationToken::new();
    let stop = cancel.clone();
    let cut = run(folder.path(), &ask)
        .cancelled_by(cancel)
        .observer(move |event: &Event<'_>| {
            if let Event::IterationFinished { summary } = event {
                println!("iteration {}: trained on {} pairs", summary.iteration, summary.pairs.kept);
                stop.cancel();
            }
        })
        .open(&out)
        .await?;
    match cut.run().await {
        Err(isr_dpo::Error::Cancelled) => println!("cancelled; what was done is in the run directory"),
        other => return Err(format!("the run was not cancelled: {other:?}").into()),
    }
    // Unlocks the directory.
    drop(cut);

    let summary = run(folder.path(), &ask).open(&out).await?.run().await?;
    println!("complete: {} iterations", summary.iterations.len());
    Ok(())
}

/// A model of random weights.
fn make_model(folder: &Path) -> Result<(), Box<dyn Error>> {
    let corpus = ["the bar is red and moves left", "which colour is the ring?"].map(str::to_owned);
    let shape = torch::NewModelConfig {
        hidden_size: 32,
        intermediate_size: 64,
        layers: 2,
        vocabulary: 400,
        vision_hidden_size: 32,
        vision_intermediate_size: 64,
        vision_layers: 2,
        ..Default::default()
    };
    Ok(shape.create(folder, &corpus, 0)?)
}
