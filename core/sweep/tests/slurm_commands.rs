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
        fake.program("scontrol", "exit 1");
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

/// Submissions, and tasks that are done as soon as they are looked at.
fn succeeds(fake: &Fake) {
    fake.program("sbatch", "wc -l <asked");
    fake.program(
        "squeue",
        "for last; do :; done\nfor script in state/$last/[0-9]*.sh; do\n\
         index=$(basename $script .sh); echo 0 >state/$last/$index.exit; echo \"$index|COMPLETED\"; done",
    );
}

async fn ends_of(fake: &Fake, slurm: Slurm, count: usize) -> Vec<String> {
    let all = (0..count).map(|index| fake.0.shell(&format!("j{index}"), "")).collect();
    let scheduler = SchedulerConfig::Slurm(slurm).open(&fake.path("state")).unwrap();
    let ends = run(&*scheduler, all, CancellationToken::new()).await;
    assert!(ends.values().all(|end| *end == JobEnd::Done), "{ends:?}");
    let asked = fake.asked();
    let array =
        |line: &str| line.split(' ').find_map(|word| word.strip_prefix("--array=").map(str::to_owned));
    asked.lines().filter(|line| line.starts_with("sbatch")).filter_map(array).collect()
}

#[tokio::test]
async fn more_jobs_than_an_array_may_have_are_several_arrays() {
    let fake = Fake::new();
    succeeds(&fake);
    fake.program(
        "scontrol",
        "printf 'Configuration data\\nMaxArraySize            = 4\\nMaxJobCount = 10000\\n'",
    );
    assert_eq!(ends_of(&fake, fake.settings(), 9).await, ["0-3", "0-3", "0-0"]);
}

#[tokio::test]
async fn a_cluster_that_does_not_tell_gets_arrays_of_slurms_default() {
    let fake = Fake::new();
    succeeds(&fake);
    assert_eq!(ends_of(&fake, fake.settings(), 1001).await, ["0-999", "0-0"]);
}

#[tokio::test]
async fn a_limit_of_concurrent_jobs_holds_for_several_arrays() {
    let fake = Fake::new();
    succeeds(&fake);
    let slurm = Slurm { jobs: Some(2), max_array: Some(3), ..fake.settings() };
    assert_eq!(ends_of(&fake, slurm, 5).await, ["0-2%2", "0-1%2"]);
    let asked = fake.asked();
    let order: Vec<&str> = asked.lines().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(order, ["sbatch", "squeue", "sbatch", "squeue"], "the second when the first has ended");
}

#[tokio::test]
async fn an_array_that_is_refused_for_its_size_says_which_key_helps() {
    let fake = Fake::new();
    let refusal = "sbatch: error: Batch job submission failed: Invalid job array specification";
    fake.program("sbatch", &format!("echo '{refusal}' >&2; exit 1"));
    let message = fake.error(fake.settings()).await;
    assert!(
        message.contains("set `max_array` to what `scontrol show config` says of MaxArraySize"),
        "{message}"
    );
}

#[tokio::test]
async fn without_accounts_a_task_ends_by_the_queue_and_its_exit_file() {
    let fake = Fake::new();
    fake.program("sacct", "echo 'Slurm accounting storage is disabled' >&2; exit 1");
    fake.program("squeue", "echo 3 >$(echo state/isr-*)/0.exit");
    assert_eq!(fake.end().await, failed("exit status: 3"));
    fake.program("squeue", "echo '0|OUT_OF_MEMORY'");
    assert_eq!(fake.end().await, failed("OUT_OF_MEMORY (Slurm's job 12_0)"));
    assert!(!fake.asked().contains("sacct"), "nobody is asked who need not be");
}

#[tokio::test]
async fn a_call_that_goes_on_finds_its_jobs_in_several_arrays() {
    let fake = Fake::new();
    fake.program("sbatch", "wc -l <asked");
    // The first call is cut while its tasks wait.
    fake.program("squeue", "touch looked; sleep 600");
    let slurm = Slurm { max_array: Some(3), ..fake.settings() };
    let all: Vec<Job> = (0..5).map(|index| fake.0.shell(&format!("j{index}"), "")).collect();
    let scheduler = SchedulerConfig::Slurm(slurm.clone()).open(&fake.path("state")).unwrap();
    let mut watch = |_: &Job, _: JobEvent| {};
    let looked = fake.path("looked");
    tokio::select! {
        _ = scheduler.run(all, &mut watch, CancellationToken::new()) => panic!("it ended"),
        () = support::wait_for(|| looked.exists()) => {}
    }
    succeeds(&fake);
    assert_eq!(ends_of(&fake, slurm, 5).await, ["0-2", "0-1"], "submitted once");
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
