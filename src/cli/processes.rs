//! A command that several processes run together: started by `--processes`, or each by torchrun, Slurm or Ray.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use isr_api::{Error, ProcessGroup};
use isr_torch::process_group::{C10dGroup, Rendezvous, Settings, join};

use super::failure::{self, Unusable};
use super::launch::launch;
use super::session::Session;

/// How many processes run a command.
#[derive(Args)]
pub(super) struct ProcessArgs {
    /// Run in N processes on this machine, on a GPU each where it has GPUs. Processes on several machines are started by
    /// torchrun or srun instead
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    processes: Option<u16>,
    /// Seconds without a sign of life after which a process is taken for lost, and the others stop
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    process_timeout: u64,
}

/// What this process is to a command.
pub(super) enum Role {
    /// It has started the processes, and they are done.
    Launcher,
    /// One of a group.
    Member(Arc<C10dGroup>),
    /// The only one.
    Single,
}

impl ProcessArgs {
    /// Joins the group that a launcher has started this process in, or starts one.
    ///
    /// # Errors
    /// Variables of a launcher that are incomplete, processes that do not arrive, and those that fail.
    pub(super) fn enter(&self, session: &Session) -> Result<Role> {
        let place = Rendezvous::from_env().map_err(unusable)?;
        match (place, self.processes) {
            (None, None | Some(1)) => Ok(Role::Single),
            (None, Some(count)) => {
                let patience = Duration::from_secs(self.process_timeout.saturating_add(5));
                launch(session, count.into(), patience)?;
                Ok(Role::Launcher)
            }
            (Some(place), Some(_)) => Err(Unusable {
                message: format!(
                    "a launcher has started {} processes of this command already",
                    place.world_size
                ),
                hint: Some("leave --processes out".to_owned()),
            }
            .into()),
            (Some(place), None) => {
                session.progress.belongs_to(place.rank);
                session.progress.line(format_args!("waiting for {} processes", place.world_size));
                let limit = Duration::from_secs(self.process_timeout);
                let progress = session.progress.clone();
                let lost = Box::new(move |cause: String| {
                    progress.clear();
                    failure::end_lost(&cause)
                });
                let group = join(place, Settings { limit, ..Settings::default() }, lost);
                Ok(Role::Member(group.map_err(|error| Error::Config(error.to_string()))?))
            }
        }
    }
}

/// Refuses a launcher's processes for a command that is one process.
pub(super) fn require_single(command: &str) -> Result<()> {
    match Rendezvous::from_env().map_err(unusable)? {
        Some(place) if place.world_size > 1 => Err(Unusable {
            message: format!(
                "`{command}` runs in one process, and a launcher has started {}",
                place.world_size
            ),
            hint: Some("start it by itself; `isr run` and `isr dpo` run in several processes".to_owned()),
        }
        .into()),
        _ => Ok(()),
    }
}

impl Role {
    /// The group, for a run.
    pub(super) fn group(&self) -> Option<Arc<dyn ProcessGroup>> {
        match self {
            Self::Member(group) => Some(group.clone()),
            _ => None,
        }
    }

    /// Whether this process says what came of the command.
    pub(super) fn reports(&self) -> bool {
        match self {
            Self::Member(group) => group.rank() == 0,
            _ => true,
        }
    }

    /// Ends the membership, so that the others do not take the process's end for a death.
    pub(super) fn leave(&self) -> Result<()> {
        match self {
            Self::Member(group) => Ok(group.leave()?),
            _ => Ok(()),
        }
    }
}

fn unusable(error: impl std::fmt::Display) -> Unusable {
    Unusable { message: error.to_string(), hint: None }
}
