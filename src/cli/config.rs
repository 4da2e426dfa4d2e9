//! `isr config`: configs shown, checked and described.

use std::path::Path;

use anyhow::Result;
use clap::{Args, Subcommand};
use isr_api::{BuildContext, Error};
use isr_config::{LoadedConfig, RunConfig, Validate, file_schema, to_toml};
use isr_dpo::{AuditConfig, EvaluateConfig, SftConfig};
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
        #[arg(long, conflicts_with_all = ["sft", "audit", "evaluate"])]
        sweep: bool,
    },
}

/// Which command a config is for.
#[derive(Args)]
pub(super) struct ConfigKind {
    /// Configs of `isr sft`, not of `isr run`
    #[arg(long)]
    pub(super) sft: bool,
    /// Configs of `isr audit`
    #[arg(long, conflicts_with = "sft")]
    pub(super) audit: bool,
    /// Configs of `isr evaluate`
    #[arg(long, conflicts_with_all = ["sft", "audit"])]
    pub(super) evaluate: bool,
}

impl ConfigCommands {
    pub(super) fn execute(&self, session: &Session) -> Result<()> {
        match &self.command {
            ConfigCommand::Show { config, origins, of } if of.sft => {
                print(shown(&config.load::<SftConfig>()?, *origins)?)?;
            }
            ConfigCommand::Show { config, origins, of } if of.audit => {
                print(shown(&config.load::<AuditConfig>()?, *origins)?)?;
            }
            ConfigCommand::Show { config, origins, of } if of.evaluate => {
                print(shown(&config.load::<EvaluateConfig>()?, *origins)?)?;
            }
            ConfigCommand::Show { config, origins, .. } => {
                print(shown(&config.load::<RunConfig>()?, *origins)?)?;
            }
            ConfigCommand::Check { config, of, .. } if of.evaluate => {
                config.loader().check::<EvaluateConfig>()?;
                print_line("ok")?;
            }
            ConfigCommand::Check { config, no_plugins, of } => {
                refuse_sweep(&config.config)?;
                let loader = config.loader().without_plugins(*no_plugins);
                let unchecked = match (of.sft || (!of.audit && is_of_sft(config)?), of.audit) {
                    (true, _) => loader.check::<SftConfig>()?,
                    (_, true) => loader.check::<AuditConfig>()?,
                    _ => {
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
                let schema = match (of.sft, of.audit, of.evaluate) {
                    (true, ..) => file_schema::<SftConfig>(),
                    (_, true, _) => file_schema::<AuditConfig>(),
                    (.., true) => file_schema::<EvaluateConfig>(),
                    _ => file_schema::<RunConfig>(),
                };
                print_line(format_args!("{:#}", schema.to_value()))?;
            }
        }
        Ok(())
    }
}

/// Whether a config has demonstrations, which `isr sft` alone reads.
fn is_of_sft(config: &ConfigArgs) -> Result<bool> {
    Ok(config.loader().sections()?.contains("demonstrations"))
}

/// Types of data that are files, which can be read without being made first.
const FILES: [&str; 3] = ["jsonl", "parquet", "folder"];

/// Reads the data that a config names, where it is files.
fn check_data(config: &LoadedConfig<RunConfig>, session: &Session) -> Result<()> {
    let settings = &config.settings;
    if !settings["data"]["type"].as_str().is_some_and(|kind| FILES.contains(&kind)) {
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
