//! Judging a run's responses again: by another judge, or with modified inputs.
//!
//! The flip rate under a blank or exchanged video measures the judge's use of the video, and without the visual context that of the
//! context. Each case has the seed and the weights of the run's judge, so unchanged inputs reproduce the verdicts, and every
//! flip is an effect of the change.
//!
//! Verdicts are written in a run's layout, to `iteration-NN/verdicts.jsonl` and `quarantine.jsonl` in a folder of their own.
//! Work is resumable: judged cases are skipped.

mod seen;

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use futures::StreamExt;
use isr_api::records::{QuarantineRecord, ResponseRecord, VerdictRecord};
use isr_api::{
    CheckpointKind, ComponentError, Error, Event, FrozenPolicy, Judge, JudgeCase, Observer, Policy,
    SampleId, Stage, Streams, VisualContext,
};
use isr_run::store::{Journal, iteration_dir, read_journal, scan_journal};
use isr_run::{Look, VideoCache, unless_cancelled};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use self::seen::next_of_each;
pub use self::seen::{Seen, SeenVideo};
use crate::audit::error::AuditError;

/// A job of judging a run's responses again.
pub struct Rejudging {
    /// Run directory.
    pub run: PathBuf,
    /// Folder for verdicts and quarantine.
    pub out: PathBuf,
    /// The run's seed, by which the frames of each iteration are drawn of a reader that draws.
    pub seed: u64,
    /// Iterations to judge, from 1.
    pub iterations: Vec<u32>,
    /// Judge.
    pub judge: Arc<dyn Judge>,
    /// Whether the judge is an oracle ([`isr_config::is_oracle`]).
    pub oracle: bool,
    /// The run's policy with its initial weights. Checkpoints of the run are loaded into it by iteration.
    pub policy: Arc<dyn Policy>,
    /// Video cache over the reader of [`Seen::through`].
    pub scenes: Arc<VideoCache>,
    /// Inputs of the judge.
    pub seen: Seen,
    /// Number of cases per iteration, from the first; `None` for all.
    pub samples: Option<usize>,
    /// Maximum number of concurrent cases.
    pub concurrency: usize,
    /// Observers of progress.
    pub observers: Vec<Arc<dyn Observer>>,
    /// Cancels the job. A later call resumes it.
    pub cancel: CancellationToken,
}

/// One case of the run, to be judged again.
struct Retrial {
    record: VerdictRecord,
    answers: ResponseRecord,
    video: String,
    context: Option<VisualContext>,
}

impl Rejudging {
    /// Judges all remaining cases.
    ///
    /// # Errors
    /// [`AuditError::OtherModel`] where the weights of an iteration are missing or differ, [`AuditError::NoVerdicts`] and
    /// [`AuditError::NoAnswers`] for incomplete journals, [`AuditError::OneVideo`], and [`AuditError::Store`] for failures of
    /// components and files, and cancellation. A case with bad input is written to the quarantine instead.
    pub async fn run(&self) -> Result<(), AuditError> {
        // The first iteration's weights are those that the policy comes with.
        let mut ascending = self.iterations.clone();
        ascending.sort_unstable();
        ascending.dedup();
        for iteration in ascending {
            self.iteration(iteration).await?;
        }
        Ok(())
    }

    async fn iteration(&self, iteration: u32) -> Result<(), AuditError> {
        let trials = self.trials(iteration)?;
        self.take_weights(iteration, &trials).await?;
        let dir = iteration_dir(&self.out, iteration);
        std::fs::create_dir_all(&dir).map_err(|source| {
            AuditError::Store(Error::Io { action: "create", path: dir.clone(), source })
        })?;
        let (mut verdicts, done) = Journal::<VerdictRecord>::open(&dir.join("verdicts.jsonl"))?;
        let (mut quarantine, failed) = Journal::<QuarantineRecord>::open(&dir.join("quarantine.jsonl"))?;
        let settled: HashSet<&str> = done.iter().map(|record| record.sample.as_str()).collect();
        let settled: HashSet<&str> =
            settled.into_iter().chain(failed.iter().map(|record| record.subject.as_str())).collect();

        let (stage, started, total) = (Stage::Judge, Instant::now(), trials.len());
        let left: Vec<Retrial> =
            trials.into_iter().filter(|trial| !settled.contains(trial.record.sample.as_str())).collect();
        self.observe(&Event::StageStarted { iteration, stage, done: total - left.len(), total });
        let look = Look::Drawn { streams: Streams::new(self.seed), iteration };
        let tasks = left.into_iter().map(|trial| self.task(trial, look));
        let mut outcomes = futures::stream::iter(tasks).buffered(self.concurrency.max(1));
        while let Some((sample, outcome)) = unless_cancelled(&self.cancel, outcomes.next()).await? {
            match outcome {
                Ok(record) => {
                    verdicts.append(&record)?;
                    self.observe(&Event::ItemDone { stage });
                }
                Err(ComponentError::BadInput(cause)) => {
                    let (subject, reason) = (sample.to_string(), cause.to_string());
                    self.observe(&Event::Quarantined { stage, subject: &subject, reason: &reason });
                    quarantine.append(&QuarantineRecord {
                        stage: stage.name().to_owned(),
                        subject,
                        reason,
                    })?;
                }
                Err(ComponentError::Cancelled) => return Err(Error::Cancelled.into()),
                Err(source) => return Err(failed_at(iteration, &sample, source).into()),
            }
        }
        verdicts.sync()?;
        quarantine.sync()?;
        let seconds = started.elapsed().as_secs_f64();
        self.observe(&Event::StageFinished { iteration, stage, seconds, busy: None });
        Ok(())
    }

