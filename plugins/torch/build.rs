//! Finds libtorch as torch-sys will, says what to do where there is none, and lets the tests of this crate find
//! it at run time; compiles the C++ of `src/operators` and `src/process_group`. Dependents get its folder as
//! `DEP_ISR_TORCH_LIBTORCH_LIB`.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, exit};

/// The version that the `tch` crate binds.
const VERSION: &str = "2.11.0";

fn main() {
    for variable in
        ["LIBTORCH", "LIBTORCH_INCLUDE", "LIBTORCH_LIB", "LIBTORCH_USE_PYTORCH", "LIBTORCH_CXX11_ABI"]
    {
        println!("cargo:rerun-if-env-changed={variable}");
    }
    // Published documentation is built where there is no libtorch.
    if env::var_os("CARGO_FEATURE_DOC_ONLY").is_some() || env::var_os("DOCS_RS").is_some() {
        return;
    }
    let lib = library_folder();
    let found =
        lib.as_deref().filter(|lib| lib.join("libtorch_cpu.so").exists() || !cfg!(target_os = "linux"));
    let Some(lib) = found else {
        // Ends the build before torch-sys does, whose message does not know the ways of this project.
        eprintln!("\n{}\n", advice(lib.as_deref()));
        exit(1);
    };
    println!("cargo:libtorch_lib={}", lib.display());
    // As RUNPATH, so that LD_LIBRARY_PATH can still name another libtorch.
    println!("cargo:rustc-link-arg=-Wl,--enable-new-dtags,-rpath,{}", lib.display());
    compile(lib);
}

/// Compiles the operators and process groups that tch does not bind, with torch-sys's settings.
fn compile(lib: &Path) {
    const SOURCES: [&str; 2] = ["src/operators/operators.cpp", "src/process_group/c10d.cpp"];
    // gloo's types, of which libtorch comes without declarations.
    const GLOO: &str = "src/process_group/include";
    for path in SOURCES.into_iter().chain(["src/operators/guarded.h", GLOO]) {
        println!("cargo:rerun-if-changed={path}");
    }
    let root = env::var_os("LIBTORCH_INCLUDE").map(PathBuf::from);
    let root = root.or_else(|| lib.parent().map(Path::to_owned)).unwrap_or_default();
    let abi = env::var("LIBTORCH_CXX11_ABI").unwrap_or_else(|_| "1".to_owned());
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .define("_GLIBCXX_USE_CXX11_ABI", abi.as_str())
        .define("USE_C10D_GLOO", None)
        .includes(["include", "include/torch/csrc/api/include"].map(|folder| root.join(folder)))
        .include(GLOO)
        .warnings(false)
        .files(SOURCES)
        .compile("isr_operators");
}

/// The folder with `libtorch_cpu.so`, by the rules of torch-sys.
fn library_folder() -> Option<PathBuf> {
    if env::var_os("LIBTORCH_USE_PYTORCH").is_some() {
        return of_python();
    }
    let named =
        env::var_os("LIBTORCH_LIB").or_else(|| env::var_os("LIBTORCH")).filter(|value| !value.is_empty());
    match named {
        Some(folder) => Some(Path::new(&folder).join("lib")),
        None => Some(PathBuf::from("/usr/lib")).filter(|lib| lib.join("libtorch.so").exists()),
    }
}

/// That of the Python package `torch`.
fn of_python() -> Option<PathBuf> {
    let python = if env::var_os("VIRTUAL_ENV").is_some() { "python" } else { "python3" };
    let code = "import os, torch; print(os.path.join(os.path.dirname(torch.__file__), 'lib'))";
    let output =
        Command::new(python).args(["-c", code]).output().ok().filter(|output| output.status.success())?;
    Some(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()))
}

/// What to do, one way a line.
fn advice(looked_in: Option<&Path>) -> String {
    let where_from = match looked_in {
        Some(lib) => format!("there is no libtorch_cpu.so in {}", lib.display()),
        None => "neither LIBTORCH nor LIBTORCH_USE_PYTORCH is set".to_owned(),
    };
    let installed = user_cache().map(|cache| cache.join("isr-dpo/.libtorch/torch"));
    let line = match installed.filter(|torch| torch.join("lib/libtorch_cpu.so").exists()) {
        Some(torch) => format!(
            "`cargo xtask setup --user` has installed one; name it in .cargo/config.toml of your project:\n\
             \n    [env]\n    LIBTORCH = \"{}\"",
            torch.display()
        ),
        None => "run `cargo xtask setup` in a checkout of isr-dpo to build there, or `cargo xtask setup --user` \
                 for other projects, which prints the line for their .cargo/config.toml"
            .to_owned(),
    };
    format!(
        "error: isr-torch needs libtorch {VERSION}, and {where_from}. One of:\n\
         - {line}\n\
         - with the Python package: pip install torch=={VERSION}, and LIBTORCH_USE_PYTORCH=1 in the environment\n\
         - LIBTORCH=DIR, where DIR/lib has libtorch_cpu.so and DIR/include its headers\n\
         - leave out isr-dpo's feature `torch`"
    )
}

fn user_cache() -> Option<PathBuf> {
    let named = env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    named.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cache")))
}
