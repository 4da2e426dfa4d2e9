//! `isr sft`.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Result;
use clap::Args;
use isr_dpo::{SftConfig, open_sft};

use super::ConfigArgs;
use super::output::print_line;
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
        let config = self.config.load::<SftConfig>()?;
        let out = self.out.clone().unwrap_or_else(|| PathBuf::from("runs").join(&config.value.name));
        let cancel = session.cancelled_by_ctrl_c();
        session.progress.line("loading the model");
        let observers = vec![Arc::new(session.progress.clone()) as Arc<_>];
        let checkpoint = session.block_on(async {
            let training = for_the_process(open_sft(config, &out, observers, cancel).await?);
            session.progress.line("preparing demonstrations");
            training.run().await
        })?;
        print_line(checkpoint.display())?;
        Ok(())
    }
}
