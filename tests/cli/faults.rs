//! What faulty machines and hostile folders do to runs.
#![cfg(unix)]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::{Said, command, isr_line, playground, started};

fn output(mut command: Command) -> Said {
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Said { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// The program under a limit of file sizes, in KiB.
fn limited(folder: &Path, kib: u32, line: &str) -> Said {
    let program = env!("CARGO_BIN_EXE_isr");
    let mut shell = Command::new("sh");
    // A block of `ulimit -f` has 512 bytes.
    shell.args(["-c", &format!("ulimit -f {}; exec {program} {line}", kib * 2)]).current_dir(folder);
    output(shell)
}

fn read(folder: &Path, name: &str) -> Vec<u8> {
    fs::read(folder.join(name)).unwrap()
}

#[test]
fn a_write_beyond_a_limit_is_an_error_with_folder_and_bytes_and_the_run_goes_on() {
    let folder = playground();
    let path = folder.path();
    isr_line(path, "run run.toml -q --out whole -s loop.iterations=1").result();
    // Less than the checkpoint's weights, more than any journal.
    let weights = fs::metadata(path.join("whole/iteration-01/checkpoint/model.safetensors")).unwrap().len();
    let journals = fs::metadata(path.join("whole/iteration-01/responses.jsonl")).unwrap().len();
    let limit = (weights / 2048) as u32;
    assert!(u64::from(limit) * 1024 > 2 * journals, "{weights} {journals}");
    let said = limited(path, limit, "run run.toml -q --out cut -s loop.iterations=1");
    assert_eq!(said.code, Some(1), "{}", said.stderr);
    for part in
        ["cut/iteration-01", "File too large", "or more", "are free in", "ulimit -f", "continues the run"]
    {
        assert!(said.stderr.contains(part), "{part}: {}", said.stderr);
    }
    let left = fs::read_dir(path.join("cut/iteration-01")).unwrap().flatten().map(|it| it.file_name());
    let left: Vec<_> = left.map(|name| name.into_string().unwrap()).collect();
    assert!(!left.iter().any(|name| name.contains("checkpoint") || name.contains(".tmp")), "{left:?}");
    isr_line(path, "run run.toml -q --out cut -s loop.iterations=1").result();
    for name in
        ["iteration-01/responses.jsonl", "iteration-01/checkpoint/model.safetensors", "summary.json"]
    {
        assert_eq!(read(path, &format!("whole/{name}")), read(path, &format!("cut/{name}")), "{name}");
    }
}

#[test]
fn files_that_are_no_results_never_stop_a_run() {
    let folder = playground();
    let path = folder.path();
    let run = "run run.toml -q --out out -s loop.iterations=1";
    isr_line(path, run).result();
    // As a full disk left them once: half a line, and the next one behind it.
    fs::write(path.join("out/timings.jsonl"), "{\"iteration\":1,\"sta{\"iteration\":1}\n{\"it").unwrap();
    fs::write(path.join("out/provenance.json"), "{").unwrap();
    fs::remove_file(path.join("out/report.html")).unwrap();
    fs::create_dir(path.join("out/report.html")).unwrap();
    let said = isr_line(path, "run run.toml --out out -s loop.iterations=2");
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert!(said.stderr.contains("provenance.json is damaged"), "{}", said.stderr);
    assert!(said.stderr.contains("the report is not written"), "{}", said.stderr);
    let timings = fs::read_to_string(path.join("out/timings.jsonl")).unwrap();
    assert!(timings.lines().count() > 5 && timings.ends_with("}\n"), "{timings}");
    fs::remove_dir(path.join("out/report.html")).unwrap();
    isr_line(path, "audit out").result();
    isr_line(path, "report out").result();
}

/// A library under which `flock` fails, compiled here.
fn without_flock(folder: &Path, errno: &str) -> PathBuf {
    let (source, library) = (folder.join("flock.c"), folder.join(format!("no-{errno}.so")));
    let text = format!(
        "#include <errno.h>\nint flock(int fd, int op) {{ (void)fd; (void)op; errno = {errno}; return -1; }}\n"
    );
    fs::write(&source, text).unwrap();
    let made =
        Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).status().unwrap();
    assert!(made.success());
    library
}

#[test]
fn a_file_system_without_locks_is_a_warning() {
    let folder = playground();
    let path = folder.path();
    for errno in ["ENOSYS", "EOPNOTSUPP", "ENOLCK", "EBADF"] {
        let library = without_flock(path, errno);
        let mut run = command(path);
        run.args(["run", "run.toml", "--stage-cache", "shared", "-s", "loop.iterations=1", "--out", errno]);
        let said = output({
            run.env("LD_PRELOAD", &library);
            run
        });
        assert_eq!(said.code, Some(0), "{errno}: {}", said.stderr);
        assert_eq!(
            said.stderr.matches("this file system has no locks").count(),
            1,
            "{errno}: {}",
            said.stderr
        );
    }
    assert_eq!(read(path, "ENOSYS/summary.json"), read(path, "EBADF/summary.json"));
}

#[test]
fn links_in_a_run_directory_are_refused_and_what_they_point_to_stays() {
    let folder = playground();
    let path = folder.path();
    fs::write(path.join("mine"), "mine").unwrap();
    for name in [".lock", "config.toml.tmp", "provenance.json.tmp", "timings.jsonl"] {
        fs::create_dir(path.join("out")).unwrap();
        symlink(path.join("mine"), path.join("out").join(name)).unwrap();
        let said = isr_line(path, "run run.toml --out out -s loop.iterations=1");
        assert!(
            said.stderr.contains(name) && said.stderr.contains("symbolic link"),
            "{name}: {}",
            said.stderr
        );
        let is_result = name == ".lock" || name == "config.toml.tmp";
        assert_eq!(said.code, Some(i32::from(is_result)), "{name}: {}", said.stderr);
        assert_eq!(read(path, "mine"), b"mine", "{name}");
        fs::remove_dir_all(path.join("out")).unwrap();
    }
    fs::create_dir(path.join("out")).unwrap();
    fs::write(path.join("out/annotations.jsonl"), "").unwrap();
    symlink(path.join("mine"), path.join("out/.annotations.lock")).unwrap();
    isr_line(path, "run run.toml -q --out out -s loop.iterations=1").result();
    let said = isr_line(path, "annotate out --annotator me --port 0");
    assert!(
        said.stderr.contains(".annotations.lock") && said.stderr.contains("symbolic link"),
        "{}",
        said.stderr
    );
    assert_eq!((said.code, read(path, "mine").as_slice()), (Some(1), &b"mine"[..]));
}

#[test]
fn damage_is_reported_with_file_and_line() {
    let folder = playground();
    let path = folder.path();
    isr_line(path, "run run.toml -q --out out -s loop.iterations=1").result();
    let journal = path.join("out/iteration-01/evaluation.jsonl");
    let text = fs::read_to_string(&journal).unwrap();
    let last = text.lines().last().unwrap();
    fs::write(&journal, format!("{text}{last}\n")).unwrap();
    let said = isr_line(path, "run run.toml -q --out out");
    assert_eq!(said.code, Some(1));
    let lines = text.lines().count();
    let says = format!("iteration-01/evaluation.jsonl is damaged: line {} repeats line {lines}", lines + 1);
    assert!(said.stderr.contains(&says), "{}", said.stderr);
    for readers in ["audit out", "report out", "export out --format llava-hound --out pairs.jsonl"] {
        let said = isr_line(path, readers);
        assert!(said.code == Some(1) && said.stderr.contains(&says), "{readers}: {}", said.stderr);
    }
    fs::write(&journal, &text).unwrap();

    isr_line(path, "run run.toml -q --out other -s loop.iterations=1 -s seed=8").result();
    // Whole, so that its own digests are right.
    let checkpoint = |run: &str| path.join(run).join("iteration-01/checkpoint");
    fs::remove_dir_all(checkpoint("out")).unwrap();
    fs::rename(checkpoint("other"), checkpoint("out")).unwrap();
    let said = isr_line(path, "run run.toml -q --out out");
    assert_eq!(said.code, Some(1));
    assert!(said.stderr.contains("iteration-01/checkpoint is damaged: its weights are"), "{}", said.stderr);
}

#[test]
fn a_run_is_not_continued_on_another_clip_under_the_same_path() {
    let folder = playground();
    let path = folder.path();
    isr_line(path, "run run.toml -q --out out -s loop.iterations=1").result();
    let videos: serde_json::Value = serde_json::from_slice(&read(path, "out/videos.json")).unwrap();
    let video = videos.as_object().unwrap().keys().next().unwrap().clone();
    let clip = path.join(&video);
    let bytes = fs::read(&clip).unwrap();
    let mut other = bytes.clone();
    *other.last_mut().unwrap() ^= 1;
    fs::write(&clip, other).unwrap();
    let said = isr_line(path, "run run.toml -q --out out");
    assert_eq!(said.code, Some(2), "{}", said.stderr);
    assert!(
        said.stderr.contains(&format!("the video {video} is not the file that it was")),
        "{}",
        said.stderr
    );
    fs::write(&clip, bytes).unwrap();
    isr_line(path, "run run.toml -q --out out").result();
}

#[test]
fn signals_of_schedulers_stop_a_run_soon_and_the_same_command_continues_it() {
    let folder = playground();
    let path = folder.path();
    isr_line(path, "run run.toml -q --out whole").result();
    let moments = [
        ("-TERM", "starting model, evaluate"),
        ("-USR1", "iteration 1, respond"),
        ("-TERM", "iteration 1, judge"),
        ("-USR1", "iteration 1, train"),
        ("-TERM", "iteration 2, train"),
    ];
    for (signal, mark) in moments {
        let mut child = started(path, "cut", mark);
        let asked = Instant::now();
        assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
        assert_eq!(child.wait().unwrap().code(), Some(130), "{signal} {mark}");
        // A bound against hanging, far above what any machine takes.
        assert!(asked.elapsed() < Duration::from_secs(60), "{signal} {mark}");
    }
    isr_line(path, "run run.toml -q --out cut").result();
    for name in ["summary.json", "iteration-01/metrics.jsonl", "iteration-02/checkpoint/model.safetensors"]
    {
        assert_eq!(read(path, &format!("whole/{name}")), read(path, &format!("cut/{name}")), "{name}");
    }
}

#[test]
fn a_log_that_cannot_be_written_stops_nothing() {
    let folder = playground();
    let mut shell = Command::new("sh");
    let line = format!(
        "{} run run.toml -vv --out out -s loop.iterations=1 2>/dev/full",
        env!("CARGO_BIN_EXE_isr")
    );
    shell.args(["-c", &line]).current_dir(folder.path());
    assert_eq!(output(shell).code, Some(0));
}

#[test]
fn control_characters_of_inputs_do_not_reach_the_terminal() {
    let folder = playground();
    let path = folder.path();
    fs::write(path.join("bad.toml"), "\"\\u001b[31mred\" = 1\nextends = \"run.toml\"\n").unwrap();
    let said = isr_line(path, "config check bad.toml");
    assert_eq!(said.code, Some(2));
    assert!(said.stderr.contains("\\u{1b}[31mred") && !said.stderr.contains('\u{1b}'), "{:?}", said.stderr);
}

#[test]
fn configs_are_regular_files_of_a_bounded_size() {
    let folder = playground();
    let path = folder.path();
    for device in ["/dev/zero", "/dev/full", "/dev/urandom"] {
        fs::write(path.join("endless.toml"), format!("extends = {device:?}\n")).unwrap();
        let said = isr_line(path, "config check endless.toml");
        assert_eq!(said.code, Some(2), "{device}");
        assert!(said.stderr.contains(device) && said.stderr.contains("no regular file"), "{}", said.stderr);
    }
    let said = isr_line(path, "config check /dev/zero");
    assert!(said.code == Some(2) && said.stderr.contains("more than 16 MiB"), "{}", said.stderr);
}

#[test]
fn two_warm_starts_at_once_create_one_model() {
    let folder = playground();
    let path = folder.path();
    let start = |out: &str| {
        let mut command = command(path);
        // Each renders its own clips, which are the same.
        let world = format!("demonstrations.world.dir={out}-world");
        command.args(["sft", "sft.toml", "-q", "--out", out, "-s", &world]).spawn().unwrap()
    };
    for mut child in [start("a"), start("b")] {
        assert_eq!(child.wait().unwrap().code(), Some(0));
    }
    let weights = "checkpoint/model.safetensors";
    assert_eq!(read(path, &format!("a/{weights}")), read(path, &format!("b/{weights}")));
    let beside = fs::read_dir(path).unwrap().flatten().map(|it| it.file_name().into_string().unwrap());
    let beside: Vec<_> = beside.filter(|name| name.starts_with("new-model")).collect();
    assert_eq!(beside, ["new-model"]);
}
