//! Restores the state of a run from its directory, the only source of truth.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use super::IterativeLoop;
use super::mix::Rows;
use crate::guard::caught;
use crate::store::{StageMarks, iteration_dir, read_journal, read_json, write_json};
use isr_api::records::Summary;
use isr_api::{
    CheckpointKind, Error, Event, Fingerprint, LabelledSample, Sample, SampleId, Stage, VideoSpan,
    VisualContext,
};

/// Version of `summary.json`.
const SCHEMA: u32 = 1;

/// The newest visual context of each video, by video key.
pub(super) type Contexts = HashMap<String, VisualContext>;

/// The run's samples. Only evaluation code reads `evaluation`.
pub(super) struct LoopData {
    pub(super) training: Vec<Sample>,
    pub(super) evaluation: Vec<LabelledSample>,
    /// Rows of each dataset of preference pairs.
    pub(super) preferences: Vec<Rows>,
}

/// Completed iterations and the newest contexts.
pub(super) struct Progress {
    pub(super) summary: Summary,
    pub(super) contexts: Contexts,
}

impl Progress {
    pub(super) fn next_iteration(&self) -> u32 {
        self.summary.iterations.len() as u32 + 1
    }

    /// Stores an iteration's contexts; those of the next iteration are conditioned on them.
    pub(super) fn remember(&mut self, contexts: Contexts) {
        self.contexts.extend(contexts);
    }
}

impl IterativeLoop {
    /// Lets the data source create what it needs, in the leader first.
    pub(super) async fn prepare(&self) -> Result<(), Error> {
        let prepare = || self.interruptible(self.parts.components.data.prepare(), "prepare", "data");
        if self.processes.leads() {
            prepare().await?;
        }
        self.processes.meet().await?;
        if self.processes.leads() { Ok(()) } else { prepare().await }
    }

    pub(super) async fn load_data(&self) -> Result<LoopData, Error> {
        let source = &self.parts.components.data;
        let training = self.interruptible(source.training(), "load", "training samples").await?;
        let mut evaluation = self.interruptible(source.evaluation(), "load", "evaluation samples").await?;
        if let Some(wanted) = self.parts.evaluation.samples {
            evaluation.truncate(wanted);
        }
        // Read again where they are needed, so that they do not stay in memory; an error is to come now.
        drop(self.audit().await?);
        let samples_itself = (1..=self.parts.settings.iterations).any(|t| !self.is_offline(t));
        if training.is_empty() && samples_itself {
            return Err(Error::Config("`data` has no training sample".to_owned()));
        }
        let held_out = || evaluation.iter().map(|labelled| &labelled.sample);
        check_ids(training.iter())?;
        check_ids(held_out())?;
        training.iter().chain(held_out()).try_for_each(check_video_name)?;
        let preferences = self.load_preferences(&training).await?;
        check_held_out(&preferences, held_out())?;
        Ok(LoopData { training, evaluation, preferences })
    }

    /// Reads the training samples with their reference answers, by which an evaluator audits judges and contexts. Only
    /// evaluation code calls this.
    pub(super) async fn audit(&self) -> Result<HashMap<SampleId, LabelledSample>, Error> {
        let source = &self.parts.components.data;
        let audit = self.interruptible(source.audit(), "load", "audit samples").await?;
        Ok(audit.into_iter().map(|labelled| (labelled.sample.id.clone(), labelled)).collect())
    }

    /// Reads the completed iterations, and loads the checkpoint of the last one.
    pub(super) async fn resume(&self, data: &LoopData) -> Result<Progress, Error> {
        self.check_inputs(data).await?;
        let run = self.parts.store.path();
        let new = Summary {
            schema: SCHEMA,
            run: self.parts.name.clone(),
            config: self.parts.config.clone(),
            base: None,
            iterations: Vec::new(),
        };
        let path = run.join("summary.json");
        let old: Option<Summary> = self.processes.by_leader(async { read_json(&path) }).await?;
        if let Some(Summary { schema, .. }) = &old
            && *schema != SCHEMA
        {
            let reason = format!("its schema is {schema}, this version reads {SCHEMA}");
            return Err(Error::Damaged { path, reason });
        }
        let summary = old.map_or(new, |old| Summary { config: self.parts.config.clone(), ..old });
        let mut progress = Progress { summary, contexts: HashMap::new() };
        let complete = progress.summary.iterations.len() as u32;
        for t in 1..=complete {
            let contexts: Vec<VisualContext> = read_journal(&iteration_dir(run, t).join("contexts.jsonl"))?;
            progress
                .remember(contexts.into_iter().map(|context| (context.video.clone(), context)).collect());
        }
        for t in (0..=complete).filter(|_| self.processes.leads()) {
            let dir = iteration_dir(run, t);
            StageMarks::read(&dir)?.check_all(&dir)?;
        }
        if let Some(last) = progress.summary.iterations.last() {
            let evaluated = last.evaluation.as_ref().map(|evaluation| &evaluation.policy);
            self.load_checkpoint(complete, evaluated).await?;
        }
        tracing::info!(complete, samples = data.training.len(), "run opened");
        self.observe(&Event::RunStarted {
            run: &self.parts.name,
            dir: self.parts.store.path(),
            iteration: progress.next_iteration(),
            iterations: self.parts.settings.iterations,
        });
        Ok(progress)
    }

