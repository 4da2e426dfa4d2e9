//! Files that are no plugins of this program are refused in one sentence.

use std::fs;
use std::path::{Path, PathBuf};

use isr_api::Error;
use isr_config::plugin::{PluginFile, Plugins};
use tempfile::TempDir;

use crate::built::{example_judge, fixture};
use crate::support::load;

/// Why a file of these bytes is refused, its path left out.
fn refusal(bytes: &[u8]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("plugin.so");
    fs::write(&path, bytes).unwrap();
    refusal_of(&[PluginFile::new(&path)])
}

fn refusal_of(files: &[PluginFile]) -> String {
    match Plugins::load(files, &[]) {
        Ok(_) => panic!("it was loaded"),
        Err(Error::Config(text)) => {
            let (_, reason) = text.split_once(": ").unwrap();
            assert!(!reason.contains('\n') && reason.len() < 400, "{reason}");
            reason.to_owned()
        }
        Err(other) => panic!("{other}"),
    }
}

/// The example judge with every occurrence of some bytes replaced by as many others.
fn patched(old: &[u8], new: &[u8]) -> Vec<u8> {
    assert_eq!(old.len(), new.len());
    let mut bytes = fs::read(example_judge()).unwrap();
    let places: Vec<usize> =
        (0..bytes.len() - old.len()).filter(|&at| bytes[at..].starts_with(old)).collect();
    assert!(!places.is_empty(), "{old:?} is not in the library");
    for at in places {
        bytes[at..at + new.len()].copy_from_slice(new);
    }
    bytes
}

/// A copy of the example judge under another name.
fn copy(folder: &TempDir, name: &str) -> PathBuf {
    let path = folder.path().join(name);
    fs::copy(example_judge(), &path).unwrap();
    path
}

#[test]
fn what_is_no_library_is_refused() {
    assert_eq!(refusal(b""), "it is no library: it has 0 bytes");
    let text = refusal(&[b'x'; 4096]);
    assert!(text.starts_with("it is no library that this system can open ("), "{text}");
    assert!(text.contains("invalid ELF header"), "{text}");
}

#[test]
fn a_truncated_library_is_refused_before_the_system_opens_it() {
    let whole = fs::read(example_judge()).unwrap();
    for part in [100, whole.len() / 3, whole.len() - 1000] {
        let text = refusal(&whole[..part]);
        assert!(text.starts_with("it is cut off: its headers tell of more than its "), "{part}: {text}");
    }
}

#[test]
fn a_library_without_the_symbol_is_refused() {
    let text = refusal(&patched(b"_1as_0lib_1header", b"_1as_0lib_1leader"));
    assert_eq!(text, "it is a library, but no plugin: it exports nothing by isr_plugin::export!");
}

#[test]
fn another_version_of_the_sdk_is_refused() {
    let text = refusal(&patched(b"0.1.1", b"0.2.0"));
    assert_eq!(
        text,
        "it was built with version 0.2.0 of isr-plugin, and this program takes 0.1.1; build it again with \
         that version"
    );
}

#[test]
fn another_layout_is_refused_in_one_sentence() {
    let text = refusal(&patched(b"RawView", b"RawVein"));
    assert!(text.starts_with("its interface is not that of isr-plugin 0.1.1"), "{text}");
    assert!(text.ends_with("; build it again with that version"), "{text}");
}

#[test]
fn two_libraries_of_one_name_are_refused_and_of_two_names_are_two() {
    let folder = tempfile::tempdir().unwrap();
    let (one, other) = (copy(&folder, "one.so"), copy(&folder, "other.so"));
    let text = refusal_of(&[PluginFile::new(&one), PluginFile::new(&other)]);
    assert!(text.starts_with("the name of its judge `terse` is taken by "), "{text}");
    let both = [PluginFile::new(&one), PluginFile::new(fixture())];
    let alone = |file: &Path| load(file).components().count();
    let together = Plugins::load(&both, &[]).unwrap().components().count();
    assert_eq!(together, alone(&one) + alone(fixture()));
}

#[test]
fn options_of_other_loaders_are_refused() {
    let file = PluginFile { fuel: Some(7), ..PluginFile::new(fixture()) };
    assert_eq!(
        refusal_of(&[file]),
        "`fuel` means nothing to a native library, which takes isolation, call_s, start_s, memory_mb, restarts"
    );
}

#[test]
fn a_library_can_be_loaded_again() {
    assert_eq!(load(fixture()).components().count(), load(fixture()).components().count());
}
