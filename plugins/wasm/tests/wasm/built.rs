//! The example of the repository, compiled from C.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Compiles `near_length.c` in the checkout `root`, to where `configs/plugins/judge-wasm.toml` looks for it.
pub(crate) fn near_length(root: &Path) -> PathBuf {
    let folder = root.join("examples/plugins/judge-wasm");
    // Aside and renamed: several tests build it at a time.
    let fresh = tempfile::Builder::new().suffix(".wasm").tempfile_in(&folder).unwrap();
    compile(root, &folder.join("near_length.c"), fresh.path());
    let path = folder.join("near_length.wasm");
    fresh.persist(&path).unwrap();
    path
}

/// Compiles a plugin in C, with the example's header.
pub(crate) fn compile(root: &Path, source: &Path, to: &Path) {
    let zig = root.join(".zig/ziglang/zig").canonicalize().expect("`cargo xtask test` installs .zig");
    let output = Command::new(zig)
        .args(["cc", "--target=wasm32-freestanding", "-O2", "-nostdlib", "-Wl,--no-entry", "-s"])
        .args(["-Wall", "-Wextra", "-Werror", "-I"])
        .args([&root.join("examples/plugins/judge-wasm"), source, Path::new("-o"), to])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
