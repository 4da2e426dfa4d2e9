//! `.venv`, the virtual environment that `tests/python` and `plugins/transformers/tests` run in.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::pip::{self, Pip};
use crate::{cuda_stub, libtorch, process};

const REQUIREMENTS: &str = "tests/python/requirements.txt";

/// What torch needs to be imported, other than CUDA.
const TORCH_NEEDS: [&str; 7] =
    ["filelock", "fsspec", "jinja2", "networkx", "setuptools<82", "sympy", "typing_extensions"];

/// torch, and what needs it.
const NEED_TORCH: [&str; 5] = ["torch==", "accelerate==", "peft==", "trl==", "lmms-eval=="];

/// torchvision, for torch of these requirements. Its compiled operators need the CUDA that is left out, so that no program
/// of the environment can import it: it stands beside the packages, where `plugins/transformers/tests/conftest.py` takes
/// the part of it that is Python.
const TORCHVISION: &str = "torchvision==0.26.0";

/// Whether there is anything to run.
pub(crate) fn has_tests(root: &Path) -> bool {
    fs::read_dir(root.join("tests/python")).is_ok_and(|entries| {
        entries.flatten().any(|entry| is_test_file(&entry.file_name().to_string_lossy()))
    })
}

fn is_test_file(name: &str) -> bool {
    name.starts_with("test_") && name.ends_with(".py")
}

/// Makes the environment where it is missing or made from other requirements,
/// and returns its interpreter.
pub(crate) fn ensure(root: &Path) -> Result<PathBuf> {
    let home = root.join(".venv");
    let python = home.join("bin/python");
    let stamp = home.join("isr-stamp");
    let file = root.join(REQUIREMENTS);
    let requirements =
        fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    if fs::read_to_string(&stamp).is_ok_and(|made_from| made_from == requirements) {
        println!("venv: .venv is current");
        return Ok(python);
    }
    create(&home)?;
    install(&home, &python, &requirements)?;
    // Written last: an environment without it is made again.
    fs::write(&stamp, &requirements).with_context(|| format!("cannot write {}", stamp.display()))?;
    Ok(python)
}

/// Adds the requirements in a file to the environment. pip leaves what is there alone.
pub(crate) fn add(root: &Path, python: &Path, file: &str) -> Result<()> {
    let file = root.join(file);
    let requirements =
        fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let (mut bare, others) = split(&requirements);
    bare.push("--no-deps");
    pip_install(python, &bare)?;
    pip_install(python, &others)
}

fn create(home: &Path) -> Result<()> {
    let pip = Pip::find()?;
    let mut command = Command::new(pip.python());
    command.args(["-m", "venv", "--clear"]).arg(home);
    process::run(&mut command).context(
        "cannot create .venv; hint: Debian and Ubuntu have venv in a package of its own \
         (`apt-get install python3-venv`)",
    )
}

/// torch without its CUDA packages where that works, else with them.
fn install(home: &Path, python: &Path, requirements: &str) -> Result<()> {
    let (torch, others) = split(requirements);
    let mut bare = vec!["--no-deps"];
    bare.extend(&torch);
    bare.extend(libtorch::CPU_NEEDS);
    pip_install(python, &bare)?;
    let mut rest = others;
    rest.extend(TORCH_NEEDS);
    pip_install(python, &rest)?;
    let beside = home.join("torchvision").to_string_lossy().into_owned();
    pip_install(python, &["--no-deps", "--target", beside.as_str(), TORCHVISION])?;
    let Err(error) = without_cuda(home, python) else {
        return Ok(());
    };
    println!("venv: {error:#}; installing torch with its CUDA packages");
    let mut again = vec!["--force-reinstall", "--no-deps"];
    again.extend(&torch);
    pip_install(python, &again)?;
    pip_install(python, &torch)
}

fn without_cuda(home: &Path, python: &Path) -> Result<()> {
    cuda_stub::replace_cuda(&torch_lib(home)?)?;
    let program = "import torch; (torch.ones(2, 2) @ torch.ones(2, 2)).sum().item()";
    process::capture(Command::new(python).args(["-c", program])).map(drop)
}

/// `lib/python3.x/site-packages/torch/lib`.
fn torch_lib(home: &Path) -> Result<PathBuf> {
    let lib = home.join("lib");
    fs::read_dir(&lib)
        .with_context(|| format!("cannot read {}", lib.display()))?
        .flatten()
        .map(|entry| entry.path().join("site-packages/torch/lib"))
        .find(|path| path.is_dir())
        .context(".venv has no torch/lib")
}

fn pip_install(python: &Path, arguments: &[&str]) -> Result<()> {
    let mut command = Command::new(python);
    // The CUDA packages are missing on purpose: no warning of that.
    command.args(["-m", "pip", "install", "--quiet", "--no-warn-conflicts"]);
    pip::install(command.args(arguments))
}

/// torch and those that depend on it, which are installed without their dependencies (else pip fetches
/// torch's CUDA packages); and all others.
fn split(requirements: &str) -> (Vec<&str>, Vec<&str>) {
    requirements
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default().trim())
        .filter(|line| !line.is_empty())
        .partition(|line| NEED_TORCH.iter().any(|name| line.starts_with(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn torch_is_split_from_the_other_requirements() {
        let text = "# comment\ntorch==2.11.0\n\nnumpy==2.4.6  # why\npeft==1\ntorchvision==1\n";
        let (torch, others) = split(text);
        assert_eq!(torch, ["torch==2.11.0", "peft==1"]);
        assert_eq!(others, ["numpy==2.4.6", "torchvision==1"]);
    }

    #[test]
    fn the_checked_in_requirements_pin_the_libtorch_that_is_built_against() {
        let (torch, _) = split(include_str!("../../tests/python/requirements.txt"));
        assert_eq!(torch[0], format!("torch=={}", libtorch::VERSION));
    }

    #[test]
    fn only_test_files_count_as_tests() {
        assert!(is_test_file("test_dpo.py"));
        assert!(!is_test_file("conftest.py"));
        assert!(!is_test_file("test_data.json"));
    }
}
