//! What `run` promises, with the real program.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

use std::ffi::OsString;
use std::time::{Duration, Instant};

use isr_ffmpeg::{Ending, FfmpegError, Limits, Outcome, locate, run};

const LIMITS: Limits = Limits { wall: Duration::from_secs(60), memory: 2 << 30, output: 1 << 20 };

async fn ffmpeg(args: &str, input: &[u8], limits: Limits) -> (Result<Outcome, FfmpegError>, Vec<String>) {
    let args: Vec<OsString> = args.split_whitespace().map(OsString::from).collect();
    let mut lines = Vec::new();
    let program = locate().unwrap();
    let outcome = run(&program, &args, input, &limits, &mut |line| lines.push(line.to_owned())).await;
    (outcome, lines)
}

#[tokio::test]
async fn input_goes_in_and_output_comes_out() {
    let raw = "-v error -f rawvideo -pix_fmt gray -s 4x4 -i pipe:0 -f rawvideo pipe:1";
    let input: Vec<u8> = (0..32).collect();
    let (outcome, lines) = ffmpeg(raw, &input, LIMITS).await;
    let outcome = outcome.unwrap();
    assert!(matches!(outcome.ending, Ending::Exited(status) if status.success()), "{lines:?}");
    assert_eq!(outcome.stdout, input);
}

#[tokio::test]
async fn a_failure_is_an_exit_status_and_lines() {
    let (outcome, lines) = ffmpeg("-v error -i file:/none -f null -", b"", LIMITS).await;
    assert!(matches!(outcome.unwrap().ending, Ending::Exited(status) if !status.success()));
    assert!(lines.iter().any(|line| line.contains("No such file")), "{lines:?}");
}

#[tokio::test]
async fn endless_output_is_cut_at_its_limit() {
    let endless = "-v error -f lavfi -i testsrc=size=64x64 -f rawvideo pipe:1";
    let outcome = ffmpeg(endless, b"", LIMITS).await.0.unwrap();
    assert_eq!(outcome.ending, Ending::OutputLimit);
    assert_eq!(outcome.stdout.len(), LIMITS.output);
}

#[tokio::test]
async fn an_endless_run_is_stopped_in_time() {
    let start = Instant::now();
    let limits = Limits { wall: Duration::from_millis(300), ..LIMITS };
    let (outcome, _) = ffmpeg("-v error -f lavfi -i testsrc=size=64x64 -f null -", b"", limits).await;
    let message = outcome.unwrap_err().to_string();
    assert_eq!(message, "ffmpeg was stopped after 0.3 s");
    assert!(start.elapsed() < Duration::from_secs(20));
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn memory_past_the_limit_fails_that_run_only() {
    // A picture of 588 MB, more than the limit by itself.
    let greedy = "-v error -f lavfi -i color=size=14000x14000:duration=0.1,format=rgb24 -f null -";
    let limits = Limits { memory: 500 << 20, wall: Duration::from_secs(5), ..LIMITS };
    let (outcome, lines) = ffmpeg(greedy, b"", limits).await;
    // Some versions wait for ever after a failed allocation; then the time limit ends them.
    match outcome {
        Ok(Outcome { ending: Ending::Exited(status), .. }) => assert!(!status.success(), "{lines:?}"),
        other => assert!(matches!(other, Err(FfmpegError::TimedOut(_))), "{other:?}"),
    }
    assert!(ffmpeg("-v error -version", b"", LIMITS).await.0.is_ok());
}

#[tokio::test]
async fn a_missing_program_is_told_apart() {
    let nowhere = std::path::Path::new("/nowhere/ffmpeg");
    let outcome = run(nowhere, &[], b"", &LIMITS, &mut |_| ()).await;
    // Through the shell it is the shell's exit status; without one it is an error to start.
    assert!(match outcome {
        Ok(outcome) => matches!(outcome.ending, Ending::Exited(status) if status.code() == Some(127)),
        Err(error) => matches!(error, FfmpegError::Start { .. }),
    });
}
