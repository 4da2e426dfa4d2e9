//! zig, whose C compiler builds the example plugin of WebAssembly.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::pip::Pip;
use crate::process;

/// A C compiler and a linker for WebAssembly in one download, without root.
const PACKAGE: &str = "ziglang==0.17.1";

/// Makes sure that `.zig/ziglang/zig` is there and runs.
pub(crate) fn ensure_installed(root: &Path) -> Result<()> {
    let home = root.join(".zig");
    if check(&home).is_ok() {
        println!("zig: .zig is installed");
        return Ok(());
    }
    let fresh = root.join(format!(".zig.tmp-{}", std::process::id()));
    Pip::find()?.install_into(&fresh, &["--no-deps", "--only-binary=:all:", PACKAGE])?;
    check(&fresh)?;
    if home.exists() {
        fs::remove_dir_all(&home).with_context(|| format!("cannot remove {}", home.display()))?;
    }
    fs::rename(&fresh, &home).with_context(|| format!("cannot create {}", home.display()))?;
    println!("zig: .zig is ready");
    Ok(())
}

fn check(home: &Path) -> Result<()> {
    process::capture(Command::new(home.join("ziglang/zig")).arg("version")).map(drop)
}
