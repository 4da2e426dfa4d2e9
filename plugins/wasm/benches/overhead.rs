//! What a call costs: a judge that answers at once, in WebAssembly, with a fresh instance for each call.

#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark")]

use std::sync::Arc;

use divan::Bencher;
use isr_contract::FakePolicy;
use isr_contract::fixtures::case;
use serde_json::json;

#[path = "../tests/wasm/support.rs"]
#[allow(dead_code, reason = "shared with the tests")]
mod support;

fn main() {
    divan::main();
}

#[divan::bench]
fn webassembly(bencher: Bencher) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    let data = "(data (i32.const 648) \"\\00\\00\\00\\00\\00\\00\\e0\\3f\")";
    let plugin = support::load_bytes(&support::judge_module("", data, ""), &support::options()).unwrap();
    let judge = support::judge(&*plugin, "hostile", &json!({})).unwrap();
    let policy = Arc::new(FakePolicy::default()).frozen();
    let case = case("the bar is red.", "the bar is blue. it moves to the left.");
    bencher.bench_local(|| {
        let verdict = runtime.block_on(judge.judge(&case, &policy)).unwrap();
        assert_eq!(verdict.p_first, 0.5);
    });
}

/// What is done once a plugin: compiling, and asking it what it is.
#[divan::bench(sample_count = 10)]
fn loading(bencher: Bencher) {
    let module = support::judge_module("", "", "");
    bencher.bench_local(|| support::load_bytes(&module, &support::options()).unwrap());
}
