//! `isr annotate`.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use isr_api::Error;
use isr_server::annotate::{AnnotateError, AnnotateOptions, router};
use isr_server::http::{Auth, ConnectionLimits, listen, serve};

use super::output::print_line;
use super::session::Session;

/// Choices are on disk when the page knows of them: nothing is worth a longer wait.
const GRACE: Duration = Duration::from_secs(1);

/// Judge the answers of a run yourself, in a browser
///
/// Serves a page on this machine that shows a clip, its instruction and two answers in random order. Each
/// choice is a line of RUN/annotations.jsonl. The same command continues; Ctrl-C ends it.
#[derive(Args)]
pub(super) struct AnnotateArgs {
    /// The run directory
    run: PathBuf,
    /// Who judges: a name for the records [default: that of the user]
    #[arg(long, value_name = "NAME")]
    annotator: Option<String>,
    /// Judge the answers of this iteration [default: the last one]
    #[arg(long, value_name = "N")]
    iteration: Option<u32>,
    /// Where the run's relative video paths start: the folder that it was started in
    #[arg(long, value_name = "DIR", default_value = ".")]
    video_root: PathBuf,
    /// Port to listen on; 0 takes a free one
    #[arg(long, value_name = "N", default_value_t = 8001)]
    port: u16,
}

impl AnnotateArgs {
    pub(super) fn execute(&self, session: &Session) -> Result<()> {
        let user = || std::env::var("USER").ok().filter(|name| !name.trim().is_empty());
        let annotating = AnnotateOptions {
            run: self.run.clone(),
            iteration: self.iteration,
            annotator: self.annotator.clone().or_else(user).unwrap_or_else(|| "annotator".to_owned()),
            video_root: self.video_root.clone(),
        };
        let router = router(&annotating).map_err(report)?;
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let listener = session.block_on(listen(loopback, self.port, &Auth::Loopback));
        let listener = listener.map_err(|error| Error::Config(error.to_string()))?;
        let stop = session.cancelled_by_signals();
        print_line(format_args!("open http://{} as {}", listener.local_addr()?, annotating.annotator))?;
        session.block_on(serve(listener, router, ConnectionLimits::default(), stop, GRACE));
        Ok(())
    }
}

/// What the arguments say cannot be used; the rest failed.
fn report(error: AnnotateError) -> anyhow::Error {
    match error {
        AnnotateError::Store(error) => error.into(),
        error @ AnnotateError::Lock { .. } => error.into(),
        error => Error::Config(error.to_string()).into(),
    }
}
