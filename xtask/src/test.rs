//! `cargo xtask test`: every check, in one go, with one summary.
//!
//! A failing step does not stop the later ones, so that one run tells all.

use std::io::{BufRead, BufReader, Write, stdout};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::counts::{self, Counts};
use crate::public_api::{self, ApiArgs};
use crate::setup::{self, SetupArgs};
use crate::{browser, clusters, embedder, features, process, repository, venv, zig};

/// What to check.
#[derive(Args)]
pub(crate) struct TestArgs {
    /// Also run tests/python and plugins/transformers/tests, in a virtual environment made in .venv
    #[arg(long)]
    python: bool,
    /// As the CI does: with --python and a Chromium that is installed by apt-get where it is missing,
    /// Cargo.lock must be current, no incremental build
    #[arg(long)]
    ci: bool,
    /// Run only the tests that need a Slurm and a Ray on this machine, which are installed where they are
    /// missing: Slurm by apt-get, as root, Ray from PyPI into .venv-ray
    #[arg(long, conflicts_with_all = ["python", "ci", "filter"])]
    clusters: bool,
    /// Check only that each cargo feature of the root package compiles alone
    #[arg(long, conflicts_with_all = ["python", "ci", "clusters", "filter"])]
    features: bool,
    /// Run only the tests whose name contains this, and none of the other checks
    filter: Option<String>,
}

/// How a step went.
enum Outcome {
    Ok,
    Failed(String),
    Skipped(String),
}

/// A step that was run or skipped.
struct Step {
    name: String,
    outcome: Outcome,
    took: Duration,
    counts: Counts,
}

/// The folders of Python tests. Each is run by a pytest of its own: they differ in what they can import.
const PYTHON_TESTS: [&str; 2] = ["tests/python", "plugins/transformers/tests"];

/// pytest's exit status where no test was run: with a filter, not a failure.
const NO_TESTS: i32 = 5;

type LineParser = fn(&str) -> Option<Counts>;

/// The steps run so far, and what they need to run.
struct Session<'a> {
    root: &'a Path,
    args: &'a TestArgs,
    steps: Vec<Step>,
    /// `.venv`, which is made while the Rust tests compile.
    venv: Option<JoinHandle<Result<PathBuf>>>,
}

/// Runs all checks; fails if any of them failed.
pub(crate) fn run(args: &TestArgs) -> Result<()> {
    setup::run(&SetupArgs::default())?;
    let root = repository::root()?;
    if args.clusters {
        let mut session = Session::new(&root, args);
        session.clusters()?;
        return summarise(&session.steps);
    }
    if args.features {
        let mut session = Session::new(&root, args);
        session.features();
        return summarise(&session.steps);
    }
    zig::ensure_installed(&root)?;
    let mut session = Session::new(&root, args);
    if (args.python || args.ci) && venv::has_tests(&root) {
        let root = root.clone();
        session.venv = Some(thread::spawn(move || venv::ensure(&root)));
    }
    if args.filter.is_none() {
        session.lints();
    }
    session.rust_tests();
    if args.filter.is_none() {
        session.documentation();
        session.embedder();
        session.public_api();
        session.licences();
    }
    if args.python || args.ci {
        session.python_tests();
    }
    summarise(&session.steps)
}

impl<'a> Session<'a> {
    fn new(root: &'a Path, args: &'a TestArgs) -> Self {
        Self { root, args, steps: Vec::new(), venv: None }
    }

    fn lints(&mut self) {
        let mut fmt = self.cargo(&["fmt", "--all", "--check"], false);
        self.check("fmt", &mut fmt);
        let mut clippy = self.cargo(&["clippy", "--workspace", "--all-targets"], true);
        self.check("clippy", clippy.args(["--", "-D", "warnings"]));
    }

    fn rust_tests(&mut self) {
        let mut test = self.cargo(&["test", "--workspace", "--no-fail-fast"], true);
        if let Some(filter) = &self.args.filter {
            test.args(["--", filter]);
        }
        self.suite("test", &mut test, counts::cargo_line);
    }

    /// The tests that are ignored otherwise: each needs a cluster, and starts one.
    fn clusters(&mut self) -> Result<()> {
        clusters::ensure_slurm()?;
        let ray = clusters::ensure_ray(self.root)?;
        self.check("program", &mut self.cargo(&["build", "--package=isr-dpo"], true));
        let tests = ["test", "--package=isr-sweep", "--no-fail-fast", "--test=slurm", "--test=ray"];
        let mut test = self.cargo(&tests, true);
        test.args(["--", "--ignored"])
            .env("ISR_TEST_RAY", ray)
            .env("ISR_PROGRAM", self.root.join("target/debug/isr"));
        self.suite("clusters", &mut test, counts::cargo_line);
        Ok(())
    }

