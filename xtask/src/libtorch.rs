//! libtorch, taken from PyPI's `torch` wheel.
//!
//! The wheel is the one distribution of libtorch that every package mirror
//! has. It is a CUDA build; its `libtorch_cpu.so` and `libc10.so` are all that
//! our binaries link. The CPU variant is the same wheel without its CUDA
//! libraries and without the 2 GB of packages that those need.

use std::env;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::pip::Pip;
use crate::{process, repository};

/// The version that the `tch` crate in our lock file binds.
pub(crate) const VERSION: &str = "2.11.0";

/// What `libtorch_cpu.so` of the CUDA wheel needs even where there is no GPU.
pub(crate) const CPU_NEEDS: [&str; 2] = ["nvidia-cuda-runtime==13.0.96", "nvidia-cuda-cupti==13.0.85"];

/// Dropped from the CPU variant. `libtorch_cuda.so` must go, not only may:
/// torch-sys links it where it stands.
const CUDA_LIBRARIES: [&str; 7] = [
    "libtorch_cuda.so",
    "libtorch_cuda_linalg.so",
    "libtorch_nvshmem.so",
    "libc10_cuda.so",
    "libtorch_python.so",
    "libcaffe2_nvrtc.so",
    "libtorch.so",
];

const STAMP: &str = "isr-stamp";

/// Which of the wheel's libraries are installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Variant {
    /// CPU only: 0.5 GB to download, 0.6 GB kept.
    Cpu,
    /// CPU and CUDA: 2.6 GB to download, 3.7 GB kept.
    Cuda,
}

impl Variant {
    /// CUDA where the machine has an NVIDIA GPU.
    pub(crate) fn detect() -> Self {
        let gpu = Path::new("/dev/nvidia0").exists()
            || process::capture(Command::new("nvidia-smi").arg("-L"))
                .is_ok_and(|list| list.contains("GPU"));
        if gpu { Self::Cuda } else { Self::Cpu }
    }

    /// Room that the install needs while it runs, in GB.
    fn needs_gb(self) -> u64 {
        match self {
            Self::Cpu => 3,
            Self::Cuda => 10,
        }
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
        })
    }
}

/// Makes sure that libtorch is there; `wanted` is `None` where any variant
/// will do. The caller holds the setup lock.
pub(crate) fn ensure_installed(root: &Path, wanted: Option<Variant>) -> Result<()> {
    if let Some(own) = own_libtorch(root) {
        println!("libtorch: using {} (from LIBTORCH)", own.display());
        return Ok(());
    }
    let home = root.join(".libtorch");
    let installed = installed(&home);
    if let Some(variant) = installed.filter(|v| wanted.is_none_or(|w| w == *v)) {
        println!("libtorch: {VERSION} ({variant}) is installed");
        if wanted.is_none() && variant == Variant::Cpu && Variant::detect() == Variant::Cuda {
            println!("hint: this machine has a GPU; `cargo xtask setup --cuda` adds CUDA");
        }
        return Ok(());
    }
    let variant = wanted.unwrap_or_else(Variant::detect);
    install(root, &home, variant)?;
    if (installed, variant) == (Some(Variant::Cuda), Variant::Cpu) {
        // torch-sys remembers that there was a libtorch_cuda.so to link.
        println!("hint: where linking now fails for -ltorch_cuda, run `cargo clean -p torch-sys`");
    }
    Ok(())
}

/// A libtorch that the user's environment names instead of ours. (Cargo sets
/// `LIBTORCH` to ours where the environment has none.)
fn own_libtorch(root: &Path) -> Option<PathBuf> {
    let named = env::var_os("LIBTORCH").filter(|v| !v.is_empty())?;
    let named = PathBuf::from(named);
    let ours = repository::root().into_iter().chain([root.to_owned()]);
    (!ours.into_iter().any(|root| named == root.join(".libtorch/torch"))).then_some(named)
}

/// The variant of a complete install of the right version.
fn installed(home: &Path) -> Option<Variant> {
    parse_stamp(&fs::read_to_string(home.join(STAMP)).ok()?)
}

fn stamp(variant: Variant) -> String {
    format!("{VERSION} {variant}\n")
}

fn parse_stamp(text: &str) -> Option<Variant> {
    [Variant::Cpu, Variant::Cuda].into_iter().find(|v| stamp(*v) == text)
}

/// Installs beside the old folder and swaps at the end, so that a build that
/// runs meanwhile always finds a whole libtorch.
fn install(root: &Path, home: &Path, variant: Variant) -> Result<()> {
    ensure!(
        cfg!(all(target_os = "linux", target_arch = "x86_64")),
        "setup installs libtorch only on Linux x86-64; hint: install libtorch {VERSION} yourself \
         and set LIBTORCH to its folder"
    );
    check_room(root, variant.needs_gb())?;
    check_compiler()?;
    let pip = Pip::find()?;
    println!("libtorch: installing {VERSION} ({variant})");
    let fresh = root.join(format!(".libtorch.tmp-{}", std::process::id()));
    if let Err(error) = make(&pip, &fresh, variant) {
        remove(&fresh)?;
        return Err(error);
    }
    swap(root, &fresh, home)?;
    println!("libtorch: {VERSION} ({variant}) is ready in .libtorch");
    Ok(())
}

