//! What a call costs that does nothing: a judge linked in, in a library, in WebAssembly and in processes of their own.
//!
//! ```sh
//! cargo bench --workspace --bench overhead
//! ```
//!
//! All of them take turns, so that a busy machine disturbs all alike. Printed are the least and the median of the
//! rounds, and the median of a round's ratio to the judge that is linked in.

#![allow(clippy::unwrap_used, reason = "a benchmark that cannot go on should stop")]

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use isr_api::{BuildContext, ComponentError, FrozenPolicy, Judge, JudgeCase, Kind, Verdict};
use isr_config::plugin::{Isolation, PluginFile, PluginSettings, Plugins};
use isr_testing::FakePolicy;
use isr_testing::fixtures::case;
// They register the loaders.
use isr_native as _;
use isr_python as _;
use isr_wasm as _;
use serde_json::Map;

#[path = "../tests/plugins/built.rs"]
mod built;
#[path = "../../wasm/tests/wasm/support.rs"]
#[allow(dead_code, reason = "shared with the tests")]
mod modules;

const ROUNDS: usize = 9;

struct Nothing;

#[async_trait]
impl Judge for Nothing {
    async fn judge(&self, _: &JudgeCase, _: &FrozenPolicy) -> Result<Verdict, ComponentError> {
        Ok(Verdict { p_first: 0.5, votes: Vec::new(), consistent: true })
    }
}

/// A judge, how often it is called in a round, and what a call took in each.
struct Way {
    name: &'static str,
    judge: Arc<dyn Judge>,
    calls: u32,
    nanoseconds: Vec<f64>,
}

fn loaded(file: PluginFile, name: &str) -> Arc<dyn Judge> {
    let plugins = Plugins::load(&[file], &[]).unwrap();
    let (_, loaded) = plugins.find(Kind::Judge, name).unwrap();
    let (settings, cx) = (Map::new(), BuildContext::default());
    loaded.plugin.judge(name, &PluginSettings { settings: &settings, cx: &cx }).unwrap()
}

/// The judge `nothing` of the fixture.
fn library(isolation: Isolation) -> Arc<dyn Judge> {
    isr_native::use_host(env!("CARGO_BIN_EXE_isr-plugin-host"));
    loaded(PluginFile { isolation: Some(isolation), ..PluginFile::new(built::fixture()) }, "nothing")
}

fn python(folder: &Path) -> Arc<dyn Judge> {
    let text = "from isr_plugin import Judge\n\nclass Nothing(Judge):\n    'Half.'\n    \
                def judge(self, case):\n        return 0.5\n";
    std::fs::write(folder.join("nothing.py"), text).unwrap();
    loaded(PluginFile::new(folder.join("nothing.py")), "nothing")
}

fn webassembly(folder: &Path) -> Arc<dyn Judge> {
    let half = "(data (i32.const 648) \"\\00\\00\\00\\00\\00\\00\\e0\\3f\")";
    std::fs::write(folder.join("nothing.wasm"), modules::judge_module("", half, "")).unwrap();
    loaded(PluginFile::new(folder.join("nothing.wasm")), "hostile")
}

impl Way {
    fn new(name: &'static str, judge: Arc<dyn Judge>, calls: u32) -> Self {
        Self { name, judge, calls, nanoseconds: Vec::new() }
    }

    async fn round(&mut self, case: &JudgeCase, policy: &FrozenPolicy) {
        let start = Instant::now();
        for _ in 0..self.calls {
            black_box(self.judge.judge(black_box(case), policy).await.unwrap());
        }
        self.nanoseconds.push(start.elapsed().as_secs_f64() * 1e9 / f64::from(self.calls));
    }
}

fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}

#[tokio::main]
async fn main() {
    let folder = tempfile::tempdir().unwrap();
    let mut ways = [
        Way::new("linked in", Arc::new(Nothing), 200_000),
        Way::new("library, in this process", library(Isolation::InProcess), 2_000),
        Way::new("WebAssembly", webassembly(folder.path()), 2_000),
        Way::new("library, in a process", library(Isolation::Process), 500),
        Way::new("Python", python(folder.path()), 500),
    ];
    let (case, policy) = (case("a red bar.", "a blue bar."), Arc::new(FakePolicy::default()).frozen());
    for _ in 0..ROUNDS {
        for way in &mut ways {
            way.round(&case, &policy).await;
        }
    }
    let linked = ways[0].nanoseconds.clone();
    println!("{:<26} {:>14} {:>14} {:>10}", "judge", "least, ns", "median, ns", "ratio");
    for Way { name, nanoseconds, .. } in ways {
        let ratios = nanoseconds.iter().zip(&linked).map(|(ours, linked)| ours / linked).collect();
        let least = nanoseconds.iter().copied().fold(f64::INFINITY, f64::min);
        println!("{name:<26} {least:>14.0} {:>14.0} {:>10.0}", median(nanoseconds), median(ratios));
    }
}
