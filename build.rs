//! Lets binaries and tests find libtorch without environment variables; isr-torch uses this file too.

use std::path::PathBuf;

fn main() {
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    let root = std::env::var_os("LIBTORCH").map(PathBuf::from).unwrap_or_default();
    let lib = root.join("lib");
    assert!(
        lib.join("libtorch_cpu.so").exists(),
        "\n\nlibtorch is not installed in {}: run `cargo xtask setup`\n\n",
        root.display()
    );
    // As RUNPATH, so that LD_LIBRARY_PATH can still name another libtorch.
    println!("cargo:rustc-link-arg=-Wl,--enable-new-dtags,-rpath,{}", lib.display());
}
