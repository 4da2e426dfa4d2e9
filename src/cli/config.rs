//! `isr config`: configs shown, checked and described.

use std::path::Path;

use anyhow::Result;
use clap::{Args, Subcommand};
use isr_api::{BuildContext, ComponentError, Error, UnusableRow};
use isr_config::{LoadedConfig, RunConfig, Validate, file_schema, to_toml};
use isr_dpo::{AuditConfig, DpoRunConfig, EvaluateConfig, SftConfig};
use serde_json::Value;

use super::ConfigArgs;
#[cfg(feature = "sweep")]
use super::failure::Unusable;
use super::output::{print, print_line};
use super::session::Session;

/// Show, check and describe configs
#[derive(Args)]
pub(super) struct ConfigCommands {
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(Subcommand)]
enum ConfigCommand {
    /// Print a config with all layers merged and all defaults filled in, as TOML; loads the plugins that it names
    Show {
        #[command(flatten)]
        config: ConfigArgs,
        /// One line a setting, with where it was set
        #[arg(long)]
        origins: bool,
        #[command(flatten)]
        of: ConfigKind,
    },
    /// Check a config, and that the files it reads are there, without running it
    ///
    /// Plugins that it names are loaded to ask for their settings, which runs their code: a Python file is started, a
    /// native library is opened.
    Check {
        #[command(flatten)]
        config: ConfigArgs,
        /// Load no plugin; sections of components that are not built in are left unchecked
        #[arg(long)]
        no_plugins: bool,
        #[command(flatten)]
        of: ConfigKind,
    },
    /// Print the JSON schema of config files, for editors
    Schema {
        #[command(flatten)]
        of: ConfigKind,
        /// Sweep files
        #[cfg(feature = "sweep")]
        #[arg(long, conflicts_with_all = ["sft", "dpo", "audit", "evaluate"])]
        sweep: bool,
    },
}

/// Which command a config is for.
#[derive(Args)]
pub(super) struct ConfigKind {
    /// Configs of `isr sft`, not of `isr run`
    #[arg(long)]
    pub(super) sft: bool,
    /// Configs of `isr dpo`
    #[arg(long, conflicts_with = "sft")]
    pub(super) dpo: bool,
    /// Configs of `isr audit`
    #[arg(long, conflicts_with_all = ["sft", "dpo"])]
    pub(super) audit: bool,
    /// Configs of `isr evaluate`
    #[arg(long, conflicts_with_all = ["sft", "dpo", "audit"])]
    pub(super) evaluate: bool,
}

impl ConfigCommands {
    pub(super) fn execute(&self, session: &Session) -> Result<()> {
        match &self.command {
            ConfigCommand::Show { config, origins, of } => print(match of.named() {
                Some(Command::Sft) => shown(&config.load::<SftConfig>()?, *origins)?,
                Some(Command::Dpo) => shown(&config.load::<DpoRunConfig>()?, *origins)?,
                Some(Command::Audit) => shown(&config.load::<AuditConfig>()?, *origins)?,
                Some(Command::Evaluate) => shown(&config.load::<EvaluateConfig>()?, *origins)?,
                None => shown(&config.load::<RunConfig>()?, *origins)?,
            })?,
            ConfigCommand::Check { config, no_plugins, of } => {
                refuse_sweep(&config.config)?;
                let loader = config.loader().without_plugins(*no_plugins);
                let unchecked = match of.or_shown_by(config)? {
                    Some(Command::Sft) => {
                        let unchecked = loader.check::<SftConfig>()?;
                        if !no_plugins {
                            check_demonstrations(&config.load::<SftConfig>()?, session)?;
                        }
                        unchecked
                    }
                    Some(Command::Dpo) => {
                        let unchecked = loader.check::<DpoRunConfig>()?;
                        if !no_plugins {
                            check_preferences(&config.load::<DpoRunConfig>()?, session)?;
                        }
                        unchecked
                    }
                    Some(Command::Audit) => loader.check::<AuditConfig>()?,
                    Some(Command::Evaluate) => loader.check::<EvaluateConfig>()?,
                    None => {
                        let unchecked = loader.check::<RunConfig>()?;
                        if !no_plugins {
                            check_data(&config.load::<RunConfig>()?, session)?;
                        }
                        unchecked
                    }
                };
                for section in unchecked {
                    print_line(format_args!("{section}: not checked, since no plugin was loaded"))?;
                }
                print_line("ok")?;
            }
            #[cfg(feature = "sweep")]
            ConfigCommand::Schema { sweep: true, .. } => {
                print_line(format_args!("{:#}", isr_sweep::SweepFile::schema().to_value()))?;
            }
            ConfigCommand::Schema { of, .. } => {
                let schema = match of.named() {
                    Some(Command::Sft) => file_schema::<SftConfig>(),
                    Some(Command::Dpo) => file_schema::<DpoRunConfig>(),
                    Some(Command::Audit) => file_schema::<AuditConfig>(),
                    Some(Command::Evaluate) => file_schema::<EvaluateConfig>(),
                    None => file_schema::<RunConfig>(),
                };
                print_line(format_args!("{:#}", schema.to_value()))?;
            }
        }
        Ok(())
    }
}

/// Commands with configs of their own, beside `isr run`.
#[derive(Clone, Copy)]
enum Command {
    Sft,
    Dpo,
    Audit,
    Evaluate,
}

