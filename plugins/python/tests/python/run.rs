//! A whole run on a judge and an objective in Python.

use std::fs;
use std::path::Path;

use isr_api::records::{QuarantineRecord, Summary, VerdictRecord};
use isr_api::{Error, Fingerprint};
use isr_config::{EvaluationConfig, LoopConfig, TrainConfig, to_toml};
use isr_run::store::{RunDir, read_journal};
use isr_run::{IterativeLoop, LoopParts};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::fakes::{components, tree};
use crate::support::{DPO, File};

/// Prefers the first answer in the alphabet; on object 3 it does what `fault` says, unless the file
/// `mended` stands beside it.
fn judge(fault: &str) -> File {
    File::judging(&format!(
        "if 'object 3' in case.instruction and not os.path.exists(os.path.join(os.path.dirname(__file__), \
         'mended')):\n    {fault}\nreturn 1.0 if case.first.text < case.second.text else 0.0"
    ))
    .with(|options| options.call_s = Some(5.0))
}

async fn run(dir: &Path, judge: &File, quarantine_limit: f64) -> Result<Summary, Error> {
    let objective = File::new(DPO);
    let settings = LoopConfig { iterations: 2, concurrency: 4, quarantine_limit, ..LoopConfig::default() };
    let train = TrainConfig { epochs: 1, batch_size: 4, learning_rate: 0.1, ..TrainConfig::default() };
    let value = json!({ "loop": settings, "train": train });
    let parts = LoopParts {
        name: "python".to_owned(),
        config: Fingerprint::of("python"),
        seed: 3,
        settings,
        train,
        evaluation: EvaluationConfig::default(),
        components: components(judge.judge().unwrap(), objective.objective().unwrap()),
        oracle: false,
        store: RunDir::open(dir, &value, &to_toml(&value)?)?,
        observers: Vec::new(),
        cancel: CancellationToken::new(),
    };
    IterativeLoop::new(parts).run().await
}

fn verdicts(dir: &Path) -> Vec<String> {
    let journal: Vec<VerdictRecord> = read_journal(&dir.join("iteration-01/verdicts.jsonl")).unwrap();
    journal.into_iter().map(|record| record.sample.0).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sample_that_ends_the_process_is_quarantined_and_the_run_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let summary = run(dir.path(), &judge("os._exit(9)"), 0.5).await.unwrap();
    assert_eq!(summary.iterations.len(), 2);
    let path = dir.path().join("iteration-01/quarantine.jsonl");
    let quarantined: Vec<QuarantineRecord> = read_journal(&path).unwrap();
    let [record] = &quarantined[..] else { panic!("{quarantined:?}") };
    assert_eq!(record.subject, "s3");
    let reason = "plugin `it`, judge: the process ended (with status 9)";
    assert!(record.reason.contains(reason), "{}", record.reason);
    assert!(!verdicts(dir.path()).contains(&"s3".to_owned()));
    assert!(verdicts(dir.path()).len() > 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nothing_may_be_quarantined_a_hanging_judge_stops_the_run() {
    let dir = tempfile::tempdir().unwrap();
    let stopped = run(dir.path(), &judge("time.sleep(60)"), 0.0).await.unwrap_err();
    assert!(matches!(stopped, Error::TooManyQuarantined { .. }), "{stopped:?}");
    assert!(stopped.to_string().contains("plugin `it`, judge: no answer within 5 s"), "{stopped}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_a_judge_stopped_is_continued_to_the_same_bytes() {
    let (cut, whole) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let judge = judge("raise KeyError('colour')");
    let stopped = run(cut.path(), &judge, 0.5).await.unwrap_err();
    let said = stopped.to_string();
    assert!(said.starts_with("iteration 1, judge, s3: plugin `it`, judge: KeyError: 'colour'"), "{said}");
    assert!(!verdicts(cut.path()).contains(&"s3".to_owned()));

    fs::write(judge.beside("mended"), "").unwrap();
    run(cut.path(), &judge, 0.5).await.unwrap();
    run(whole.path(), &judge, 0.5).await.unwrap();
    assert_eq!(tree(cut.path()), tree(whole.path()));
}
