//! An objective in WebAssembly.

use std::sync::Arc;

use isr_api::{BuildContext, PreferenceObjective};
use isr_config::plugin::PluginSettings;
use isr_testing::ObjectiveRules;
use serde_json::Map;

use crate::support::{load_bytes, options};

/// Maximises the log-prob of the chosen answer: loss is minus its mean, the gradient -1 / pairs. `count` is
/// how many numbers the gradient has.
fn module(count: &str) -> Vec<u8> {
    let text = format!(
        r#"(module
  (memory (export "memory") 1)
  (global $top (mut i32) (i32.const 4096))
  (data (i32.const 256) "likelihood") (data (i32.const 272) "Maximises.")
  (data (i32.const 512) "\00\01\00\00\0a\00\00\00\10\01\00\00\0a\00\00\00")
  ;; requirements: views [chosen] at 700, summed, no reference
  (data (i32.const 560) "\bc\02\00\00\01\00\00\00\00\00")
  (func $realloc (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
    (local $at i32)
    (local.set $at (i32.and (i32.add (global.get $top) (i32.const 15)) (i32.const -16)))
    (global.set $top (i32.add (local.get $at) (local.get 3)))
    (local.get $at))
  (func (export "isr:plugin/plugin@0.1.0#describe") (result i32) (i32.const 512))
  (func (export "isr:plugin/plugin@0.1.0#configure") (param i32 i32) (result i32) (i32.const 600))
  (func (export "isr:plugin/objective@0.1.0#needs") (result i32) (i32.const 560))
  ;; a view is: view at 0, policy at 4 and 8, reference at 12 and 16, lengths at 20 and 24
  (func (export "isr:plugin/objective@0.1.0#evaluate") (param $views i32) (param $n i32) (result i32)
    (local $policy i32) (local $count i32) (local $i i32) (local $sum f64) (local $gradient i32)
    (local.set $policy (i32.load (i32.add (local.get $views) (i32.const 4))))
    (local.set $count (i32.load (i32.add (local.get $views) (i32.const 8))))
    (local.set $gradient
      (call $realloc (i32.const 0) (i32.const 0) (i32.const 8) (i32.mul (local.get $count) (i32.const 8))))
    (loop $next
      (local.set $sum (f64.add (local.get $sum)
        (f64.load (i32.add (local.get $policy) (i32.mul (local.get $i) (i32.const 8))))))
      (f64.store (i32.add (local.get $gradient) (i32.mul (local.get $i) (i32.const 8)))
        (f64.div (f64.const -1) (f64.convert_i32_u (local.get $count))))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br_if $next (i32.lt_u (local.get $i) (local.get $count))))
    ;; result: tag at 640, loss at 648, gradients at 656 and 660, metrics at 664 and 668
    (f64.store (i32.const 648)
      (f64.neg (f64.div (local.get $sum) (f64.convert_i32_u (local.get $count)))))
    (i32.store (i32.const 720) (local.get $gradient))
    (i32.store (i32.const 724) {count})
    (i32.store (i32.const 656) (i32.const 720))
    (i32.store (i32.const 660) (i32.const 1))
    (i32.const 640)))"#
    );
    wat::parse_str(text).unwrap()
}

