//! What holds for every back end whose jobs outlive their caller.

use std::path::{Path, PathBuf};

use isr_sweep::scheduler::{Job, JobEnd, SchedulerConfig};
use tokio_util::sync::CancellationToken;

use super::{Jobs, failed, run, wait_for};

/// Jobs get their folder, environment, arguments and log; one that fails stops no other; nothing is left
/// in the state folder.
pub(crate) async fn runs_jobs(settings: &SchedulerConfig) {
    let jobs = Jobs::new();
    let mut first = jobs.shell("first", r#"echo "$A|$OMP_NUM_THREADS|$(pwd)|$1"; echo wrong >&2; cat"#);
    first.command.extend(["sh".into(), "two  words $A 'x'".into()]);
    first.env = vec![("A".into(), "1 '2' $3".into())];
    first.cpus = 2;
    let mut missing = jobs.shell("missing", "");
    missing.command = vec!["no-such-program".into()];
    let all = vec![first, missing, jobs.shell("bad", "exit 3"), jobs.shell("last", "echo end")];
    let ends = run(&*settings.open(&state(&jobs)).unwrap(), all, CancellationToken::new()).await;
    assert_eq!(ends["first"], JobEnd::Done);
    assert_eq!(ends["bad"], failed("exit status: 3"));
    assert_eq!(ends["missing"], failed("exit status: 127"));
    assert_eq!(ends["last"], JobEnd::Done);
    let folder = jobs.folder().canonicalize().unwrap();
    assert_eq!(jobs.log("first"), format!("1 '2' $3|2|{}|two  words $A 'x'\nwrong\n", folder.display()));
    assert!(jobs.log("missing").contains("no-such-program"));
    assert_eq!(left(&state(&jobs)), Vec::<PathBuf>::new());
}

/// A second call waits for what the first submitted, and submits what is new. `cut` damages the state as
/// a cut at another moment would.
pub(crate) async fn survives_a_cut(settings: &SchedulerConfig, cut: impl Fn(&Path)) {
    let jobs = Jobs::new();
    let held = "echo started; touch up; until [ -e go ]; do sleep 0.1; done; echo ended";
    let held = jobs.shell("held", held);
    let (up, state) = (jobs.folder().join("up"), state(&jobs));
    let scheduler = settings.open(&state).unwrap();
    let mut watch = |_: &Job, _| {};
    tokio::select! {
        outcome = scheduler.run(vec![held.clone()], &mut watch, CancellationToken::new()) => {
            panic!("it ended: {outcome:?}")
        }
        () = wait_for(|| up.exists() && !left(&state).is_empty()) => {}
    }
    cut(&state);
    let again = settings.open(&state).unwrap();
    let mut changed = jobs.shell("held-again", "echo other");
    changed.env = vec![("A".into(), "b".into())];
    let all = vec![changed, held];
    let go = jobs.folder().join("go");
    let (ends, ()) = tokio::join!(run(&*again, all, CancellationToken::new()), async move {
        std::fs::write(go, "").unwrap();
    });
    assert!(ends.values().all(|end| *end == JobEnd::Done), "{ends:?}");
    assert_eq!(jobs.log("held"), "started\nended\n");
    assert_eq!(jobs.log("held-again"), "other\n");
    assert_eq!(left(&state), Vec::<PathBuf>::new());
}

/// A cancelled job is told by SIGTERM; what waits does not start.
pub(crate) async fn cancels(settings: &SchedulerConfig) {
    let jobs = Jobs::new();
    let asked = "trap 'echo asked; exit 130' TERM; touch up; while :; do sleep 0.1; done";
    let all = vec![jobs.shell("asked", asked), jobs.shell("never", "touch never")];
    let (up, never) = (jobs.folder().join("up"), jobs.folder().join("never"));
    let (cancel, state) = (CancellationToken::new(), state(&jobs));
    let (scheduler, stop) = (settings.open(&state).unwrap(), cancel.clone());
    let (ends, ()) = tokio::join!(run(&*scheduler, all, cancel), async move {
        wait_for(|| up.exists()).await;
        stop.cancel();
    });
    assert_eq!(ends["asked"], JobEnd::Cancelled);
    assert_eq!(ends["never"], JobEnd::Cancelled);
    // Its `sleep` is told too, of which the shell may speak.
    assert!(jobs.log("asked").ends_with("asked\n"), "{}", jobs.log("asked"));
    assert!(!never.exists());
    assert_eq!(left(&state), Vec::<PathBuf>::new());
}

fn state(jobs: &Jobs) -> PathBuf {
    jobs.folder().join("the state")
}

fn left(state: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(state).map_or(Vec::new(), |entries| entries.map(|it| it.unwrap().path()).collect())
}
