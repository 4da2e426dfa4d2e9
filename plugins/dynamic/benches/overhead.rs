//! What a call costs that does nothing: a judge linked in, in a library, and in a process.
//!
//! ```sh
//! cargo bench -p isr-dynamic
//! ```

#![allow(clippy::unwrap_used, reason = "a benchmark that cannot go on should stop")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use isr_contract::FakePolicy;
use isr_contract::fixtures::case;
use isr_core::plugin::{Isolation, PluginFile, Plugins, Settings};
use isr_core::registry::{BuildContext, Kind};
use isr_core::{ComponentError, FrozenPolicy, Judge, JudgeCase, Verdict};
// Registers the loader.
use isr_dynamic as _;
use serde_json::Map;

#[path = "../tests/plugins/built.rs"]
mod built;

struct Nothing;

#[async_trait]
impl Judge for Nothing {
    async fn judge(&self, _: &JudgeCase, _: &FrozenPolicy) -> Result<Verdict, ComponentError> {
        Ok(Verdict { p_first: 0.5, votes: Vec::new(), consistent: true })
    }
}

/// The judge `nothing` of the fixture.
fn loaded(isolation: Isolation) -> Arc<dyn Judge> {
    isr_dynamic::use_host(env!("CARGO_BIN_EXE_isr-plugin-host"));
    let file = PluginFile { isolation: Some(isolation), ..PluginFile::new(built::fixture()) };
    let plugins = Plugins::load(&[file], &[]).unwrap();
    let (_, loaded) = plugins.find(Kind::Judge, "nothing").unwrap();
    let (settings, cx) = (Map::new(), BuildContext::default());
    loaded.plugin.judge("nothing", &Settings { settings: &settings, cx: &cx }).unwrap()
}

async fn measure(name: &str, judge: Arc<dyn Judge>, calls: u32) {
    let (case, policy) = (case("a red bar.", "a blue bar."), Arc::new(FakePolicy::default()).frozen());
    let mut best = Duration::MAX;
    for _ in 0..5 {
        let start = Instant::now();
        for _ in 0..calls {
            black_box(judge.judge(black_box(&case), &policy).await.unwrap());
        }
        best = best.min(start.elapsed() / calls);
    }
    println!("{name:<28} {:>12.3} µs a call", best.as_secs_f64() * 1e6);
}

#[tokio::main]
async fn main() {
    measure("judge, linked in", Arc::new(Nothing), 1_000_000).await;
    measure("judge, library", loaded(Isolation::InProcess), 10_000).await;
    measure("judge, library in a process", loaded(Isolation::Process), 500).await;
}
