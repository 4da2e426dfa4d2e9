//! Runs of a sweep: each arm with each seed, with a validated config.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use isr_api::records::Summary;
use isr_config::{LoadedConfig, Loader, RunConfig, to_toml};
use isr_run::store::{config_difference, read_json};
use serde_json::Value;

use crate::error::SweepError;
use crate::expand::name::plain;
use crate::expand::{Arm, expand};
use crate::file::SweepFile;

/// A validated sweep.
pub struct Plan {
    /// Name of the sweep.
    pub name: String,
    /// Folder of the sweep.
    pub dir: PathBuf,
    /// The sweep file.
    pub file: SweepFile,
    /// Arms in the file's order.
    pub arms: Vec<Arm>,
    /// Runs: one for each arm and seed, arm by arm.
    pub members: Vec<Member>,
}

/// One run of a sweep: an arm with a seed.
pub struct Member {
    /// Index in [`Plan::arms`].
    pub arm: usize,
    /// Seed of the run.
    pub seed: u64,
    /// Run directory.
    pub dir: PathBuf,
    /// Resolved config.
    pub config: LoadedConfig<RunConfig>,
    /// The resolved config as TOML.
    pub toml: String,
}

impl Plan {
    /// Reads and validates a sweep file and the config of every arm. `out` is the sweep's folder, by default `sweeps/NAME`.
    ///
    /// # Errors
    /// [`SweepError::Unusable`], with the problems of every arm.
    pub fn read(path: &Path, out: Option<&Path>) -> Result<Self, SweepError> {
        let file = SweepFile::read(path)?;
        let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
        let name = file.name.clone().or(stem).unwrap_or_else(|| "sweep".to_owned());
        let dir = out.map_or_else(|| Path::new("sweeps").join(&name), Path::to_owned);
        let arms = expand(&file)?;
        let base = path.parent().unwrap_or(Path::new("")).join(&file.extends);
        let (mut members, mut problems) = (Vec::new(), Vec::new());
        for (index, arm) in arms.iter().enumerate() {
            for &seed in &file.seeds {
                let run = dir.join("arms").join(&arm.name).join(format!("seed-{seed}"));
                match config(&base, &file, arm, seed, &dir) {
                    Ok((config, toml)) => members.push(Member { arm: index, seed, dir: run, config, toml }),
                    Err(error) => {
                        problems.push(format!("arm `{}`: {error}", arm.name));
                        break;
                    }
                }
            }
        }
        match problems.as_slice() {
            [] => Ok(Self { name, dir, file, arms, members }),
            [one] => Err(SweepError::Unusable(one.clone())),
            all => {
                let (count, of) = (all.len(), arms.len());
                let text = format!("{count} of {of} arms cannot be run:\n- {}", all.join("\n- "));
                Err(SweepError::Unusable(text))
            }
        }
    }

    /// Name of a member's arm.
    pub fn arm(&self, member: &Member) -> &str {
        &self.arms[member.arm].name
    }

    /// First run of each distinct `[data]` section.
    pub fn data_sets(&self) -> Vec<&Member> {
        let mut seen = HashSet::new();
        let data = |member: &&Member| member.config.settings.get("data").map(ToString::to_string);
        self.members.iter().filter(|member| seen.insert(data(member))).collect()
    }

    /// Folder of shared stages; `None` with `share = false`.
    pub fn stages(&self) -> Option<PathBuf> {
        self.file.share.then(|| self.dir.join("shared").join("stages"))
    }

    /// Checks that existing run directories have the configs of this plan.
    ///
    /// # Errors
    /// [`SweepError::OtherArm`] for the first run directory with another config.
    pub fn check_earlier_runs(&self) -> Result<(), SweepError> {
        for member in &self.members {
            if let Some(difference) = config_difference(&member.dir, &member.config.settings)? {
                let (arm, run) = (self.arm(member).to_owned(), member.dir.clone());
                return Err(SweepError::OtherArm { arm, run, difference });
            }
        }
        Ok(())
    }
}

impl Member {
    /// The run's `summary.json`; `None` before its first evaluation or iteration is complete.
    ///
    /// # Errors
    /// [`SweepError::Core`] where the file cannot be read.
    pub fn summary(&self) -> Result<Option<Summary>, SweepError> {
        Ok(read_json(&self.dir.join("summary.json"))?)
    }

    /// Number of complete iterations.
    pub(crate) fn complete(&self) -> Result<u32, SweepError> {
        Ok(self.summary()?.map_or(0, |summary| summary.iterations.len() as u32))
    }

    /// Iterations in the run's config.
    pub fn iterations(&self) -> u32 {
        self.config.value.r#loop.iterations
    }

    /// File with the run's standard output and error.
    pub fn log(&self) -> PathBuf {
        self.dir.with_extension("log")
    }
}

/// Loads the config of an arm and seed. Environment variables are ignored, since runs may be made on other machines.
fn config(
    base: &Path,
    file: &SweepFile,
    arm: &Arm,
    seed: u64,
    dir: &Path,
) -> Result<(LoadedConfig<RunConfig>, String), SweepError> {
    let own = file.set.iter().chain(arm.set.iter().map(|(path, value)| (path, value)));
    let mut overrides: Vec<String> =
        own.map(|(path, value)| format!("{path}={}", with_seed(value, seed))).collect();
    overrides.push(format!("seed={seed}"));
    overrides.push(format!("name=\"{}-seed-{seed}\"", plain(&arm.name)));
    let load = |overrides: &[String]| Loader::new().file(base).overrides(overrides).load::<RunConfig>();
    let mut config = load(&overrides)?;
    if file.share && config.value.r#loop.feature_cache_dir.is_none() {
        let features = toml::Value::from(dir.join("shared").join("features").to_string_lossy().as_ref());
        overrides.push(format!("loop.feature_cache_dir={features}"));
        config = load(&overrides)?;
    }
    let toml = to_toml(&config.value)?;
    Ok((config, toml))
}

/// Replaces `{seed}` in the strings of a value.
fn with_seed(value: &toml::Value, seed: u64) -> toml::Value {
    match value {
        toml::Value::String(text) => text.replace("{seed}", &seed.to_string()).into(),
        toml::Value::Array(items) => {
            toml::Value::Array(items.iter().map(|item| with_seed(item, seed)).collect())
        }
        toml::Value::Table(table) => toml::Value::Table(
            table.iter().map(|(key, item)| (key.clone(), with_seed(item, seed))).collect(),
        ),
        other => other.clone(),
    }
}

/// Value at a dotted config path.
pub(crate) fn setting<'a>(settings: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(settings, |value, key| value.get(key))
}
