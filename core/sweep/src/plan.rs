//! Runs of a sweep: each arm with each seed, with a validated config.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use isr_api::records::Summary;
use isr_config::{LoadedConfig, Loader, RunConfig, to_toml};
use isr_run::store::{config_difference, read_json};
use serde_json::Value;

use crate::claims::{self, Comparison};
use crate::error::SweepError;
use crate::expand::name;
use crate::expand::{Arm, expand};
use crate::file::{Base, SweepFile};

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
    /// Runs: one for each arm, base and seed, arm by arm and base by base.
    pub members: Vec<Member>,
    /// Comparisons of `[[claims]]`, with arms and iterations resolved.
    pub claims: Vec<Comparison>,
}

/// One run of a sweep: an arm with a base, if there are bases, and a seed.
pub struct Member {
    /// Index in [`Plan::arms`].
    pub arm: usize,
    /// Index of its base in [`SweepFile::bases`]; `None` without bases.
    pub base: Option<usize>,
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
        let extends = path.parent().unwrap_or(Path::new("")).join(&file.extends);
        let (mut members, mut problems) = (Vec::new(), Vec::new());
        let bases: Vec<Option<usize>> = match file.bases.len() {
            0 => vec![None],
            count => (0..count).map(Some).collect(),
        };
        for (index, arm) in arms.iter().enumerate() {
            let runs = bases.iter().flat_map(|&base| file.seeds.iter().map(move |&seed| (base, seed)));
            for (base, seed) in runs {
                let of_base = base.map(|base| &file.bases[base]);
                let folder = dir.join("arms").join(&arm.name).join(of_base.map_or("", |base| &base.name));
                let run = folder.join(format!("seed-{seed}"));
                match config(&extends, &file, arm, of_base, seed, &dir) {
                    Ok((config, toml)) => {
                        members.push(Member { arm: index, base, seed, dir: run, config, toml });
                    }
                    Err(error) => {
                        let base =
                            of_base.map_or_else(String::new, |base| format!(", base `{}`", base.name));
                        problems.push(format!("arm `{}`{base}: {error}", arm.name));
                        break;
                    }
                }
            }
        }
        match problems.as_slice() {
            [] => {
                if let Some([one, other]) = equal_bases(&file, &members) {
                    let text = format!(
                        "bases `{one}` and `{other}` have the same settings, so that they are no two bases; name other \
                         `seeds` for more runs of one"
                    );
                    return Err(SweepError::Unusable(text));
                }
                let claims = claims::comparisons(&file, &arms, &members)?;
                Ok(Self { name, dir, file, arms, members, claims })
            }
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

    /// Name of a member's base; `None` without bases.
    pub fn base(&self, member: &Member) -> Option<&str> {
        member.base.map(|base| self.file.bases[base].name.as_str())
    }

    /// Name of a run in messages: `isr, seed 1`, or with bases `isr, base-a, seed 1`.
    pub fn run_name(&self, member: &Member) -> String {
        let base = self.base(member).map_or_else(String::new, |base| format!(", {base}"));
        format!("{}{base}, seed {}", self.arm(member), member.seed)
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

/// Two bases with which the first arm has the same config.
fn equal_bases<'f>(file: &'f SweepFile, members: &[Member]) -> Option<[&'f str; 2]> {
    let settings = |member: &Member| {
        let mut settings = member.config.settings.clone();
        settings.as_object_mut()?.remove("name");
        Some((&*file.bases[member.base?].name, settings))
    };
    let first = members.iter().filter(|member| member.arm == 0 && file.seeds.first() == Some(&member.seed));
    let all: Vec<_> = first.filter_map(settings).collect();
    all.iter().enumerate().find_map(|(index, (name, settings))| {
        let same = all[..index].iter().find(|(_, other)| other == settings)?;
        Some([same.0, name])
    })
}

/// Loads the config of an arm, base and seed. Environment variables are ignored, since runs may be made on other machines.
fn config(
    base: &Path,
    file: &SweepFile,
    arm: &Arm,
    of_base: Option<&Base>,
    seed: u64,
    dir: &Path,
) -> Result<(LoadedConfig<RunConfig>, String), SweepError> {
    let name = of_base.map(|base| base.name.as_str());
    let own = file.set.iter().chain(of_base.iter().flat_map(|base| &base.set));
    let own = own.chain(arm.set.iter().map(|(path, value)| (path, value)));
    let mut overrides: Vec<String> =
        own.map(|(path, value)| format!("{path}={}", filled(value, seed, name))).collect();
    overrides.push(format!("seed={seed}"));
    overrides.push(format!("name=\"{}-seed-{seed}\"", name::run(&arm.name, name)));
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

/// Replaces `{seed}`, and with bases `{base}`, in the strings of a value.
fn filled(value: &toml::Value, seed: u64, base: Option<&str>) -> toml::Value {
    match value {
        toml::Value::String(text) => {
            let text = text.replace("{seed}", &seed.to_string());
            base.map_or(text.clone(), |base| text.replace("{base}", base)).into()
        }
        toml::Value::Array(items) => {
            toml::Value::Array(items.iter().map(|item| filled(item, seed, base)).collect())
        }
        toml::Value::Table(table) => toml::Value::Table(
            table.iter().map(|(key, item)| (key.clone(), filled(item, seed, base))).collect(),
        ),
        other => other.clone(),
    }
}

/// Value at a dotted config path.
pub(crate) fn setting<'a>(settings: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(settings, |value, key| value.get(key))
}
