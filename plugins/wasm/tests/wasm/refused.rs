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
        (func (export "isr:plugin/plugin@0.1.0#describe") (result i32) (unreachable))
        (func (export "isr:plugin/plugin@0.1.0#configure") (param i32 i32) (result i32) (i32.const 0))
        (func (export "isr:plugin/judge@0.1.0#judge") (param i32) (result i32) (i32.const 0)))"#;
    let said = refused(&wat::parse_str(text).unwrap());
    assert_eq!(said, "it trapped: wasm trap: wasm `unreachable` instruction executed");
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