    fn documentation(&mut self) {
        let mut doc = self.cargo(&["doc", "--workspace", "--no-deps"], true);
        self.check("doc", doc.env("RUSTDOCFLAGS", "-D warnings"));
    }

    /// A program outside the workspace, with its own target folder: built, and started without a variable of ours.
    fn embedder(&mut self) {
        let start = Instant::now();
        heading("embedder", "examples/embedder, with the least features");
        let outcome =
            embedder::check(self.root, self.args.ci).map_or_else(|error| failed(&error), |()| Outcome::Ok);
        self.end("embedder", outcome, start, Counts::default());
    }

    fn public_api(&mut self) {
        let start = Instant::now();
        heading("api", "public items of isr-api and isr-plugin");
        let outcome =
            public_api::run(&ApiArgs::default()).map_or_else(|error| failed(&error), |()| Outcome::Ok);
        self.end("api", outcome, start, Counts::default());
    }

    /// Each feature of the root package alone, and none.
    fn features(&mut self) {
        for features in std::iter::once(String::new()).chain(features::all(self.root)) {
            let mut check = self.cargo(&["clippy", "--package=isr-dpo", "--no-default-features"], true);
            check.arg(format!("--features={features}")).args(["--", "-D", "warnings"]);
            let name = format!("feature {}", if features.is_empty() { "none" } else { &features });
            self.check(&name, &mut check);
        }
    }

    fn licences(&mut self) {
        let installed = process::capture(&mut self.cargo(&["deny", "--version"], false)).is_ok();
        if !installed {
            self.skip("deny", "cargo-deny is not installed (`cargo install cargo-deny`)");
        } else if !self.root.join("deny.toml").is_file() {
            self.skip("deny", "there is no deny.toml");
        } else {
            let mut deny = self.cargo(&["deny", "check"], false);
            self.check("deny", &mut deny);
        }
    }

    fn python_tests(&mut self) {
        let Some(venv) = self.venv.take() else {
            return self.skip("pytest", "tests/python has no test_*.py");
        };
        if self.args.ci {
            self.browser();
        }
        let start = Instant::now();
        heading("venv", ".venv from tests/python/requirements.txt");
        let made = venv.join().unwrap_or_else(|_| Err(anyhow::anyhow!("making .venv panicked")));
        let python = match made {
            Ok(python) => python,
            Err(error) => return self.end("venv", failed(&error), start, Counts::default()),
        };
        self.end("venv", Outcome::Ok, start, Counts::default());
        for tests in PYTHON_TESTS {
            let mut pytest = Command::new(&python);
            pytest.args(["-m", "pytest", tests, "-q"]);
            if let Some(filter) = &self.args.filter {
                pytest.args(["-k", filter]);
            }
            pytest.current_dir(self.root);
            self.in_ci(&mut pytest);
            self.suite("pytest", &mut pytest, counts::pytest_line);
        }
    }

    /// Without one, tests/python skips what needs it; in the CI nothing is skipped.
    fn browser(&mut self) {
        let start = Instant::now();
        heading("browser", "chromium and chromedriver");
        let outcome = browser::ensure_installed().map_or_else(|error| failed(&error), |()| Outcome::Ok);
        self.end("browser", outcome, start, Counts::default());
    }

    fn cargo(&self, arguments: &[&str], builds: bool) -> Command {
        let mut cargo = Command::new(repository::cargo());
        cargo.args(arguments).current_dir(self.root);
        if self.args.ci && builds {
            cargo.arg("--locked");
        }
        self.in_ci(&mut cargo);
        cargo
    }

    /// The same setting for every step, or cargo builds our crates twice;
    /// tests/python starts cargo too.
    fn in_ci(&self, command: &mut Command) {
        if self.args.ci {
            command.env("CARGO_INCREMENTAL", "0");
        }
    }

    /// A step that either succeeds or fails.
    fn check(&mut self, name: &str, command: &mut Command) {
        let start = Instant::now();
        heading(name, &process::line(command));
        let outcome = match process::run(command) {
            Ok(()) => Outcome::Ok,
            Err(error) => failed(&error),
        };
        self.end(name, outcome, start, Counts::default());
    }

