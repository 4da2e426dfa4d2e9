//! Restores the state of a run from its directory, the only source of truth.

use std::collections::{HashMap, HashSet};

use isr_api::records::Summary;
use isr_api::{CheckpointKind, Error, Event, Fingerprint, LabelledSample, Sample, SampleId, VisualContext};
use serde::{Deserialize, Serialize};

use super::IterativeLoop;
use crate::guard::caught;
use crate::store::{iteration_dir, read_journal, read_json, write_json};

/// Version of `summary.json`.
const SCHEMA: u32 = 1;

/// The newest visual context of each video, by video key.
pub(super) type Contexts = HashMap<String, VisualContext>;

/// The run's samples. Only evaluation code reads `evaluation` and `audit`.
pub(super) struct LoopData {
    pub(super) training: Vec<Sample>,
    pub(super) evaluation: Vec<LabelledSample>,
    pub(super) audit: HashMap<SampleId, LabelledSample>,
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

/// `fingerprints.json`: what the run's results depend on besides its config.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Fingerprints {
    /// Video reader: decoding and frame sampling.
    video: Fingerprint,
    /// Video encoder.
    encoder: Fingerprint,
    /// Initial policy.
    policy: Fingerprint,
    /// Training and evaluation samples.
    data: Fingerprint,
}

impl IterativeLoop {
    pub(super) async fn load_data(&self) -> Result<LoopData, Error> {
        let source = &self.parts.components.data;
        let training = self.interruptible(source.training(), "load", "training samples").await?;
        let mut evaluation = self.interruptible(source.evaluation(), "load", "evaluation samples").await?;
        if let Some(wanted) = self.parts.evaluation.samples {
            evaluation.truncate(wanted);
        }
        let audit = self.interruptible(source.audit(), "load", "audit samples").await?;
        if training.is_empty() {
            return Err(Error::Config("`data` has no training sample".to_owned()));
        }
        check_ids(training.iter())?;
        check_ids(evaluation.iter().map(|labelled| &labelled.sample))?;
        let audit = audit.into_iter().map(|labelled| (labelled.sample.id.clone(), labelled)).collect();
        Ok(LoopData { training, evaluation, audit })
    }

    /// Reads the completed iterations, and loads the checkpoint of the last one.
    pub(super) async fn resume(&self, data: &LoopData) -> Result<Progress, Error> {
        self.check_fingerprints(data)?;
        let run = self.parts.store.path();
        let new = Summary {
            schema: SCHEMA,
            run: self.parts.name.clone(),
            config: self.parts.config.clone(),
            base: None,
            iterations: Vec::new(),
        };
        let path = run.join("summary.json");
        let old: Option<Summary> = read_json(&path)?;
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
        if complete > 0 {
            self.load_checkpoint(complete).await?;
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
        match self.parts.store.iteration(t)?.join("checkpoint").exists() {
            true => self.load_checkpoint(t).await,
            false => Ok(()),
        }
    }

    pub(super) fn write_summary(&self, summary: &Summary) -> Result<(), Error> {
        write_json(&self.parts.store.path().join("summary.json"), summary)
    }

    async fn load_checkpoint(&self, t: u32) -> Result<(), Error> {
        let path = iteration_dir(self.parts.store.path(), t).join("checkpoint");
        let subject = path.display().to_string();
        let call = self.parts.components.policy.load(&path, CheckpointKind::Model);
        self.interruptible(call, "load checkpoint", &subject).await
    }

    /// Rejects a run whose initial weights, frame sampling, encoder or samples have changed.
    fn check_fingerprints(&self, data: &LoopData) -> Result<(), Error> {
        let components = &self.parts.components;
        let now = caught("start", "fingerprints", || {
            Ok(Fingerprints {
                video: components.video.fingerprint(),
                encoder: components.encoder.fingerprint(),
                policy: components.policy.fingerprint(),
                data: Fingerprint::of_json(&(&data.training, &data.evaluation)),
            })
        })?;
        let path = self.parts.store.path().join("fingerprints.json");
        let Some(old) = read_json::<Fingerprints>(&path)? else {
            return write_json(&path, &now);
        };
        let changed = [
            ("the frame sampling of the video reader", old.video != now.video),
            ("the encoder's weights or preprocessing", old.encoder != now.encoder),
            ("the starting model's weights", old.policy != now.policy),
            ("the samples of `data`", old.data != now.data),
        ];
        match changed.into_iter().find(|(_, differs)| *differs) {
            Some((what, _)) => {
                let path = self.parts.store.path().to_owned();
                Err(Error::OtherRun { path, difference: format!("{what} changed since it was started") })
            }
            None => Ok(()),
        }
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
