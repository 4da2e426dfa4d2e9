//! Slurm and Ray, on which `core/sweep` is tested.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::{pip, process};

/// The version of Ray whose REST interface is tested.
const RAY: &str = "ray[default]==2.60.0";

const NO_SLURM: &str = "there is no Slurm, and it cannot be installed here; hint: install it (Debian: \
     `apt-get install slurm-wlm munge`, as root)";

/// Installs Slurm by apt-get where it is missing.
pub(crate) fn ensure_slurm() -> Result<()> {
    let is_there = |program: &str| process::capture(Command::new(program).arg("--version")).is_ok();
    if ["munged", "slurmctld", "slurmd", "sbatch"].into_iter().all(is_there) {
        println!("slurm: it is installed");
        return Ok(());
    }
    // The lists of a fresh machine may be empty or old.
    process::apt(&["update"]).context(NO_SLURM)?;
    process::apt(&["install", "--yes", "--no-install-recommends", "slurm-wlm", "munge"]).context(NO_SLURM)
}

/// The program `ray` of `.venv-ray`, which is made where it is missing.
pub(crate) fn ensure_ray(root: &Path) -> Result<PathBuf> {
    let home = root.join(".venv-ray");
    let ray = home.join("bin/ray");
    if ray.is_file() {
        println!("ray: .venv-ray is there");
        return Ok(ray);
    }
    let python = pip::Pip::find()?.python();
    process::run(Command::new(python).args(["-m", "venv", "--clear"]).arg(&home))?;
    pip::install(Command::new(home.join("bin/python")).args(["-m", "pip", "install", "--quiet", RAY]))?;
    Ok(ray)
}
