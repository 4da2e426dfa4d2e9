//! Jobs as processes of this machine.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

mod support;

use std::fs;

use isr_sweep::scheduler::{JobEnd, Local, Scheduler};
use support::{Jobs, failed, is_alive, wait_for};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

fn local(jobs: usize) -> Local {
    Local { jobs: Some(jobs), grace: 10.0, ..Local::default() }
}

#[tokio::test]
async fn jobs_get_their_folder_environment_arguments_and_log_and_one_that_fails_stops_no_other() {
    let jobs = Jobs::new();
    let mut first = jobs.shell("first", r#"echo "$A|$OMP_NUM_THREADS|$(pwd)|$1"; echo wrong >&2"#);
    first.command.extend(["sh".into(), "two  words $A".into()]);
    first.env = vec![("A".into(), "1 '2' $3".into())];
    first.cpus = 3;
    let mut missing = jobs.shell("missing", "");
    missing.command = vec!["no-such-program".into()];
    let all = vec![first, missing, jobs.shell("bad", "exit 3"), jobs.shell("last", "echo end")];
    let ends = support::run(&local(1), all, CancellationToken::new()).await;
    assert_eq!(ends["first"], JobEnd::Done);
    assert_eq!(ends["bad"], failed("exit status: 3"));
    assert_eq!(ends["last"], JobEnd::Done);
    assert!(matches!(&ends["missing"], JobEnd::Failed { status } if status.contains("`no-such-program`")));
    let folder = jobs.folder().canonicalize().unwrap();
    assert_eq!(jobs.log("first"), format!("1 '2' $3|3|{}|two  words $A\nwrong\n", folder.display()));
    assert_eq!(jobs.log("last"), "end\n");
}

#[tokio::test]
async fn as_many_run_at_once_as_there_are_slots() {
    let jobs = Jobs::new();
    // Each waits for another: of three, one alone would never end.
    let script = "touch $0; until [ $(ls started | wc -l) -ge 2 ]; do sleep 0.02; done";
    fs::create_dir(jobs.folder().join("started")).unwrap();
    let all =
        ["a", "b", "c"].map(|name| jobs.shell(name, &script.replace("$0", &format!("started/{name}"))));
    let ends = support::run(&local(2), all.to_vec(), CancellationToken::new()).await;
    assert!(ends.values().all(|end| *end == JobEnd::Done), "{ends:?}");
}

#[tokio::test]
async fn nothing_that_a_job_started_outlives_it() {
    let jobs = Jobs::new();
    let all = vec![jobs.shell("a", "sleep 600 & echo $! > child")];
    let ends = support::run(&local(1), all, CancellationToken::new()).await;
    assert_eq!(ends["a"], JobEnd::Done);
    let child = fs::read_to_string(jobs.folder().join("child")).unwrap();
    wait_for(|| !is_alive(&child)).await;
}

#[tokio::test]
async fn a_cancelled_job_is_asked_first_and_others_are_not_started() {
    let jobs = Jobs::new();
    // What a shell starts in the background ignores SIGINT, and so does what that starts, whatever it traps; but where
    // the starting process has a handler, as `isr` has.
    let _handler = signal(SignalKind::interrupt()).unwrap();
    let asked = "trap 'echo asked; exit 130' INT; sleep 600 & : >up; wait";
    let all = vec![jobs.shell("asked", asked), jobs.shell("never", "touch never")];
    let cancel = CancellationToken::new();
    let (up, stop) = (jobs.folder().join("up"), cancel.clone());
    let scheduler = local(1);
    let run = support::run(&scheduler, all, cancel);
    let (ends, ()) = tokio::join!(run, async move {
        wait_for(|| up.exists()).await;
        stop.cancel();
    });
    assert_eq!(ends["asked"], JobEnd::Cancelled);
    assert_eq!(ends["never"], JobEnd::Cancelled);
    assert_eq!(jobs.log("asked"), "asked\n");
    assert!(!jobs.folder().join("never").exists());
}

#[tokio::test]
async fn a_job_that_does_not_listen_is_killed_after_the_grace() {
    let jobs = Jobs::new();
    let deaf = "trap '' INT TERM; sleep 600 & : >up; while :; do wait; done";
    let cancel = CancellationToken::new();
    let (up, stop) = (jobs.folder().join("up"), cancel.clone());
    let scheduler = Local { grace: 0.1, ..local(1) };
    let run = support::run(&scheduler, vec![jobs.shell("deaf", deaf)], cancel);
    let (ends, ()) = tokio::join!(run, async move {
        wait_for(|| up.exists()).await;
        stop.cancel();
    });
    // It would never end by itself.
    assert_eq!(ends["deaf"], JobEnd::Cancelled);
}

#[tokio::test]
async fn a_call_that_is_dropped_leaves_no_process() {
    let jobs = Jobs::new();
    let all = vec![jobs.shell("a", "echo $$ > own; sleep 600 & echo $! > child; wait")];
    let scheduler = local(1);
    let mut watch = |_: &isr_sweep::scheduler::Job, _| {};
    let call = scheduler.run(all, &mut watch, CancellationToken::new());
    let child = jobs.folder().join("child");
    tokio::select! {
        _ = call => panic!("it ended"),
        () = wait_for(|| fs::read_to_string(&child).is_ok_and(|text| text.ends_with('\n'))) => {}
    }
    for file in ["own", "child"] {
        let pid = fs::read_to_string(jobs.folder().join(file)).unwrap();
        wait_for(|| !is_alive(&pid)).await;
    }
}
