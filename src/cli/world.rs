//! `isr world`: the data of a config, made before a run needs it.

use std::collections::BTreeSet;

use anyhow::Result;
use clap::{Args, Subcommand};
use isr_api::{BuildContext, ComponentError, Error, SampleSource};
use isr_config::{Invalid, RunConfig, Validate};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ConfigArgs;
use super::output::print_line;
use super::session::Session;

/// Make the data of a config
#[derive(Args)]
pub(super) struct WorldArgs {
    #[command(subcommand)]
    command: WorldCommand,
}

#[derive(Subcommand)]
enum WorldCommand {
    /// Render the clips that are missing, as `isr run` would before its first iteration
    Render {
        #[command(flatten)]
        config: ConfigArgs,
    },
}

/// A run's config of which only the data is used, so that its model need not be there.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
struct DataOfRun(RunConfig);

impl Validate for DataOfRun {
    fn invalid(&self) -> Vec<Invalid> {
        let reason = self.0.data.validate().err();
        reason.map(|reason| Invalid { key: "data".to_owned(), reason }).into_iter().collect()
    }
}

impl WorldArgs {
    pub(super) fn execute(&self, session: &Session) -> Result<()> {
        let WorldCommand::Render { config } = &self.command;
        let config = config.load::<DataOfRun>()?;
        let data = &config.value.0.data;
        let built = data.build(&BuildContext { config: config.settings });
        let source =
            built.map_err(|cause| Error::Build { kind: "data", name: data.name().to_owned(), cause })?;
        let cancel = session.cancelled_by_signals();
        let line = session.block_on(async {
            tokio::select! {
                () = cancel.cancelled() => Err(Error::Cancelled.into()),
                line = prepare(source.as_ref()) => line.map_err(anyhow::Error::from),
            }
        })?;
        print_line(line)?;
        Ok(())
    }
}

async fn prepare(source: &dyn SampleSource) -> Result<String, ComponentError> {
    source.prepare().await?;
    let (training, evaluation) = (source.training().await?, source.evaluation().await?);
    let clips: BTreeSet<_> = training.iter().map(|sample| &sample.video).collect();
    let held_out: BTreeSet<_> = evaluation.iter().map(|it| &it.sample.video).collect();
    Ok(format!(
        "{} training clips with {} samples, {} held-out clips with {} samples",
        clips.len(),
        training.len(),
        held_out.len(),
        evaluation.len()
    ))
}
