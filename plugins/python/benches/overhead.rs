//! What a call costs: a judge that answers at once, in Rust, and in Python behind the protocol.

#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark")]

use std::sync::Arc;

use async_trait::async_trait;
use divan::Bencher;
use divan::counter::ItemsCount;
use futures::future::join_all;
use isr_contract::FakePolicy;
use isr_contract::fixtures::case;
use isr_core::{ComponentError, FrozenPolicy, Judge, JudgeCase, Verdict};

#[path = "../tests/python/support.rs"]
#[allow(dead_code, reason = "shared with the tests")]
mod support;

fn main() {
    divan::main();
}

struct Half;

#[async_trait]
impl Judge for Half {
    async fn judge(&self, _: &JudgeCase, _: &FrozenPolicy) -> Result<Verdict, ComponentError> {
        Ok(Verdict { p_first: 0.5, votes: Vec::new(), consistent: true })
    }
}

/// Judges `together` cases at once, over and over.
fn judge(bencher: Bencher, judge: Arc<dyn Judge>, together: usize) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    let policy = Arc::new(FakePolicy::default()).frozen();
    let case = case("the bar is red.", "the bar is blue. it moves to the left.");
    bencher.counter(ItemsCount::new(together)).bench_local(|| {
        let all = join_all((0..together).map(|_| judge.judge(&case, &policy)));
        runtime.block_on(all).into_iter().for_each(|verdict| drop(verdict.unwrap()));
    });
}

#[divan::bench]
fn built_in(bencher: Bencher) {
    judge(bencher, Arc::new(Half), 1);
}

#[divan::bench(args = [1, 32])]
fn python(bencher: Bencher, together: usize) {
    let file = support::File::judging("return 0.5");
    judge(bencher, file.judge().unwrap(), together);
}
