//! The keys `feature_cache_dir` and `feature_cache_gb`.

use std::path::{Path, PathBuf};

/// Value of `feature_cache_dir` that stands for [`default_dir`].
const AUTO: &str = "auto";

/// Checks both keys; returns the invalid ones with a reason: `is ...; it must be ...`.
pub(crate) fn invalid(dir: Option<&Path>, gibibytes: f64) -> Vec<(&'static str, String)> {
    let mut found = Vec::new();
    if !(gibibytes.is_finite() && gibibytes > 0.0) {
        found.push(("feature_cache_gb", format!("is {gibibytes}; it must be above 0")));
    }
    let mut of_dir = |reason: String| found.push(("feature_cache_dir", reason));
    match dir {
        Some(dir) if dir.is_file() => {
            of_dir(format!("is {}; it must be a folder, and this is a file", dir.display()));
        }
        Some(dir) if dir == Path::new(AUTO) && default_dir().is_none() => {
            of_dir("is auto; it must be a path where there is no home folder".to_owned());
        }
        _ => {}
    }
    found
}

/// Resolves a value of `feature_cache_dir`: `auto` is [`default_dir`], anything else is the path itself.
pub fn resolve(dir: &Path) -> Option<PathBuf> {
    if dir == Path::new(AUTO) { default_dir() } else { Some(dir.to_owned()) }
}

/// Returns the directory that `auto` stands for: `isr-dpo/features` in the user's cache directory, which is
/// `XDG_CACHE_HOME`, else `~/.cache`. `None` if there is neither.
pub fn default_dir() -> Option<PathBuf> {
    cache_dir("features")
}

/// Returns the folder of this name in `isr-dpo` in the user's cache directory, which is `XDG_CACHE_HOME`, else `~/.cache`.
/// `None` if there is neither.
pub fn cache_dir(name: &str) -> Option<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let user = variable("XDG_CACHE_HOME").or_else(|| Some(std::env::home_dir()?.join(".cache")))?;
    Some(user.join("isr-dpo").join(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_that_cannot_be_used_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let keys = |dir: &Path, size: f64| -> Vec<&str> {
            invalid(Some(dir), size).into_iter().map(|(key, _)| key).collect()
        };
        assert_eq!(keys(file.path(), 0.0), ["feature_cache_gb", "feature_cache_dir"]);
        assert_eq!(keys(Path::new("not there yet"), f64::NAN), ["feature_cache_gb"]);
        assert!(keys(Path::new("not there yet"), 0.5).is_empty() && invalid(None, 1.0).is_empty());
    }
}
