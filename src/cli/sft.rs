//! `isr sft`.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Result;
use clap::Args;
use isr_api::Error;
use isr_dpo::{SftConfig, open_sft};

use super::ConfigArgs;
use super::output::print_line;
use super::processes::require_single;
use super::session::{Session, for_the_process};

/// Train a model on demonstrations: the warm start that a run begins with
///
/// The same command continues a training that was stopped, from its last snapshot.
#[derive(Args)]
pub(super) struct SftArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// The directory of the training; the model goes to DIR/checkpoint [default: runs/NAME, as the config's
    /// `name`]
    #[arg(short, long, value_name = "DIR")]
    out: Option<PathBuf>,
}

impl SftArgs {
    pub(super) fn execute(&self, session: &Session) -> Result<()> {
        require_single("isr sft")?;
        let config = self.config.load::<SftConfig>()?;
        let out = self.out.clone().unwrap_or_else(|| PathBuf::from("runs").join(&config.value.name));
        let stops = session.stopped_by_signals();
        session.progress.line("loading the model");
        let observers = vec![Arc::new(session.progress.clone()) as Arc<_>];
        let checkpoint = session.block_on(async {
            let cancel = stops.now.clone();
            // On a task of its own, as it blocks while weights are read.
            let opening = tokio::spawn(async move { open_sft(config, &out, observers, cancel).await });
            let opened = tokio::select! {
                () = stops.any() => Err(Error::Cancelled),
                opened = opening => opened.unwrap_or_else(|error| match error.try_into_panic() {
                    Ok(panic) => std::panic::resume_unwind(panic),
                    Err(_) => Err(Error::Cancelled),
                }),
            };
            let training = for_the_process(opened?.stopped_by(stops.soon.clone()));
            session.progress.line("preparing demonstrations");
            training.run().await
        })?;
        print_line(checkpoint.display())?;
        Ok(())
    }
}
