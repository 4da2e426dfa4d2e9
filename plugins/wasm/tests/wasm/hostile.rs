//! Modules that use up what they are given, trap, and return nonsense: each ends in an error that names
//! plugin, call and cause, within its limits.

use std::time::{Duration, Instant};

use isr_api::ComponentError;
use isr_config::plugin::PluginFile;

use crate::refused::SLEEP;
use crate::support::{judge_module, judged, load_bytes, options};

async fn said(body: &str, options: &PluginFile) -> String {
    let error = judged(&judge_module("", "", body), options).await.unwrap_err();
    assert!(matches!(error, ComponentError::BadInput(_)), "{error:?}");
    error.to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loop_ends_with_its_fuel() {
    let text = said("(loop $on (br $on))", &options()).await;
    assert_eq!(
        text,
        "plugin `hostile`, judge: it used up its fuel of 50000000; raise `fuel` if the work needs it"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loop_with_much_fuel_ends_with_its_time() {
    let (start, limits) =
        (Instant::now(), PluginFile { fuel: Some(1 << 60), call_s: Some(0.3), ..options() });
    let text = said("(loop $on (br $on))", &limits).await;
    assert_eq!(text, "plugin `hostile`, judge: no answer within 0.3 s");
    assert!(start.elapsed() < Duration::from_secs(300), "{:?}", start.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sleep_ends_with_its_time() {
    let import = r#"(import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))"#;
    let module = judge_module(import, "", SLEEP);
    let limits = PluginFile { call_s: Some(0.3), ..options() };
    let said = judged(&module, &limits).await.unwrap_err();
    assert!(matches!(said, ComponentError::BadInput(_)), "{said:?}");
    assert_eq!(said.to_string(), "plugin `hostile`, judge: no answer within 0.3 s");
    let limits = PluginFile { call_s: Some(100_000.0), ..options() };
    let waited = tokio::time::timeout(Duration::from_millis(100), judged(&module, &limits)).await;
    assert!(waited.is_err());
    // The runtime of this test waits for its blocking threads: that one ends, though it would sleep for a day.
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_ends_at_its_limit() {
    let text = said("(loop $on (drop (memory.grow (i32.const 16))) (br $on))", &options()).await;
    let wanted = "plugin `hostile`, judge: it wanted more than 4 MiB of memory; raise `memory_mb` if the \
                  work needs it";
    assert_eq!(text, wanted);
}

#[tokio::test(flavor = "multi_thread")]
async fn traps_say_which() {
    let text = said("(unreachable)", &options()).await;
    assert_eq!(
        text,
        "plugin `hostile`, judge: it trapped: wasm trap: wasm `unreachable` instruction executed, in \
         `judge`"
    );
    let outside = said("(local.set $a (i32.load (i32.const -8)))", &options()).await;
    assert!(outside.contains("it trapped: wasm trap: out of bounds memory access"), "{outside}");
    let zero = said("(local.set $a (i32.div_u (i32.const 1) (local.get $b)))", &options()).await;
    assert!(zero.contains("integer divide by zero"), "{zero}");
}

#[tokio::test(flavor = "multi_thread")]
async fn deep_recursion_traps() {
    let module = judge_module("", "(func $deep (call $deep))", "(call $deep)");
    let limits = PluginFile { fuel: Some(1 << 60), ..options() };
    let text = judged(&module, &limits).await.unwrap_err().to_string();
    assert!(text.contains("call stack exhausted"), "{text}");
}

/// Core wraps what is built so that such a probability is an error of the plugin's name; here it must come
/// through as it is.
#[tokio::test(flavor = "multi_thread")]
async fn nan_is_handed_on_as_it_is_for_the_core_to_refuse() {
    let module = judge_module("", "", "(f64.store (i32.const 648) (f64.const nan))");
    assert!(judged(&module, &options()).await.unwrap().p_first.is_nan());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_is_not_in_memory_is_refused() {
    let body = "(i32.store (i32.const 656) (i32.const -64)) (i32.store (i32.const 660) (i32.const 9999))";
    let text = said(body, &options()).await;
    assert!(text.starts_with("plugin `hostile`, judge: it trapped:"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_of_the_plugin_keep_their_fault() {
    // The tag, whose fault, and the help as message.
    let body = |fault: u8| {
        format!(
            "(i32.store8 (i32.const 640) (i32.const 1)) (i32.store8 (i32.const 648) (i32.const {fault})) \
             (i32.store (i32.const 652) (i32.const 272)) (i32.store (i32.const 656) (i32.const 11))"
        )
    };
    assert_eq!(said(&body(0), &options()).await, "plugin `hostile`, judge: Misbehaves.");
    let failed = judged(&judge_module("", "", &body(1)), &options()).await.unwrap_err();
    assert!(matches!(failed, ComponentError::Failed(_)), "{failed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_call_sees_what_another_left() {
    // Counts in memory; the verdict is 1 only in the first call of an instance.
    let body = "(local.set $a (i32.load (i32.const 700))) \
                (i32.store (i32.const 700) (i32.add (local.get $a) (i32.const 1))) \
                (f64.store (i32.const 648) (f64.convert_i32_s (i32.eqz (local.get $a))))";
    let plugin = load_bytes(&judge_module("", "", body), &options()).unwrap();
    let judge = crate::support::judge(&*plugin, "hostile", &serde_json::json!({})).unwrap();
    let policy = std::sync::Arc::new(isr_testing::FakePolicy::default()).frozen();
    for _ in 0..3 {
        let case = isr_testing::fixtures::case("one", "two");
        assert_eq!(judge.judge(&case, &policy).await.unwrap().p_first, 1.0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_nobody_waits_for_ends() {
    let limits = PluginFile { fuel: Some(1 << 60), call_s: Some(1000.0), ..options() };
    let module = judge_module("", "", "(loop $on (br $on))");
    let waited = tokio::time::timeout(Duration::from_millis(100), judged(&module, &limits)).await;
    assert!(waited.is_err());
    // The runtime of this test waits for its blocking threads: it would never end.
}
