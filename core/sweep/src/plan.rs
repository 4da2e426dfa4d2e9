//! The runs of a sweep: each arm with each seed, its config read and checked before anything starts.

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

/// A sweep, ready to run.
pub struct Plan {
    /// Its name.
    pub name: String,
    /// Its folder.
    pub dir: PathBuf,
    /// What it was read from.
    pub file: SweepFile,
    /// The arms, in the file's order.
    pub arms: Vec<Arm>,
    /// One entry for each arm and seed, arm by arm.
    pub members: Vec<Member>,
}

/// A run of a sweep.
pub struct Member {
    /// Index of its arm.
    pub arm: usize,
    /// Its seed.
    pub seed: u64,
    /// Its run directory.
    pub dir: PathBuf,
    /// Its config.
    pub config: LoadedConfig<RunConfig>,
    /// The config as TOML.
    pub toml: String,
}

impl Plan {
    /// Reads and checks a sweep. `out` is its folder, by default `sweeps/NAME`.
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

    /// The name of a member's arm.
    pub fn arm(&self, member: &Member) -> &str {
        &self.arms[member.arm].name
    }

    /// The first run of each `[data]` that differs.
    pub fn data_sets(&self) -> Vec<&Member> {
        let mut seen = HashSet::new();
        let data = |member: &&Member| member.config.settings.get("data").map(ToString::to_string);
        self.members.iter().filter(|member| seen.insert(data(member))).collect()
    }

    /// Where stages that arms have in common are kept; `None` where the file wants none to be shared.
    pub fn stages(&self) -> Option<PathBuf> {
        self.file.share.then(|| self.dir.join("shared").join("stages"))
    }

    /// Refuses a file that describes an arm otherwise than its runs were made.
    ///
    /// # Errors
    /// [`SweepError::OtherArm`] of the first such arm.
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
    /// What the run wrote down so far; `None` before its first figures.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn summary(&self) -> Result<Option<Summary>, SweepError> {
        Ok(read_json(&self.dir.join("summary.json"))?)
    }

    /// Complete iterations.
    pub(crate) fn complete(&self) -> Result<u32, SweepError> {
        Ok(self.summary()?.map_or(0, |summary| summary.iterations.len() as u32))
    }

    /// Iterations that its config asks for.
    pub fn iterations(&self) -> u32 {
        self.config.value.r#loop.iterations
    }

    /// What the run said.
    pub fn log(&self) -> PathBuf {
        self.dir.with_extension("log")
    }
}

/// The config of an arm and seed. The environment has no say: runs may be made on other machines.
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

/// The value with `{seed}` in its texts replaced.
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

/// A config's value at a dotted path.
pub(crate) fn setting<'a>(settings: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(settings, |value, key| value.get(key))
}
