//! A retrospector in WebAssembly, which asks the policy.

use std::sync::Arc;

use isr_api::{BuildContext, Retrospector};
use isr_config::plugin::PluginSettings;
use isr_testing::FakePolicy;
use isr_testing::fixtures::retrospection;
use serde_json::Map;

use crate::support::{load_bytes, options};

/// Asks "[video] describe it." with the case's seed, `n` and `max_new_tokens`, and returns the first answer.
fn module(n: u32, tokens: u32) -> Vec<u8> {
    let text = format!(
        r#"(module
  (import "isr:plugin/host@0.1.0" "generate"
    (func $generate (param i32 i32 f64 f64 i32 i32 i32 i32 i32 i64 i32)))
  (memory (export "memory") 1)
  (global $top (mut i32) (i32.const 4096))
  (data (i32.const 256) "seer") (data (i32.const 272) "Describes.")
  (data (i32.const 512) "\00\01\00\00\04\00\00\00\10\01\00\00\0a\00\00\00")
  ;; one message of the user with two parts: the video, and the text at 864
  (data (i32.const 800) "\01\00\00\00\30\03\00\00\02\00\00\00")
  (data (i32.const 816) "\01\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\60\03\00\00\0c\00\00\00")
  (data (i32.const 864) "describe it.")
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
    (local $at i32)
    (local.set $at (i32.and (i32.add (global.get $top) (i32.const 15)) (i32.const -16)))
    (global.set $top (i32.add (local.get $at) (local.get 3)))
    (local.get $at))
  (func (export "isr:plugin/plugin@0.1.0#describe") (result i32) (i32.const 512))
  (func (export "isr:plugin/plugin@0.1.0#configure") (param i32 i32) (result i32) (i32.const 600))
  (func (export "isr:plugin/retrospector@0.1.0#describe-video")
    (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (param $seed i64) (result i32)
    (call $generate (i32.const 800) (i32.const 1)
      (f64.const 0.5) (f64.const 1) (i32.const 0) (i32.const {tokens}) (i32.const 0) (i32.const 0)
      (i32.const {n}) (local.get $seed) (i32.const 960))
    ;; an error becomes ours: tag, fault, message
    (if (i32.load8_u (i32.const 960)) (then
      (i32.store8 (i32.const 640) (i32.const 1))
      (i32.store8 (i32.const 644) (i32.load8_u (i32.const 964)))
      (i64.store (i32.const 648) (i64.load (i32.const 968))))
    (else
      (i64.store align=4 (i32.const 644) (i64.load align=4 (i32.load (i32.const 964))))))
    (i32.const 640)))"#
    );
    wat::parse_str(text).unwrap()
}

fn built(n: u32, tokens: u32) -> Arc<dyn Retrospector> {
    let plugin = load_bytes(&module(n, tokens), &options()).unwrap();
    let (settings, cx) = (&Map::new(), &BuildContext::default());
    plugin
        .retrospector("seer", &PluginSettings { settings, cx })
        .map_err(|error| error.to_string())
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn it_keeps_the_contract_of_retrospectors() {
    let found = isr_testing::retrospector(built(1, 64), &Arc::default()).await;
    assert!(found.is_empty(), "{found:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_hears_the_policy_and_its_refusals() {
    let policy = Arc::new(FakePolicy::replying(|request, drawn| {
        format!("{} {drawn}", request.prompt.transcript().replace('\n', " "))
    }));
    let said = built(1, 64).describe(&retrospection(None), &policy.frozen()).await.unwrap();
    assert!(said.starts_with("<video> describe it. "), "{said}");
    for (n, tokens, says) in [
        (65, 64, "n is 65; it must be 1 to 64"),
        (1, 5000, "max_new_tokens is 5000; a plugin may ask for at most 4096"),
    ] {
        let described = built(n, tokens).describe(&retrospection(None), &policy.frozen()).await;
        assert_eq!(described.unwrap_err().to_string(), format!("plugin `seer`, describe: {says}"));
    }
}