/// Maximises the log-probs of all four views, by the interface that names them.
fn named_module() -> Vec<u8> {
    let text = r#"(module
  (memory (export "memory") 1)
  (global $top (mut i32) (i32.const 4096))
  (data (i32.const 256) "likelihood") (data (i32.const 272) "Maximises.")
  (data (i32.const 288) "chosenrejectedchosen_corruptedmismatched")
  (data (i32.const 512) "\00\01\00\00\0a\00\00\00\10\01\00\00\0a\00\00\00")
  ;; requirements: 4 views at 700, summed, no reference
  (data (i32.const 560) "\bc\02\00\00\04\00\00\00\00\00")
  (data (i32.const 700) "\20\01\00\00\06\00\00\00\26\01\00\00\08\00\00\00\2e\01\00\00\10\00\00\00\3e\01\00\00\0a\00\00\00")
  (func $realloc (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
    (local $at i32)
    (local.set $at (i32.and (i32.add (global.get $top) (i32.const 15)) (i32.const -16)))
    (global.set $top (i32.add (local.get $at) (local.get 3)))
    (local.get $at))
  (func (export "isr:plugin/plugin@0.1.0#describe") (result i32) (i32.const 512))
  (func (export "isr:plugin/plugin@0.1.0#configure") (param i32 i32) (result i32) (i32.const 600))
  (func (export "isr:plugin/objective-by-name@0.1.0#needs") (result i32) (i32.const 560))
  ;; a view is: name at 0 and 4, policy at 8 and 12, reference at 16 and 20, lengths at 24 and 28
  (func (export "isr:plugin/objective-by-name@0.1.0#evaluate") (param $views i32) (param $n i32) (result i32)
    (local $policy i32) (local $count i32) (local $i i32) (local $sum f64) (local $gradient i32) (local $v i32)
    (loop $view
      (local.set $policy (i32.load (i32.add (local.get $views) (i32.const 8))))
      (local.set $count (i32.load (i32.add (local.get $views) (i32.const 12))))
      (local.set $gradient
        (call $realloc (i32.const 0) (i32.const 0) (i32.const 8) (i32.mul (local.get $count) (i32.const 8))))
      (local.set $i (i32.const 0))
      (loop $next
        (local.set $sum (f64.add (local.get $sum)
          (f64.load (i32.add (local.get $policy) (i32.mul (local.get $i) (i32.const 8))))))
        (f64.store (i32.add (local.get $gradient) (i32.mul (local.get $i) (i32.const 8)))
          (f64.div (f64.const -1) (f64.convert_i32_u (local.get $count))))
        (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br_if $next (i32.lt_u (local.get $i) (local.get $count))))
      (i32.store (i32.add (i32.const 800) (i32.mul (local.get $v) (i32.const 8))) (local.get $gradient))
      (i32.store (i32.add (i32.const 804) (i32.mul (local.get $v) (i32.const 8))) (local.get $count))
      (local.set $views (i32.add (local.get $views) (i32.const 32)))
      (local.set $v (i32.add (local.get $v) (i32.const 1)))
      (br_if $view (i32.lt_u (local.get $v) (local.get $n))))
    (f64.store (i32.const 648)
      (f64.neg (f64.div (local.get $sum) (f64.convert_i32_u (local.get $count)))))
    (i32.store (i32.const 656) (i32.const 800))
    (i32.store (i32.const 660) (local.get $n))
    (i32.const 640)))"#;
    wat::parse_str(text).unwrap()
}

fn built(count: &str) -> Arc<dyn PreferenceObjective> {
    built_of(&module(count))
}

fn built_of(module: &[u8]) -> Arc<dyn PreferenceObjective> {
    let plugin = load_bytes(module, &options()).unwrap();
    let (settings, cx) = (&Map::new(), &BuildContext::default());
    plugin
        .objective("likelihood", &PluginSettings { settings, cx })
        .map_err(|error| error.to_string())
        .unwrap()
}

#[test]
fn it_keeps_the_contract_of_objectives() {
    let found = isr_testing::objective(built("(local.get $count)"), &ObjectiveRules::default());
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn an_objective_on_all_views_keeps_the_contract_too() {
    let objective = built_of(&named_module());
    assert_eq!(objective.requirements().views, isr_api::View::ALL);
    let found = isr_testing::objective(objective, &ObjectiveRules::default());
    assert!(found.is_empty(), "{found:#?}");
}

/// A trainer calls it from a thread of an async runtime.
#[tokio::test]
async fn a_gradient_of_the_wrong_length_is_refused() {
    let view = isr_api::ViewLogProbs {
        view: isr_api::View::Chosen,
        policy: vec![-1.0, -2.0],
        reference: vec![],
        lengths: vec![1, 1],
    };
    let said = built("(i32.const 1)").evaluate(&isr_api::ObjectiveBatch { views: vec![view] }).unwrap_err();
    assert_eq!(
        said.to_string(),
        "plugin `likelihood`, evaluate: its answer cannot be used: its gradients have [1] numbers for [2] \
         log-probs"
    );
}