fn make(pip: &Pip, fresh: &Path, variant: Variant) -> Result<()> {
    download(pip, fresh, variant)?;
    let torch = fresh.join("torch");
    prune(fresh, &["torch", "nvidia"])?;
    prune(&torch, &["include", "lib", "share"])?;
    if variant == Variant::Cpu {
        strip_cuda(&torch.join("lib"))?;
    }
    check_complete(&torch)?;
    // torch-sys and our build.rs check the version where this file stands.
    write(&torch.join("build-version"), VERSION)?;
    write(&fresh.join(STAMP), &stamp(variant))
}

fn download(pip: &Pip, target: &Path, variant: Variant) -> Result<()> {
    let torch = format!("torch=={VERSION}");
    // Any interpreter will do: nothing of the wheel is run by Python.
    let mut arguments = vec!["--only-binary=:all:", "--python-version=3.11", &torch];
    if variant == Variant::Cpu {
        arguments.push("--no-deps");
        arguments.extend(CPU_NEEDS);
    }
    pip.install_into(target, &arguments)
}

/// Removes everything from a folder except the named entries and the
/// packages' licences (`*.dist-info`).
fn prune(folder: &Path, keep: &[&str]) -> Result<()> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    for entry in entries {
        let entry = entry.with_context(|| format!("cannot read {}", folder.display()))?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if !keep.contains(&name.as_ref()) && !name.ends_with(".dist-info") {
            remove(&entry.path())?;
        }
    }
    Ok(())
}

fn strip_cuda(lib: &Path) -> Result<()> {
    for name in CUDA_LIBRARIES {
        remove(&lib.join(name))?;
    }
    // torch-sys passes `-ltorch`; the wheel's own libtorch.so is empty too,
    // but drags in libtorch_cuda.so.
    let mut command = Command::new("cc");
    command
        .args(["-shared", "-Wl,-soname,libtorch.so", "-x", "c", "/dev/null"])
        .arg("-o")
        .arg(lib.join("libtorch.so"));
    process::run(&mut command).context("cannot make the empty libtorch.so")
}

/// Before the download: without a compiler libtorch is of no use.
fn check_compiler() -> Result<()> {
    for compiler in ["cc", "c++"] {
        process::capture(Command::new(compiler).arg("--version")).context(
            "a C and C++ compiler is needed; hint: install them (Debian, Ubuntu: \
             `apt-get install build-essential`)",
        )?;
    }
    Ok(())
}

fn check_complete(torch: &Path) -> Result<()> {
    for file in [
        "include/torch/csrc/api/include/torch/torch.h",
        "lib/libc10.so",
        "lib/libtorch.so",
        "lib/libtorch_cpu.so",
    ] {
        ensure!(
            torch.join(file).is_file(),
            "the torch {VERSION} wheel has no {file}: it is not the Linux build that was expected"
        );
    }
    Ok(())
}

fn swap(root: &Path, fresh: &Path, home: &Path) -> Result<()> {
    let old = root.join(format!(".libtorch.tmp-old-{}", std::process::id()));
    if home.exists() {
        rename(home, &old)?;
    }
    rename(fresh, home)?;
    remove(&old)
}

/// Removes what interrupted installs left. Only under the setup lock.
pub(crate) fn clear_leftovers(root: &Path) -> Result<()> {
    let entries = fs::read_dir(root).with_context(|| format!("cannot read {}", root.display()))?;
    for entry in entries.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with(".libtorch.tmp-") || name.starts_with(".ffmpeg.tmp-") {
            remove(&entry.path())?;
        }
    }
    Ok(())
}

fn check_room(root: &Path, needed_gb: u64) -> Result<()> {
    let table = process::capture(Command::new("df").arg("-Pk").arg(root))?;
    let Some(free_kb) = parse_free_kb(&table) else {
        return Ok(()); // An unknown `df` is no reason to refuse.
    };
    let free_gb = free_kb / 1_000_000;
    if free_gb < needed_gb {
        bail!(
            "libtorch needs {needed_gb} GB of free disk while it installs, {} has {free_gb} GB; \
             hint: free some, or set LIBTORCH to a libtorch {VERSION} elsewhere",
            root.display()
        );
    }
    Ok(())
}

/// The fourth column of the second line of `df -Pk`.
fn parse_free_kb(table: &str) -> Option<u64> {
    table.lines().nth(1)?.split_whitespace().nth(3)?.parse().ok()
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).with_context(|| format!("cannot rename {} to {}", from.display(), to.display()))
}

/// Removes a file or a folder; absence is fine.
fn remove(path: &Path) -> Result<()> {
    let result = if path.is_dir() && !path.is_symlink() {
        fs::remove_dir_all(path)
    } else if path.symlink_metadata().is_ok() {
        fs::remove_file(path)
    } else {
        Ok(())
    };
    result.with_context(|| format!("cannot remove {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_read_back() {
        for variant in [Variant::Cpu, Variant::Cuda] {
            assert_eq!(parse_stamp(&stamp(variant)), Some(variant));
        }
    }

    #[test]
    fn another_version_or_half_a_stamp_is_not_installed() {
        for text in ["", "2.11.0", "2.11.0 cpu", "2.10.0 cpu\n", "2.11.0 rocm\n"] {
            assert_eq!(parse_stamp(text), None, "{text:?}");
        }
    }

    #[test]
    fn free_space_is_the_available_column() {
        let table = "Filesystem 1024-blocks Used Available Capacity Mounted on\n\
                     /dev/a 263000000 14000000 81000000 15% /\n";
        assert_eq!(parse_free_kb(table), Some(81_000_000));
        assert_eq!(parse_free_kb("nonsense"), None);
    }
}
