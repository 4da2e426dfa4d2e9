//! Runs `tests/cases`: inputs that were wrong or refused once, with the right values of reference implementations.
//!
//! A case is a folder with a `case.json`; `tests/cases/README.md` says what is in it.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use regex::Regex;
use serde::Deserialize;
use serde_json::Value;

/// `case.json`.
#[derive(Deserialize)]
struct Case {
    commands: Vec<String>,
    logprobs: Option<Vec<f64>>,
    #[serde(default)]
    tolerance: f64,
    exit: Option<i32>,
    #[serde(default)]
    says: Vec<String>,
    #[serde(default)]
    says_not: Vec<String>,
    /// A bound for what would never end; far above what the commands take.
    #[serde(default)]
    seconds: Option<u64>,
}

/// How a command ended, and all that it printed.
struct Ended {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

/// A limit for commands without one of their own, which is not a measure of speed.
const SECONDS: u64 = 600;

macro_rules! cases {
    ($($name:ident),* $(,)?) => {
        const NAMES: &[&str] = &[$(stringify!($name)),*];
        $(#[test] fn $name() { check(stringify!($name)); })*
    };
}

cases! {
    chat_template_json,
    chat_template_list,
    generation_tag_dashes,
    joined_copies,
    lm_head_adapter,
    lm_head_adapter_without_copy,
    logits_not_finite,
    loop_controls,
    lora_all_linear,
    mpeg_ts,
    one_frame,
    phone_jpegs,
    qwen25_time,
    qwen_vision_inv_freq,
    schema_doubling,
    stream_copied_cut,
    strftime_now,
    template_endless,
    template_overflow,
    tied_config_own_head,
    truncated_control,
    turn_does_not_extend,
}

#[test]
fn every_folder_of_cases_is_run() {
    for entry in fs::read_dir(root()).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let is_case = entry.path().join("case.json").exists();
        assert_eq!(is_case, NAMES.contains(&name.as_str()), "{name}");
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases")
}

/// Runs a case's commands in a copy of its folder, and compares.
fn check(name: &str) {
    let folder = root().join(name);
    let case: Case = serde_json::from_slice(&fs::read(folder.join("case.json")).unwrap()).unwrap();
    let place = tempfile::tempdir().unwrap();
    let work = place.path().join("case");
    copy(&folder, &work);
    let programs = place.path().join("bin");
    fs::create_dir(&programs).unwrap();
    symlink(env!("CARGO_BIN_EXE_isr"), programs.join("isr")).unwrap();
    let limit = Duration::from_secs(case.seconds.map_or(SECONDS, |seconds| 10 * seconds));
    let ended: Vec<Ended> =
        case.commands.iter().map(|command| run(command, &work, &programs, limit)).collect();
    let wanted = case.exit.or(case.logprobs.is_some().then_some(0));
    let (stdout, stderr) = said(&ended);
    for one in &ended {
        assert!(wanted.is_none_or(|wanted| one.code == Some(wanted)), "exit {:?}:\n{stderr}", one.code);
    }
    if let Some(right) = &case.logprobs {
        let got = log_probs(&stdout, right.len());
        let worst = got.iter().zip(right).map(|(got, right)| (got - right).abs()).fold(0.0, f64::max);
        assert!(worst <= case.tolerance, "log-probs differ by {worst:.3}: {got:?}, not {right:?}");
    }
    let all = stdout + &stderr;
    for pattern in &case.says {
        assert!(Regex::new(pattern).unwrap().is_match(&all), "does not say {pattern:?}:\n{all}");
    }
    for pattern in &case.says_not {
        assert!(!Regex::new(pattern).unwrap().is_match(&all), "says {pattern:?}:\n{all}");
    }
}

/// Runs a command of a shell; one that outlives the limit fails the test.
fn run(command: &str, work: &Path, programs: &Path, limit: Duration) -> Ended {
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
    let files = [work.with_file_name("stdout"), work.with_file_name("stderr")];
    let [stdout, stderr] = files.each_ref().map(|path| fs::File::create(path).unwrap());
    let mut child = Command::new("bash")
        .args(["-c", command])
        .current_dir(work)
        .env("PATH", path)
        .env("CASES", root())
        // The date that templates see: 2026-06-01.
        .env("SOURCE_DATE_EPOCH", "1780272000")
        .env_remove("RUST_LOG")
        .stdin(Stdio::null())
        .stdout(stdout)
        .stderr(stderr)
        .process_group(0)
        .spawn()
        .unwrap();
    let start = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if start.elapsed() > limit {
            let group = format!("-{}", child.id());
            Command::new("kill").args(["-KILL", "--", &group]).status().unwrap();
            child.wait().unwrap();
            panic!("no end within {limit:?}: {command}");
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let [stdout, stderr] = files.map(|path| String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned());
    Ended { code: status.code(), stdout, stderr }
}

fn said(ended: &[Ended]) -> (String, String) {
    ended
        .iter()
        .fold(Default::default(), |(stdout, stderr), one| (stdout + &one.stdout, stderr + &one.stderr))
}

/// The log-probs of the first printed row that has as many as are expected.
fn log_probs(stdout: &str, count: usize) -> Vec<f64> {
    let rows = stdout.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let of_row = |row: Value| -> Option<Vec<f64>> {
        row["logprobs"].as_array()?.iter().map(Value::as_f64).collect()
    };
    rows.filter_map(of_row).find(|values| values.len() == count).unwrap_or_else(|| {
        panic!("no row with {count} log-probs:\n{stdout}");
    })
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}
