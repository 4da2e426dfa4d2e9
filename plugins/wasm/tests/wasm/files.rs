//! A module that asks for a file gets one only from a folder that the config grants.

use std::fs;
use std::path::PathBuf;

use isr_config::plugin::PluginFile;

use crate::support::{judge_module, judged, options};

/// `path_open` of WASI preview 1 on descriptor 3, the first granted folder; the verdict is its error number
/// over 100. `rights` are those that it asks for: 2 to read, 64 to write.
fn opens(name: &str, flags: u32, rights: u32) -> Vec<u8> {
    let imports = r#"(import "wasi_snapshot_preview1" "path_open" (func $path_open
        (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))"#;
    let data = format!("(data (i32.const 800) \"{name}\")");
    let length = name.len();
    let body = format!(
        "(local.set $a (call $path_open (i32.const 3) (i32.const 0) (i32.const 800) (i32.const {length}) \
         (i32.const {flags}) (i64.const {rights}) (i64.const 0) (i32.const 0) (i32.const 900))) \
         (f64.store (i32.const 648) (f64.div (f64.convert_i32_s (local.get $a)) (f64.const 100)))"
    );
    judge_module(imports, &data, &body)
}

/// Error numbers of WASI preview 1.
const BAD_DESCRIPTOR: f64 = 8.0;
const NOT_CAPABLE: f64 = 76.0;
const NOT_PERMITTED: f64 = 63.0;

async fn error_number(module: Vec<u8>, options: &PluginFile) -> f64 {
    (judged(&module, options).await.unwrap().p_first * 100.0).round()
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_grant_there_is_no_folder() {
    assert_eq!(error_number(opens("notes.txt", 0, 2), &options()).await, BAD_DESCRIPTOR);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_granted_folder_can_be_read_and_not_written_or_left() {
    let folder = tempfile::tempdir().unwrap();
    let granted = folder.path().join("granted");
    fs::create_dir(&granted).unwrap();
    fs::write(granted.join("notes.txt"), "x").unwrap();
    fs::write(folder.path().join("secret.txt"), "x").unwrap();
    let options = PluginFile { read: vec![granted.clone()], ..options() };
    assert_eq!(error_number(opens("notes.txt", 0, 2), &options).await, 0.0);
    let refused = [NOT_CAPABLE, NOT_PERMITTED];
    let escaped = error_number(opens("../secret.txt", 0, 2), &options).await;
    assert!(refused.contains(&escaped), "{escaped}");
    let created = error_number(opens("new.txt", 1, 64), &options).await;
    assert!(created != 0.0 && !granted.join("new.txt").exists(), "{created}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_of_a_folder_that_is_not_there_is_refused() {
    let options = PluginFile { read: vec![PathBuf::from("/no/such/folder")], ..options() };
    let said = crate::support::load_bytes(&opens("x", 0, 2), &options).err().unwrap();
    assert!(said.starts_with("`read` names /no/such/folder:"), "{said}");
}
