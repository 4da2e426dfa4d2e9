//! Files that are no plugins.

use isr_config::plugin::{PluginFile, Plugins};

use crate::support::{judge_module, load_bytes, options};

fn refused(bytes: &[u8]) -> String {
    load_bytes(bytes, &options()).err().unwrap()
}

#[test]
fn what_is_not_webassembly_is_refused() {
    assert_eq!(refused(b""), "it is not WebAssembly; compile the plugin to a `.wasm` file");
    assert_eq!(refused(b"\x7fELF and more"), "it is not WebAssembly; compile the plugin to a `.wasm` file");
}

#[test]
fn a_truncated_file_is_refused_wherever_it_was_cut() {
    let whole = judge_module("", "", "");
    for length in [9, whole.len() / 2, whole.len() - 1] {
        let said = refused(&whole[..length]);
        assert!(said.starts_with("it is damaged:") || said.starts_with("it is a core module"), "{said}");
    }
}

#[test]
fn a_module_of_no_world_is_refused() {
    let said = refused(&wat::parse_str("(module)").unwrap());
    assert!(said.contains("it exports none of `isr:plugin/judge@0.1.0#judge`"), "{said}");
}

#[test]
fn an_unknown_import_is_named() {
    let module = judge_module(r#"(import "env" "system" (func (param i32)))"#, "", "");
    let said = refused(&module);
    assert!(said.contains("env") && said.contains("it is a core module that cannot"), "{said}");
    let component = r#"(component (import "isr:plugin/secret@0.1.0" (instance (export "tell" (func)))))"#;
    let said = refused(&wat::parse_str(component).unwrap());
    assert!(
        said.contains("isr:plugin/secret@0.1.0") && said.contains("it may import `isr:plugin/host`"),
        "{said}"
    );
}

#[test]
fn a_plugin_that_traps_while_it_describes_itself_is_refused() {
    let text = r#"(module (memory (export "memory") 1)
        (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 0))
        (func $describe (export "isr:plugin/plugin@0.1.0#describe") (result i32) (unreachable))
        (func (export "isr:plugin/plugin@0.1.0#configure") (param i32 i32) (result i32) (i32.const 0))
        (func (export "isr:plugin/judge@0.1.0#judge") (param i32) (result i32) (i32.const 0)))"#;
    let said = refused(&wat::parse_str(text).unwrap());
    assert_eq!(said, "it trapped: wasm trap: wasm `unreachable` instruction executed, in `describe`");
}

/// A module whose function `$hostile` has this body, and which describes itself as `describe` says.
fn describing(before: &str, describe: &str) -> Vec<u8> {
    let text = format!(
        r#"(module
        (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 8)
        {before}
        (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 65536))
        (func $describe (export "isr:plugin/plugin@0.1.0#describe") (result i32) {describe} (i32.const 512))
        (func (export "isr:plugin/plugin@0.1.0#configure") (param i32 i32) (result i32) (i32.const 0))
        (func (export "isr:plugin/judge@0.1.0#judge") (param i32) (result i32) (i32.const 0)))"#
    );
    wat::parse_str(text).unwrap()
}

/// Sleeps for a day and longer, by WASI.
pub(crate) const SLEEP: &str = "(i64.store (i32.const 2048) (i64.const 7)) (i32.store8 (i32.const 2056) (i32.const 0)) \
    (i32.store (i32.const 2064) (i32.const 1)) (i64.store (i32.const 2072) (i64.const 100000000000000)) \
    (i64.store (i32.const 2080) (i64.const 0)) (i32.store16 (i32.const 2088) (i32.const 0)) \
    (drop (call $poll (i32.const 2048) (i32.const 3072) (i32.const 1) (i32.const 3200)))";