    /// Cases of an iteration, in the order of the run's verdicts.
    fn trials(&self, iteration: u32) -> Result<Vec<Retrial>, AuditError> {
        let dir = iteration_dir(&self.run, iteration);
        let mut records: Vec<VerdictRecord> = read_journal(&dir.join("verdicts.jsonl"))?;
        records.truncate(self.samples.unwrap_or(usize::MAX));
        if records.is_empty() {
            return Err(AuditError::NoVerdicts { path: dir });
        }
        let wanted: HashSet<&SampleId> = records.iter().map(|record| &record.sample).collect();
        let mut answers = HashMap::new();
        scan_journal(&dir.join("responses.jsonl"), |line: ResponseRecord| {
            if wanted.contains(&line.sample) {
                answers.insert(line.sample.clone(), line);
            }
        })?;
        let contexts: Vec<VisualContext> = match self.seen.context {
            true => read_journal(&dir.join("contexts.jsonl"))?,
            false => Vec::new(),
        };
        let contexts: HashMap<_, _> = contexts.into_iter().map(|it| (it.video.clone(), it)).collect();
        let missing = |sample: &SampleId| AuditError::NoAnswers {
            run: self.run.clone(),
            iteration,
            sample: sample.to_string(),
        };
        let of = |record: VerdictRecord| {
            let line = answers.get(&record.sample).cloned();
            let there = |line: &ResponseRecord| record.compared.iter().all(|at| *at < line.responses.len());
            let line = line.filter(there).ok_or_else(|| missing(&record.sample))?;
            let of = record.context_of.as_ref().unwrap_or(&line.video);
            let context = record.context.and_then(|_| contexts.get(of).cloned());
            Ok(Retrial { video: line.video.clone(), record, answers: line, context })
        };
        let mut trials: Vec<Retrial> = records.into_iter().map(of).collect::<Result<_, AuditError>>()?;
        if self.seen.video == SeenVideo::Other {
            self.exchange_videos(iteration, &mut trials)?;
        }
        Ok(trials)
    }

    fn exchange_videos(&self, iteration: u32, trials: &mut [Retrial]) -> Result<(), AuditError> {
        let own: Vec<String> = trials.iter().map(|trial| trial.video.clone()).collect();
        let Some(next) = next_of_each(own.iter().map(String::as_str)) else {
            return Err(AuditError::OneVideo { run: self.run.clone(), iteration });
        };
        for trial in trials {
            if let Some(other) = next.get(trial.video.as_str()) {
                trial.video = (*other).to_owned();
            }
        }
        Ok(())
    }

    /// Loads the weights that judged the iteration: those at its start.
    async fn take_weights(&self, iteration: u32, trials: &[Retrial]) -> Result<(), AuditError> {
        let other = |reason: String| AuditError::OtherModel { run: self.run.clone(), iteration, reason };
        if iteration > 1 {
            let path = iteration_dir(&self.run, iteration - 1).join("checkpoint");
            if !path.exists() {
                let path = path.display();
                return Err(other(format!(
                    "{path}, which judged it, is not there; choose other `iterations`"
                )));
            }
            let load =
                unless_cancelled(&self.cancel, self.policy.load(&path, CheckpointKind::Model)).await?;
            load.map_err(|source| Error::Component {
                stage: "load checkpoint".to_owned(),
                subject: path.display().to_string(),
                source,
            })?;
        }
        let now = self.policy.fingerprint();
        let then =
            trials.iter().flat_map(|trial| &trial.answers.responses).map(|answer| &answer.policy).next();
        match then.filter(|then| **then != now) {
            Some(_) => Err(other(
                "the model is not the one that answered and judged; restore `policy` as the run had it"
                    .to_owned(),
            )),
            None => Ok(()),
        }
    }

    /// Judges one case in its own task, in which a panic becomes an error.
    fn task(
        &self,
        trial: Retrial,
        look: Look,
    ) -> impl Future<Output = (SampleId, Result<VerdictRecord, ComponentError>)> + use<> {
        let sample = trial.record.sample.clone();
        let (scenes, judge) = ((Arc::clone(&self.scenes), look), Arc::clone(&self.judge));
        let policy = FrozenPolicy::new(Arc::clone(&self.policy));
        let task =
            AbortOnDropHandle::new(tokio::spawn(judge_again(trial, scenes, judge, policy, self.oracle)));
        async move {
            let outcome = task.await;
            (sample, outcome.unwrap_or_else(|error| Err(ComponentError::Panicked(error.to_string()))))
        }
    }

    fn observe(&self, event: &Event<'_>) {
        for observer in &self.observers {
            observer.observe(event);
        }
    }
}

async fn judge_again(
    trial: Retrial,
    (scenes, look): (Arc<VideoCache>, Look),
    judge: Arc<dyn Judge>,
    policy: FrozenPolicy,
    oracle: bool,
) -> Result<VerdictRecord, ComponentError> {
    let Retrial { record, answers, video, context } = trial;
    let scene = scenes.open(video.as_ref(), look).await?;
    let [first, second] = record.compared.map(|index| answers.responses[index].answer_alone());
    let (instruction, seen) = (answers.instruction, context.as_ref().map(|context| context.iteration));
    let case = JudgeCase { scene, instruction, context, first, second, seed: record.seed };
    let verdict = judge.judge(&case, &policy).await?;
    verdict.check()?;
    // Of more than two answers, best and worst are those of the run's judge.
    let context_of = record.context_of.clone().filter(|_| seen.is_some());
    Ok(VerdictRecord { context: seen, context_of, verdict, comparisons: Vec::new(), oracle, ..record })
}

fn failed_at(iteration: u32, sample: &SampleId, source: ComponentError) -> Error {
    Error::Component { stage: format!("iteration {iteration}, judge"), subject: sample.to_string(), source }
}
