//! Chromium and its driver, in which `tests/python` looks at pages.

use std::process::Command;

use anyhow::{Context, Result};

use crate::process;

const PROGRAMS: [&str; 2] = ["chromium", "chromedriver"];

/// Debian's names of the packages that have them.
const PACKAGES: [&str; 2] = ["chromium", "chromium-driver"];

const NO_BROWSER: &str = "there is no chromium with chromedriver, and they cannot be installed here; hint: \
     install them (Debian: `apt-get install chromium chromium-driver`, as root)";

/// Installs both by apt-get where one is missing.
pub(crate) fn ensure_installed() -> Result<()> {
    let is_there = |program: &str| process::capture(Command::new(program).arg("--version")).is_ok();
    if PROGRAMS.into_iter().all(is_there) {
        println!("browser: chromium is installed");
        return Ok(());
    }
    // The lists of a fresh machine may be empty or old.
    process::apt(&["update"]).context(NO_BROWSER)?;
    let install = ["install", "--yes", "--no-install-recommends"];
    process::apt(&[&install[..], &PACKAGES].concat()).context(NO_BROWSER)
}
