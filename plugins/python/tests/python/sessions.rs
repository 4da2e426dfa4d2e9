//! Many calls at once: batches, crashes in company, callers that go away.

use std::fs;
use std::future::pending;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::future::join_all;
use isr_api::{
    CheckpointKind, ComponentError, Fingerprint, FrozenPolicy, GenerateRequest, Judge, Policy,
    PreferenceObjective, Response, ScoreRequest, StepReport, TokenLogProbs, TrainStep, Verdict,
};
use isr_testing::FakePolicy;
use isr_testing::fixtures::case;

use crate::support::File;

fn policy() -> FrozenPolicy {
    Arc::new(FakePolicy::default()).frozen()
}

/// Judges answers "0", "1", ... against "-", all at once.
async fn all(judge: &Arc<dyn Judge>, count: usize) -> Vec<Result<Verdict, ComponentError>> {
    let policy = &policy();
    join_all((0..count).map(async |n| judge.judge(&case(&n.to_string(), "-"), policy).await)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_wait_go_into_one_message_and_each_gets_its_own_answer() {
    let file = File::new(
        "class It(Judge):\n    def judge_batch(self, cases):\n        \
         open(__file__ + '.sizes', 'a').write(f'{len(cases)}\\n')\n        time.sleep(0.05)\n        \
         return [int(case.first.text) / 100 for case in cases]",
    );
    let verdicts = all(&file.judge().unwrap(), 40).await;
    for (n, verdict) in verdicts.into_iter().enumerate() {
        assert_eq!(verdict.unwrap().p_first, n as f64 / 100.0);
    }
    let sizes = fs::read_to_string(file.beside("plugin.py.sizes")).unwrap();
    let sizes: Vec<usize> = sizes.lines().map(|line| line.parse().unwrap()).collect();
    assert_eq!(sizes.iter().sum::<usize>(), 40, "{sizes:?}");
    assert!(sizes.len() <= 6, "{sizes:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_costs_only_the_call_that_causes_it() {
    let file = File::judging(
        "open(__file__ + '.calls', 'a').write(case.first.text + '\\n')\n\
         time.sleep(0.02)\n\
         if case.first.text == '5': os._exit(1)\n\
         return int(case.first.text) / 100",
    );
    let verdicts = all(&file.judge().unwrap(), 20).await;
    for (n, verdict) in verdicts.into_iter().enumerate() {
        match (n, verdict) {
            (5, Err(ComponentError::BadInput(cause))) => assert!(cause.to_string().contains("status 1")),
            (5, other) => panic!("{other:?}"),
            (_, verdict) => assert_eq!(verdict.unwrap().p_first, n as f64 / 100.0, "{n}"),
        }
    }
    let calls = fs::read_to_string(file.beside("plugin.py.calls")).unwrap();
    assert_eq!(calls.lines().filter(|line| *line == "5").count(), 2);
    assert_eq!(calls.lines().filter(|line| *line == "3").count(), 1, "answered calls are not repeated");
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_work_side_by_side() {
    let file = File::new(
        "import threading\nboth = threading.Barrier(2)\n\
         class It(Judge):\n    workers = 2\n    def judge(self, case):\n        \
         both.wait(timeout=4)\n        return 0.5",
    );
    // Neither is answered before both are asked, and they are not sent in one message.
    let judge = file.judge().unwrap();
    let one = tokio::spawn({
        let judge = Arc::clone(&judge);
        async move { judge.judge(&case("1", "-"), &policy()).await }
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    let other = judge.judge(&case("2", "-"), &policy()).await;
    assert_eq!((one.await.unwrap().unwrap().p_first, other.unwrap().p_first), (0.5, 0.5));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_goes_away_disturbs_nobody() {
    let file = File::judging("time.sleep(0.3)\nreturn int(case.first.text) / 100");
    let judge = file.judge().unwrap();
    let gone = tokio::time::timeout(Duration::from_millis(50), all(&judge, 4)).await;
    assert!(gone.is_err());
    let verdicts = all(&judge, 2).await;
    assert_eq!(verdicts.into_iter().map(|it| it.unwrap().p_first).collect::<Vec<_>>(), [0.0, 0.01]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_process_ends_with_its_judge() {
    let file = File::judging("open(__file__ + '.pid', 'w').write(str(os.getpid()))\nreturn 0.5");
    let judge = file.judge().unwrap();
    all(&judge, 1).await.pop().unwrap().unwrap();
    drop(judge);
    let pid = fs::read_to_string(file.beside("plugin.py.pid")).unwrap();
    let lives = || std::path::Path::new(&format!("/proc/{pid}")).exists();
    for _ in 0..6000 {
        if !lives() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("process {pid} is still there");
}

/// A policy that never answers.
struct Stuck;

#[async_trait]
impl Policy for Stuck {
    fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of("stuck")
    }

    async fn generate(&self, _: GenerateRequest) -> Result<Vec<Response>, ComponentError> {
        pending().await
    }

    async fn score(&self, _: ScoreRequest) -> Result<Vec<TokenLogProbs>, ComponentError> {
        pending().await
    }

    async fn train_step(
        &self,
        _: TrainStep,
        _: Arc<dyn PreferenceObjective>,
    ) -> Result<StepReport, ComponentError> {
        pending().await
    }

    async fn save(&self, _: &Path, _: CheckpointKind) -> Result<(), ComponentError> {
        pending().await
    }

    async fn load(&self, _: &Path, _: CheckpointKind) -> Result<(), ComponentError> {
        pending().await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_questions_of_a_cancelled_call_are_refused_and_hold_up_nobody() {
    let file = File::judging("if case.first.text == 'ask': case.generate('x')\nreturn 0.5");
    let judge = file.judge().unwrap();
    let policy = FrozenPolicy::new(Arc::new(Stuck));
    let asking = case("ask", "-");
    let asked = tokio::time::timeout(Duration::from_millis(300), judge.judge(&asking, &policy)).await;
    assert!(asked.is_err());
    let other = case("other", "-");
    let verdict = tokio::time::timeout(Duration::from_secs(120), judge.judge(&other, &policy)).await;
    assert_eq!(verdict.unwrap().unwrap().p_first, 0.5);
}