impl ConfigKind {
    /// The command that a flag names.
    fn named(&self) -> Option<Command> {
        let flags = [
            (self.sft, Command::Sft),
            (self.dpo, Command::Dpo),
            (self.audit, Command::Audit),
            (self.evaluate, Command::Evaluate),
        ];
        flags.into_iter().find(|(set, _)| *set).map(|(_, command)| command)
    }

    /// The command that a flag names, or whose sections a config has: demonstrations of `isr sft`, preferences of `isr dpo`.
    fn or_shown_by(&self, config: &ConfigArgs) -> Result<Option<Command>> {
        if self.named().is_some() {
            return Ok(self.named());
        }
        let sections = config.loader().sections()?;
        let shown = [("demonstrations", Command::Sft), ("preferences", Command::Dpo)];
        Ok(shown.into_iter().find(|(section, _)| sections.contains(*section)).map(|(_, command)| command))
    }
}

/// Types of data that are files, which can be read without being made first.
const FILES: [&str; 3] = ["jsonl", "parquet", "folder"];

/// Whether a `data` section names files alone.
fn is_files(data: &serde_json::Value) -> bool {
    match data["type"].as_str() {
        Some("mixture") => data["sources"]
            .as_array()
            .is_some_and(|sources| sources.iter().all(|source| is_files(&source["data"]))),
        kind => kind.is_some_and(|kind| FILES.contains(&kind)),
    }
}

/// Reads the data that a config names, where it is files.
fn check_data(config: &LoadedConfig<RunConfig>, session: &Session) -> Result<()> {
    let settings = &config.settings;
    if !is_files(&settings["data"]) {
        return Ok(());
    }
    let unusable = |cause: String| Error::Config(format!("`data`: {cause}"));
    let context = BuildContext { config: settings.clone() };
    let source = config.value.data.build(&context).map_err(|cause| unusable(cause.to_string()))?;
    let read = session.block_on(async {
        source.prepare().await?;
        source.training().await?;
        source.evaluation().await
    });
    read.map_err(|error| unusable(error.to_string()))?;
    Ok(())
}

/// Type of preferences and demonstrations that are files.
const FILE_SETS: &str = "files";

/// Reads the preference pairs that a config names, where they are files.
fn check_preferences(config: &LoadedConfig<DpoRunConfig>, session: &Session) -> Result<()> {
    let section = &config.value.preferences;
    if section.name() != FILE_SETS {
        return Ok(());
    }
    let unusable = |cause: String| Error::Config(format!("`preferences`: {cause}"));
    let context = BuildContext { config: config.settings.clone() };
    let source = section.build(&context).map_err(|cause| unusable(cause.to_string()))?;
    let rows = session.block_on(source.rows()).map_err(|error| unusable(error.to_string()))?;
    let total = rows.len();
    let bad: Vec<_> = rows.into_iter().filter_map(Result::err).collect();
    print_line(format_args!("preferences: {}", read("pair", total - bad.len(), &bad)))
}

/// Reads the demonstrations that a config names, where they are files.
fn check_demonstrations(config: &LoadedConfig<SftConfig>, session: &Session) -> Result<()> {
    let section = &config.value.demonstrations;
    if section.name() != FILE_SETS {
        return Ok(());
    }
    let unusable = |cause: String| Error::Config(format!("`demonstrations`: {cause}"));
    let context = BuildContext { config: config.settings.clone() };
    let source = section.build(&context).map_err(|cause| unusable(cause.to_string()))?;
    let found = session.block_on(async { Ok((source.count().await?, source.unusable().await?)) });
    let (count, bad) = found.map_err(|error: ComponentError| unusable(error.to_string()))?;
    print_line(format_args!("demonstrations: {}", read("demonstration", count as usize, &bad)))
}

/// `3 pairs; 1 row cannot be used, the first: pairs.jsonl:3: ...`.
fn read(what: &str, count: usize, bad: &[UnusableRow]) -> String {
    let counted = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    match bad.first() {
        None => counted(count, what),
        Some(first) => {
            let rows = counted(bad.len(), "row");
            format!("{}; {rows} cannot be used, the first: {first}", counted(count, what))
        }
    }
}

/// A sweep file has keys of its own, which no config has.
fn refuse_sweep(path: &Path) -> Result<()> {
    #[cfg(feature = "sweep")]
    if isr_sweep::SweepFile::is_one(path) {
        let message = format!("{} is a sweep, not the config of a run", path.display());
        let hint = Some(format!("isr sweep {} --dry-run checks it", path.display()));
        return Err(Unusable { message, hint }.into());
    }
    let _ = path;
    Ok(())
}

fn shown<T: Validate>(config: &LoadedConfig<T>, origins: bool) -> Result<String> {
    if !origins {
        return Ok(to_toml(&config.value)?);
    }
    let mut text = String::new();
    flatten("", &config.settings, &mut |key, value| {
        let origin = config.origins.get(key).map_or("default", String::as_str);
        text.push_str(&format!("{key} = {value}  # {origin}\n"));
    });
    Ok(text)
}

/// Visits every setting that is no table and not null, with its dotted key.
fn flatten(key: &str, value: &Value, visit: &mut impl FnMut(&str, &Value)) {
    match value {
        Value::Null => {}
        Value::Object(map) => {
            for (name, inner) in map {
                let path = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
                flatten(&path, inner, visit);
            }
        }
        other => visit(key, other),
    }
}