    /// A step whose output says how many tests passed and failed.
    fn suite(&mut self, name: &str, command: &mut Command, parse: LineParser) {
        let start = Instant::now();
        heading(name, &process::line(command));
        let (outcome, counts) = match tee(command, parse, &mut stdout()) {
            Ok((status, counts)) if self.args.filter.is_some() && status.code() == Some(NO_TESTS) => {
                (Outcome::Ok, counts)
            }
            Ok((status, counts)) => judge(status, counts),
            Err(error) => judge_unstarted(&error),
        };
        self.end(name, outcome, start, counts);
    }

    fn skip(&mut self, name: &str, reason: &str) {
        self.end(name, Outcome::Skipped(reason.to_owned()), Instant::now(), Counts::default());
    }

    fn end(&mut self, name: &str, outcome: Outcome, start: Instant, counts: Counts) {
        let took = start.elapsed();
        match &outcome {
            Outcome::Ok => println!("{name}: ok ({:.1} s)", took.as_secs_f64()),
            Outcome::Failed(why) => println!("{name}: failed ({:.1} s): {why}", took.as_secs_f64()),
            Outcome::Skipped(why) => println!("{name}: skipped: {why}"),
        }
        self.steps.push(Step { name: name.to_owned(), outcome, took, counts });
    }
}

/// A suite that failed without a failed test did not compile or died: it
/// counts as one failure, lest the total read as success.
fn judge(status: ExitStatus, mut counts: Counts) -> (Outcome, Counts) {
    if status.success() {
        return (Outcome::Ok, counts);
    }
    if counts.failed == 0 {
        counts.failed = 1;
        return (Outcome::Failed(format!("did not finish ({status})")), counts);
    }
    (Outcome::Failed(counts.to_string()), counts)
}

fn judge_unstarted(error: &anyhow::Error) -> (Outcome, Counts) {
    let counts = Counts { passed: 0, failed: 1 };
    (failed(error), counts)
}

fn failed(error: &anyhow::Error) -> Outcome {
    Outcome::Failed(format!("{error:#}"))
}

/// Echoes a command's standard output as it comes, and adds up the counts in
/// it.
fn tee(command: &mut Command, parse: LineParser, echo: &mut impl Write) -> Result<(ExitStatus, Counts)> {
    let mut child =
        command.stdout(Stdio::piped()).spawn().map_err(|error| process::not_started(command, &error))?;
    let mut counts = Counts::default();
    if let Some(output) = child.stdout.take() {
        for line in BufReader::new(output).split(b'\n') {
            let line = line.context("cannot read the tests' output")?;
            let line = String::from_utf8_lossy(&line);
            writeln!(echo, "{line}").context("cannot write the tests' output")?;
            if let Some(more) = parse(&line) {
                counts += more;
            }
        }
    }
    let status = child.wait().context("cannot wait for the tests")?;
    Ok((status, counts))
}

fn heading(name: &str, what: &str) {
    println!("\n==> {name}: {what}");
}

/// Prints the table and the total; the error names the steps that failed.
fn summarise(steps: &[Step]) -> Result<()> {
    println!("\n{:<20} {:<8} {:>8}", "step", "result", "seconds");
    let mut total = Counts::default();
    let mut failures = Vec::new();
    for step in steps {
        let result = match &step.outcome {
            Outcome::Ok => "ok",
            Outcome::Failed(_) => "failed",
            Outcome::Skipped(_) => "skipped",
        };
        println!("{:<20} {result:<8} {:>8.1}", step.name, step.took.as_secs_f64());
        total += step.counts;
        if result == "failed" {
            failures.push(step.name.as_str());
        }
    }
    println!("{total}");
    if !failures.is_empty() {
        bail!("failed: {}", failures.join(", "));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    #[test]
    fn a_suite_that_dies_counts_as_one_failure() {
        let passed = Counts { passed: 7, failed: 0 };
        let (outcome, counts) = judge(ExitStatus::from_raw(6), passed);
        assert!(matches!(outcome, Outcome::Failed(_)));
        assert_eq!(counts.to_string(), "7 passed, 1 failed");
    }

    #[test]
    fn output_is_counted_across_suites() {
        let mut command = Command::new("printf");
        command.arg("test result: ok. 2 passed; 0 failed; \nx\ntest result: ok. 3 passed; 1 failed; ");
        // Not to the real stdout: an outer `cargo xtask test` would count it.
        let mut echo = Vec::new();
        let (status, counts) = tee(&mut command, counts::cargo_line, &mut echo).expect("printf runs");
        assert!(status.success());
        assert_eq!(echo.split(|b| *b == b'\n').count(), 4);
        assert_eq!(counts.to_string(), "5 passed, 1 failed");
    }
}
