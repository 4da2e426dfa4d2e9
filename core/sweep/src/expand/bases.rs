//! Bases: names of runs, and settings that arms leave to them.

use std::collections::{HashMap, HashSet};

use super::{Arm, name};
use crate::error::SweepError;
use crate::file::SweepFile;

/// Checks `[[bases]]` against the arms.
///
/// # Errors
/// [`SweepError::Unusable`] for invalid or repeated names, a setting that both a base and an arm have,
/// and two runs that would have the same name.
pub(super) fn check(file: &SweepFile, arms: &[Arm]) -> Result<(), SweepError> {
    match problem(file, arms) {
        Some(problem) => Err(SweepError::Unusable(problem)),
        None => Ok(()),
    }
}

fn problem(file: &SweepFile, arms: &[Arm]) -> Option<String> {
    let (mut names, mut runs) = (HashSet::new(), HashMap::new());
    for base in &file.bases {
        if !name::is_folder(&base.name) {
            return Some(format!("base `{}`: {}", base.name, name::RULE));
        }
        if !names.insert(name::plain(&base.name).to_lowercase()) {
            return Some(format!("two bases have the name `{}`; rename one", base.name));
        }
        for arm in arms {
            let paths = || arm.set.iter().map(|(path, _)| path);
            let both = base.set.keys().find_map(|of_base| {
                paths().find(|of_arm| overlap(of_base, of_arm)).map(|of_arm| (of_base, of_arm))
            });
            if let Some((of_base, of_arm)) = both {
                return Some(format!(
                    "arm `{}` sets `{of_arm}`, and base `{}` sets `{of_base}`; leave it to one of them",
                    arm.name, base.name
                ));
            }
            let run = name::run(&arm.name, Some(&base.name)).to_lowercase();
            if let Some((other_arm, other_base)) = runs.insert(run, (&arm.name, &base.name)) {
                return Some(format!(
                    "arm `{}` with base `{}` and arm `{other_arm}` with base `{other_base}` would have one name; \
                     rename one",
                    arm.name, base.name
                ));
            }
        }
    }
    None
}

/// Whether one of two config paths is the other, or within it.
fn overlap(one: &str, other: &str) -> bool {
    let within = |inner: &str, outer: &str| {
        inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    within(one, other) || within(other, one)
}
