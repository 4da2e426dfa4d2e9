//! Makes PyPI's CUDA build of torch importable without CUDA.
//!
//! The wheel needs 2 GB of CUDA packages, 4 GB on disk, merely to be loaded:
//! `libtorch_python.so` refers to symbols of `libtorch_cuda.so`, which needs
//! the rest. The tests of `tests/python` run on the CPU and never call them.
//! So `libtorch_cuda.so` is replaced by a library that has the symbols and
//! aborts in all of them. The references are read from the wheel itself.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::process;

/// What goes; `libc10_cuda.so` stays, it needs only the small CUDA runtime.
const REMOVED: [&str; 5] = [
    "libtorch_cuda.so",
    "libtorch_cuda_linalg.so",
    "libtorch_nvshmem.so",
    "libcaffe2_nvrtc.so",
    "libtorch.so",
];

/// What stays. Symbols that these have too (inline functions, mostly) need no
/// stub, and a stub might be found before them.
const KEPT: [&str; 4] = ["libtorch_cpu.so", "libc10.so", "libc10_cuda.so", "libshm.so"];

/// Needed by name only once the stub has their symbols.
const EMPTY: [&str; 3] = ["libtorch.so", "libcufile.so.0", "libcudnn.so.9"];

/// `gil_checker_t& c10d::get_gil_checker()`: the one that `import torch` does
/// call, to store a function pointer in what it returns.
const RETURNS_REFERENCE: &str = "_ZN4c10d15get_gil_checkerEv";

/// Replaces the CUDA libraries in `lib` (a wheel's `torch/lib`).
pub(crate) fn replace_cuda(lib: &Path) -> Result<()> {
    let wanted = undefined_in(&lib.join("libtorch_python.so"))?;
    let offered = defined_in(lib, &REMOVED)?;
    let kept = defined_in(lib, &KEPT)?;
    let missing: Vec<&str> = wanted
        .iter()
        .map(String::as_str)
        .filter(|s| is_of_other_library(s) || offered.contains(*s) && !kept.contains(*s))
        .collect();
    ensure!(missing.contains(&RETURNS_REFERENCE), "this torch refers to other CUDA symbols than expected");
    let source = lib.join("cuda_stub.s");
    fs::write(&source, assembly(&missing)).with_context(|| format!("cannot write {}", source.display()))?;
    for name in REMOVED {
        let path = lib.join(name);
        fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
    }
    link(lib, "libtorch_cuda.so", &source, "assembler")?;
    for name in EMPTY {
        link(lib, name, Path::new("/dev/null"), "c")?;
    }
    Ok(())
}

/// Of libcufile and libcudnn, which the wheel does not carry.
fn is_of_other_library(symbol: &str) -> bool {
    symbol.starts_with("cuFile") || symbol.starts_with("cudnn")
}

/// The symbols that a library looks up elsewhere, but for the system's.
fn undefined_in(library: &Path) -> Result<BTreeSet<String>> {
    symbols(library, "--undefined-only")
}

fn defined_in(lib: &Path, names: &[&str]) -> Result<BTreeSet<String>> {
    let mut all = BTreeSet::new();
    for name in names {
        all.append(&mut symbols(&lib.join(name), "--defined-only")?);
    }
    Ok(all)
}

fn symbols(library: &Path, which: &str) -> Result<BTreeSet<String>> {
    let table = process::capture(Command::new("nm").args(["-D", which]).arg(library))?;
    Ok(table.lines().filter_map(parse_symbol).collect())
}

/// The last column of a line of `nm`, without its version; `None` for a symbol
/// of libc, libgcc or libstdc++, which their versions tell.
fn parse_symbol(line: &str) -> Option<String> {
    let name = line.split_whitespace().last()?;
    let (name, version) = name.split_once('@').unwrap_or((name, ""));
    let version = version.trim_start_matches('@');
    let of_system = ["GLIBC", "CXXABI", "GCC"].iter().any(|s| version.starts_with(s));
    (!of_system).then(|| name.to_owned())
}

/// x86-64 assembly that defines each symbol by what its mangled name says it
/// is: type information, virtual table, or function.
fn assembly(symbols: &[&str]) -> String {
    let mut text = String::from(".text\nunavailable: call abort@PLT\n.bss\nscratch: .zero 64\n");
    for symbol in symbols {
        // Writing to a String cannot fail.
        let _ = writeln!(text, ".globl {symbol}");
        let _ = if let Some(name) = symbol.strip_prefix("_ZTI") {
            // pybind11 reads the name, so a type needs a real one.
            writeln!(
                text,
                ".data\n.balign 8\n{symbol}: .quad _ZTVN10__cxxabiv117__class_type_infoE+16, 1f\n\
                 1: .asciz \"{name}\""
            )
        } else if symbol.starts_with("_ZTV") {
            writeln!(text, ".data\n.balign 8\n{symbol}: .zero 1024")
        } else if *symbol == RETURNS_REFERENCE {
            writeln!(text, ".text\n{symbol}: lea scratch(%rip), %rax\nret")
        } else {
            writeln!(text, ".text\n{symbol}: jmp unavailable")
        };
    }
    text.push_str(".section .note.GNU-stack,\"\",@progbits\n");
    text
}

/// Makes `lib/name` with that soname; libstdc++ has the type information's
/// own virtual table.
fn link(lib: &Path, name: &str, source: &Path, language: &str) -> Result<()> {
    let mut command = Command::new("cc");
    command
        .args(["-shared", &format!("-Wl,-soname,{name}"), "-x", language])
        .arg(source)
        .args(["-x", "none", "-lstdc++", "-o"])
        .arg(lib.join(name));
    process::run(&mut command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symbols_are_read_without_address_and_version() {
        for line in [
            "                 U cudnnGetProperty@libcudnn.so.9",
            "0000000000001000 T cudnnGetProperty@@libcudnn.so.9",
        ] {
            assert_eq!(parse_symbol(line).as_deref(), Some("cudnnGetProperty"));
        }
        assert_eq!(parse_symbol(""), None);
        assert_eq!(parse_symbol("   U _ZNSt6thread4joinEv@GLIBCXX_3.4.11"), None);
    }

    #[test]
    fn each_kind_of_symbol_gets_its_definition() {
        let text = assembly(&["_ZTI1A", "_ZTV1A", RETURNS_REFERENCE, "f"]);
        for part in
            ["1: .asciz \"1A\"", "_ZTV1A: .zero", "_ZN4c10d15get_gil_checkerEv: lea", "f: jmp unavailable"]
        {
            assert!(text.contains(part), "{part} in {text}");
        }
    }
}