#[test]
fn describing_itself_ends_with_its_limits() {
    // As short as this machine can compile in.
    let limit = std::cell::Cell::new(0.5);
    let refused = |before: &str, describe: &str| loop {
        let limits = PluginFile { start_s: Some(limit.get()), fuel: Some(1 << 60), ..options() };
        let said = load_bytes(&describing(before, describe), &limits).err().unwrap();
        if !said.starts_with("it could not be compiled within") {
            return said;
        }
        limit.set(2.0 * limit.get());
    };
    let no_answer = |said: String| assert_eq!(said, format!("no answer within {} s", limit.get()));
    no_answer(refused("", SLEEP));
    no_answer(refused("", "(loop $on (br $on))"));
    no_answer(refused("(func $begin (loop $on (br $on))) (start $begin)", ""));
    assert_eq!(
        refused("(func $begin (unreachable)) (start $begin)", "").split(", in").next(),
        Some("it trapped: wasm trap: wasm `unreachable` instruction executed")
    );
    let deep = refused("(func $deep (call $deep))", "(call $deep)");
    assert!(deep.starts_with("it trapped: wasm trap: call stack exhausted, in `deep`"), "{deep}");
    let most = "it wanted more than 4 MiB of memory; raise `memory_mb` if the work needs it";
    assert_eq!(refused("(table 10000000 funcref)", ""), most);
    assert_eq!(refused(&"(table 50000 funcref)".repeat(6), ""), most);
}

#[test]
fn memory_is_that_of_all_memories_and_tables() {
    // Each of 1 MiB, below the limit of 4 MiB.
    let memories =
        |count: usize| load_bytes(&judge_module("", &"(memory 16)".repeat(count), ""), &options());
    assert!(memories(2).is_ok());
    let most = "it wanted more than 4 MiB of memory; raise `memory_mb` if the work needs it";
    assert_eq!(memories(4).err().unwrap(), most);
    let said = load_bytes(&judge_module("", &"(memory 0)".repeat(70), ""), &options()).err().unwrap();
    assert_eq!(said, "it trapped: resource limit exceeded: memory count too high at 71");
    let tables = |count: usize| {
        load_bytes(&judge_module("", &"(table 10000 funcref)".repeat(count), ""), &options())
    };
    assert!(tables(10).is_ok());
    assert_eq!(tables(50).err().unwrap(), most);
}

#[test]
fn a_module_that_would_compile_for_minutes_is_refused() {
    let refused = |data: &str| {
        let limits = PluginFile { start_s: Some(600.0), ..options() };
        load_bytes(&judge_module("", data, ""), &limits).err().unwrap()
    };
    let says = "has too many branches and variables to be compiled in time; split it";
    let nest = format!("(func {}{})", "(block ".repeat(100_000), ")".repeat(100_000));
    assert!(refused(&nest).contains(says));
    let branch = "(if (local.get 7) (then (local.set 8 (i32.add (local.get 9) (local.get 3)))))";
    let wide = format!(
        "(func {} (loop $on {} (br_if $on (local.get 0))))",
        "(local i32)".repeat(2000),
        branch.repeat(20_000)
    );
    assert!(refused(&wide).contains(says));
    let table = format!("(br_table {} (local.get 0))", "0 ".repeat(5000));
    let tables = format!(
        "(func (local i32) (block {}))",
        table.repeat(100) + &"(local.set 0 (i32.const 1))".repeat(300_000)
    );
    assert!(refused(&tables).contains(says));
}

#[test]
fn compiling_ends_with_the_time_to_start() {
    let functions = "(func (local i32) (local.set 0 (i32.const 4)))".repeat(30_000);
    let limits = PluginFile { start_s: Some(0.001), ..options() };
    let said = load_bytes(&judge_module("", &functions, ""), &limits).err().unwrap();
    assert_eq!(said, "it could not be compiled within 0.001 s; raise `start_s`, or make it smaller");
}

#[test]
fn two_files_of_one_name_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, judge_module("", "", "")).unwrap();
        PluginFile { path, ..PluginFile::default() }
    };
    let said = Plugins::load(&[file("a.wasm"), file("b.wasm")], &[]).unwrap_err().to_string();
    assert!(said.contains("b.wasm") && said.contains("`hostile`") && said.contains("a.wasm"), "{said}");
}
