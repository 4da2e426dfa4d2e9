//! What Slurm's programs are asked, and what is made of answers that a healthy cluster does not give. The
//! programs are scripts here; `slurm.rs` meets the real ones.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

mod support;

use std::fs;
use std::path::PathBuf;

use isr_sweep::scheduler::{Job, JobEnd, JobEvent, SchedulerConfig, Slurm};
use support::daemons::program;
use support::{Jobs, failed, run};
use tokio_util::sync::CancellationToken;

/// Jobs, and programs of Slurm that append their arguments to `asked`.
struct Fake(Jobs);

impl Fake {
    fn new() -> Self {
        let fake = Self(Jobs::new());
        fake.program("sbatch", "echo '12;cluster'");
        fake.program("squeue", "");
        fake.program("sacct", "exit 1");
        fake.program("scancel", "");
        fake
    }

    fn program(&self, name: &str, script: &str) {
        let asked = self.path("asked").display().to_string();
        let text = format!("echo \"{name} $*\" >>{asked}\ncd {}\n{script}", self.0.folder().display());
        program(&self.path("bin").join(name), &text);
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.folder().join(name)
    }

    fn settings(&self) -> Slurm {
        Slurm { bin: Some(self.path("bin")), poll: 0.01, settle: 0.05, ..Slurm::default() }
    }

    async fn end(&self) -> JobEnd {
        let scheduler = SchedulerConfig::Slurm(self.settings()).open(&self.path("state")).unwrap();
        let mut ends = run(&*scheduler, vec![self.0.shell("a", "")], CancellationToken::new()).await;
        ends.remove("a").unwrap()
    }

    async fn error(&self, settings: Slurm) -> String {
        let scheduler = SchedulerConfig::Slurm(settings).open(&self.path("state")).unwrap();
        let mut watch = |_: &Job, _: JobEvent| {};
        let jobs = vec![self.0.shell("a", "")];
        scheduler.run(jobs, &mut watch, CancellationToken::new()).await.unwrap_err().to_string()
    }

    fn asked(&self) -> String {
        fs::read_to_string(self.path("asked")).unwrap()
    }
}

#[tokio::test]
async fn an_array_is_one_submission_with_what_its_jobs_need() {
    let fake = Fake::new();
    fake.program("squeue", "for i in 0 1 2; do echo \"$i|TIMEOUT\"; done");
    let options = vec!["--partition=gpu".into(), "--time=4:00:00".into()];
    let slurm = Slurm { jobs: Some(2), options, ..fake.settings() };
    let all = ["a", "b", "c"].map(|name| Job { cpus: 4, gpus: 1, ..fake.0.shell(name, "") });
    let scheduler = SchedulerConfig::Slurm(slurm).open(&fake.path("state")).unwrap();
    let ends = run(&*scheduler, all.to_vec(), CancellationToken::new()).await;
    assert_eq!(ends["c"], failed("TIMEOUT (Slurm's job 12_2)"));
    let asked = fake.asked();
    let submissions: Vec<&str> = asked.lines().filter(|line| line.starts_with("sbatch")).collect();
    assert_eq!(submissions.len(), 1);
    for argument in [
        "--parsable",
        "--array=0-2%2",
        "--cpus-per-task=4",
        "--gres=gpu:1",
        "--partition=gpu --time=4:00:00",
    ] {
        assert!(submissions[0].contains(argument), "{asked}");
    }
}

#[tokio::test]
async fn a_task_that_left_the_queue_without_a_status_is_looked_up_in_the_accounts() {
    let fake = Fake::new();
    assert_eq!(fake.end().await, failed("it left the queue without an exit status (Slurm's job 12_0)"));
    fake.program("sacct", "echo 'NODE_FAIL'");
    assert_eq!(fake.end().await, failed("NODE_FAIL (Slurm's job 12_0)"));
    assert!(fake.asked().contains("sacct --noheader --parsable2 --allocations --format=State --jobs 12_0"));
}

#[tokio::test]
async fn a_status_is_waited_for_and_that_of_a_task_which_waits_again_is_not_believed() {
    let fake = Fake::new();
    // It fails, is put into the queue again, and succeeds.
    fake.program(
        "squeue",
        "echo >>looks; exit=$(echo state/isr-*)/0.exit\n\
         case $(wc -l <looks) in\n\
         1) echo 1 >$exit; echo '0|PENDING';;\n\
         2) rm $exit; echo '0|COMPLETED'; (sleep 0.02; echo 0 >$exit) >/dev/null 2>&1 &;;\n\
         esac",
    );
    assert_eq!(fake.end().await, JobEnd::Done);
}

#[tokio::test]
async fn a_controller_that_is_away_for_a_while_ends_nothing() {
    let fake = Fake::new();
    fake.program(
        "squeue",
        "echo >>looks; [ $(wc -l <looks) -gt 5 ] || exit 1; echo 0 >$(echo state/isr-*)/0.exit; echo '0|COMPLETED'",
    );
    assert_eq!(fake.end().await, JobEnd::Done);
}

#[tokio::test]
async fn what_slurm_says_is_in_the_error_and_nothing_is_remembered_of_what_it_refused() {
    let fake = Fake::new();
    fake.program("sbatch", "echo 'sbatch: error: invalid partition specified: gpu' >&2; exit 1");
    let message = fake.error(fake.settings()).await;
    assert!(
        message.starts_with("sbatch failed (exit status: 1): sbatch: error: invalid partition"),
        "{message}"
    );
    assert_eq!(fs::read_dir(fake.path("state")).unwrap().count(), 0);
    let nowhere = Slurm { bin: Some(fake.path("nowhere")), ..fake.settings() };
    let message = fake.error(nowhere).await;
    assert!(message.contains("must be on PATH or in `bin`"), "{message}");
}
