//! A million samples: `cargo test --release -p isr-run --test loop -- --ignored --nocapture a_million_samples`.

use std::fs;
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use isr_api::{ComponentError, Event, LabelledSample, Observer, Sample, SampleSource};

use crate::bench::{Fakes, Settings, loop_in, run_with, scratch};
use crate::control::Control;
use crate::fakes::{FakeSource, samples};
use isr_config::to_toml;
use isr_run::store::RunDir;
use isr_testing::ThreadGroup;

/// Resident memory of this process in MiB: now, and at its peak.
fn mib() -> [u64; 2] {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    ["VmRSS:", "VmHWM:"].map(|name| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("0");
        line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) / 1024
    })
}

/// Prints memory at the end of each stage.
struct Memory(Instant);

impl Observer for Memory {
    fn observe(&self, event: &Event<'_>) {
        if let Event::StageStarted { iteration, stage, .. }
        | Event::StageFinished { iteration, stage, .. } = event
        {
            let ([now, peak], seconds) = (mib(), self.0.elapsed().as_secs_f64());
            println!("{seconds:6.1} s, iteration {iteration} {}: {now} MiB, peak {peak} MiB", stage.name());
        }
    }
}

/// Samples that are made when they are asked for, as those of a file are read.
struct Made(usize);

impl Made {
    fn held_out(&self) -> FakeSource {
        FakeSource { training: Vec::new(), evaluation: samples("e", 8), control: Arc::default() }
    }
}

#[async_trait]
impl SampleSource for Made {
    async fn training(&self) -> Result<Vec<Sample>, ComponentError> {
        Ok(samples("s", self.0))
    }

    async fn evaluation(&self) -> Result<Vec<LabelledSample>, ComponentError> {
        self.held_out().evaluation().await
    }

    async fn audit(&self) -> Result<Vec<LabelledSample>, ComponentError> {
        let label = |sample| {
            let reference = "red red red".to_owned();
            LabelledSample { sample, reference, facts: serde_json::Value::Null }
        };
        Ok(samples("s", self.0).into_iter().map(label).collect())
    }
}

/// One iteration on samples whose number `ISR_SCALE` says. Prints seconds and peak memory.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes"]
async fn a_million_samples() {
    let count = std::env::var("ISR_SCALE").ok().and_then(|text| text.parse().ok()).unwrap_or(1_000_000);
    let mut settings = Settings::default();
    settings.r#loop.iterations = 1;
    settings.r#loop.concurrency = 64;
    settings.train.epochs = 1;
    settings.train.batch_size = 4096;
    let control = Arc::new(Control::silent());
    let components = || {
        let mut components = Fakes::new(&control).components;
        components.data = Arc::new(Made(count));
        components
    };
    let (dir, started) = (scratch(), Instant::now());
    settings.observers = vec![Arc::new(Memory(started))];
    match std::env::var("ISR_PROCESSES") {
        Err(_) => drop(run_with(dir.path(), &settings, components()).await.unwrap()),
        // All processes are in this one, which therefore takes their memory together.
        Ok(processes) => {
            let value = settings.value();
            let mut leader = Some(RunDir::open(dir.path(), &value, &to_toml(&value).unwrap()).unwrap());
            let runs = ThreadGroup::members(processes.parse().unwrap()).into_iter().map(|group| {
                let store = leader.take().unwrap_or_else(|| RunDir::join(dir.path()).unwrap());
                let inner = loop_in(store, &settings, components()).with_processes(group);
                tokio::spawn(async move { inner.run().await })
            });
            for run in runs.collect::<Vec<_>>() {
                run.await.unwrap().unwrap();
            }
        }
    }
    println!("{count} samples: {:.1} s, peak {} MiB", started.elapsed().as_secs_f64(), mib()[1]);
}
