//! `isr run`, and `isr dpo`, whose pairs all come from data.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Result;
use clap::Args;
use isr_api::Error;
use isr_config::RunConfig;
use isr_dpo::{ConfigSource, DpoRunConfig, Run, write_report};

use super::output::{print, print_line};
use super::parent;
use super::processes::{ProcessArgs, Role};
use super::session::{Session, for_the_process};
use super::{ConfigArgs, summary_table};

/// Run the loop, or go on with a run that was cut
///
/// The same command continues a run that was stopped, at whatever moment. A run that is complete is left
/// as it is, but for its report.
#[derive(Args)]
pub(super) struct RunArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// The run directory [default: runs/NAME, as the config's `name`]
    #[arg(short, long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Take over stages that equal runs left in this folder, and leave those of this run; results do not
    /// depend on it
    #[arg(long, value_name = "DIR")]
    stage_cache: Option<PathBuf>,
    #[command(flatten)]
    processes: ProcessArgs,
}

impl RunArgs {
    pub(super) fn execute(&self, session: &Session) -> Result<()> {
        let config = self.config.load::<RunConfig>()?;
        let name = config.value.name.clone();
        self.execute_with(session, config, &name)
    }

    fn execute_with(&self, session: &Session, config: impl Into<ConfigSource>, name: &str) -> Result<()> {
        let out = self.out.clone().unwrap_or_else(|| PathBuf::from("runs").join(name));
        let role = self.processes.enter(session)?;
        if matches!(role, Role::Launcher) {
            return Ok(());
        }
        let stops = session.stopped_by_signals();
        parent::ends_with_parent(session, &stops.now);
        if role.reports() {
            parent::waits_for_predecessor(session, &out);
        }
        session.progress.line("loading models");
        let observer = Arc::new(session.progress.clone());
        let mut run = Run::builder(config).shared_observer(observer);
        run = run.cancelled_by(stops.now.clone()).stopped_by(stops.soon.clone());
        if let Some(dir) = &self.stage_cache {
            run = run.stage_cache(dir);
        }
        if let Some(group) = role.group() {
            run = run.processes(group);
        }
        // Reading weights takes minutes, and nothing is lost if it is left.
        let opened = session.block_on(async {
            tokio::select! {
                () = stops.any() => Err(Error::Cancelled),
                opened = run.open(&out) => opened,
            }
        });
        let run = for_the_process(opened?);
        session.progress.line("preparing data");
        let summary = session.block_on(run.run())?;
        role.leave()?;
        if !role.reports() {
            return Ok(());
        }
        let report = out.join("report.html");
        let written = session.block_on(write_report(std::slice::from_ref(&out), &report));
        print(summary_table::render(&summary))?;
        print_line(format_args!("run     {}", out.display()))?;
        match written {
            Ok(_) => print_line(format_args!("report  {}", report.display()))?,
            // The run is complete without it; `isr report` tries again.
            Err(error) => tracing::warn!(%error, "the report is not written"),
        }
        Ok(())
    }
}

/// Train on preference pairs that exist already, or go on with a training that was cut
///
/// One round of DPO, or of any other objective, on a dataset of pairs. The pairs are scored once under the model before
/// training, which is their reference. The run directory is that of `isr run`.
#[derive(Args)]
pub(super) struct DpoArgs {
    #[command(flatten)]
    run: RunArgs,
}

impl DpoArgs {
    pub(super) fn execute(&self, session: &Session) -> Result<()> {
        let config = self.run.config.load::<DpoRunConfig>()?;
        let name = config.value.name.clone();
        self.run.execute_with(session, config, &name)
    }
}