    /// Loads the checkpoint of iteration `t` if its training completed before an interruption.
    pub(super) async fn begin(&self, t: u32) -> Result<(), Error> {
        let dir = self.parts.store.iteration(t)?;
        if !dir.join("checkpoint").exists() {
            return Ok(());
        }
        let marks = StageMarks::read(&dir)?;
        marks.check(&dir, "select")?;
        marks.check(&dir, Stage::Train.name())?;
        self.load_checkpoint(t, None).await
    }

    /// Fingerprint of the policy as it is now.
    pub(super) fn fingerprint(&self) -> Result<Fingerprint, Error> {
        caught("fingerprint", "policy", || self.frozen.try_fingerprint())
    }

    pub(super) fn write_summary(&self, summary: &Summary) -> Result<(), Error> {
        if !self.processes.leads() {
            return Ok(());
        }
        self.parts.store.check_present()?;
        write_json(&self.parts.store.path().join("summary.json"), summary)
    }

    /// Loads the checkpoint of iteration `t`, and checks that it holds the weights that the training ended with:
    /// those of its mark, or in runs of versions without marks those that were `evaluated`.
    async fn load_checkpoint(&self, t: u32, evaluated: Option<&Fingerprint>) -> Result<(), Error> {
        let dir = iteration_dir(self.parts.store.path(), t);
        let path = dir.join("checkpoint");
        let subject = path.display().to_string();
        let call = self.parts.components.policy.load(&path, CheckpointKind::Model);
        self.interruptible(call, "load checkpoint", &subject).await?;
        let marks = StageMarks::read(&dir)?;
        let marked = marks.get(Stage::Train.name()).and_then(|mark| mark.policy.as_ref());
        let Some(trained) = marked.or(evaluated) else { return Ok(()) };
        let now = self.fingerprint()?;
        if now == *trained {
            return Ok(());
        }
        let reason =
            format!("its weights are {now}, and the training of iteration {t} ended with {trained}");
        Err(Error::Damaged { path, reason })
    }
}

/// Rejects duplicate ids, since journals and random streams are keyed by sample id.
fn check_ids<'a>(samples: impl Iterator<Item = &'a Sample>) -> Result<(), Error> {
    let mut seen = HashSet::new();
    for Sample { id, .. } in samples {
        if !seen.insert(id) {
            return Err(Error::Config(format!(
                "`data` has two samples with the id `{id}`; give each its own"
            )));
        }
    }
    Ok(())
}

/// Rejects held-out samples about a video that a pair of a dataset is about, whatever the spelling of its path.
fn check_held_out<'a>(datasets: &[Rows], held_out: impl Iterator<Item = &'a Sample>) -> Result<(), Error> {
    let pairs = datasets.iter().flatten().flatten();
    let identity = |video: &Path| {
        let (video, _) = VideoSpan::split(video);
        video.canonicalize().unwrap_or_else(|_| video.to_owned())
    };
    let trained_on: HashMap<PathBuf, &str> =
        pairs.filter_map(|pair| Some((identity(pair.video.as_deref()?), pair.origin.as_str()))).collect();
    if trained_on.is_empty() {
        return Ok(());
    }
    for Sample { id, video, .. } in held_out {
        if let Some(origin) = trained_on.get(&identity(video)) {
            return Err(Error::Config(format!(
                "the held-out sample `{id}` of `data` and the pair {origin} of `preferences` share the video {}; \
                 evaluation must be on videos that are not trained on",
                video.display()
            )));
        }
    }
    Ok(())
}

/// Rejects a video whose path is not UTF-8: journals and plugins could not name it.
fn check_video_name(sample: &Sample) -> Result<(), Error> {
    match sample.video.to_str() {
        Some(_) => Ok(()),
        None => Err(Error::Config(format!(
            "`data`: the video of sample `{}` has a name that is not UTF-8 ({}); rename the file",
            sample.id,
            sample.video.display()
        ))),
    }
}
