//! Modules in text form, and what is built from them.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use isr_api::{BuildContext, ComponentError, Judge, Verdict};
use isr_config::plugin::{Plugin, PluginFile, PluginLoader, PluginSettings};
use isr_testing::FakePolicy;
use isr_wasm::WasmLoader;
use serde_json::{Value, json};

/// A judge `hostile`. `imports` and `data` are WAT; `judge` is the body of a function that gets the case's
/// address as local 0, with two more locals, `$a` and `$b`. What it leaves is at address 640: tag at 640,
/// p_first at 648, votes at 656, consistent at 664.
pub(crate) fn judge_module(imports: &str, data: &str, judge: &str) -> Vec<u8> {
    let text = format!(
        r#"(module
  {imports}
  (memory (export "memory") 8)
  (global $top (mut i32) (i32.const 4096))
  (data (i32.const 256) "hostile") (data (i32.const 272) "Misbehaves.")
  (data (i32.const 512) "\00\01\00\00\07\00\00\00\10\01\00\00\0b\00\00\00")
  (data (i32.const 664) "\01")
  {data}
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
    (local $at i32)
    (local.set $at (i32.and (i32.add (global.get $top) (i32.const 15)) (i32.const -16)))
    (global.set $top (i32.add (local.get $at) (local.get 3)))
    (local.get $at))
  (func (export "isr:plugin/plugin@0.1.0#describe") (result i32) (i32.const 512))
  (func (export "isr:plugin/plugin@0.1.0#configure") (param i32 i32) (result i32) (i32.const 600))
  (func $judge (export "isr:plugin/judge@0.1.0#judge") (param i32) (result i32)
    (local $a i32) (local $b i32)
    {judge}
    (i32.const 640)))"#
    );
    wat::parse_str(text).unwrap()
}

/// Small limits.
pub(crate) fn options() -> PluginFile {
    PluginFile { call_s: Some(20.0), memory_mb: Some(4), fuel: Some(50_000_000), ..PluginFile::default() }
}

pub(crate) fn load_bytes(bytes: &[u8], options: &PluginFile) -> Result<Arc<dyn Plugin>, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("plugin.wasm");
    fs::write(&path, bytes).unwrap();
    load(&path, options)
}

pub(crate) fn load(path: &Path, options: &PluginFile) -> Result<Arc<dyn Plugin>, String> {
    WasmLoader.load(path, options).map_err(|error| error.to_string())
}

pub(crate) fn judge(plugin: &dyn Plugin, name: &str, settings: &Value) -> Result<Arc<dyn Judge>, String> {
    let (settings, cx) = (settings.as_object().unwrap(), &BuildContext::default());
    plugin.judge(name, &PluginSettings { settings, cx }).map_err(|error| error.to_string())
}

/// What a module's judge says to a case.
pub(crate) async fn judged(module: &[u8], options: &PluginFile) -> Result<Verdict, ComponentError> {
    let plugin = load_bytes(module, options).unwrap();
    let judge = judge(&*plugin, "hostile", &json!({})).unwrap();
    let policy = Arc::new(FakePolicy::default()).frozen();
    judge.judge(&isr_testing::fixtures::case("one", "two"), &policy).await
}
