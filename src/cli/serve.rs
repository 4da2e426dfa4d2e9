//! `isr serve`.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, anyhow};
use clap::Args;
use isr_api::{BuildContext, Component, Error, FrozenPolicy};
use isr_dpo::FfmpegConfig;
use isr_server::http::{Auth, ConnectionLimits, WebError, listen, serve};
use isr_server::openai::{ServeOptions, Served, router};

use super::model::ModelArgs;
use super::output::print_line;
use super::session::Session;

/// How long requests under way may go on after a signal to stop.
const GRACE: Duration = Duration::from_secs(30);

/// Bytes of text that a token of the context is allowed. Of written text it has about 4; runs of spaces have more.
const BYTES_PER_TOKEN: usize = 16;

/// Serve a model to OpenAI clients
///
/// `POST /v1/chat/completions` answers about images and videos, which requests bring as data URLs, or name
/// as files below --allow-dir. `GET /v1/models`, `/health` and `/metrics` tell of the server. Ctrl-C or
/// SIGTERM stop it when the requests under way are answered, or after 30 s.
#[derive(Args)]
pub(super) struct ServeArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// The model's name for clients [default: the folder's name]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Address to listen on; any but loopback needs --token-env
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    host: IpAddr,
    /// Port to listen on; 0 takes a free one
    #[arg(long, value_name = "N", default_value_t = 8000)]
    port: u16,
    /// Environment variable that holds the token which clients must send
    #[arg(long, value_name = "VARIABLE")]
    token_env: Option<String>,
    /// Folder whose files requests may name by `file:` URLs; may be given again
    #[arg(long, value_name = "DIR")]
    allow_dir: Vec<PathBuf>,
    /// Longest answer in tokens
    #[arg(long, value_name = "N", default_value_t = 1024)]
    max_tokens: usize,
    /// Requests that are answered at once; others are told to come again. One address gets three quarters
    #[arg(long, value_name = "N", default_value_t = 64)]
    queue: usize,
    /// Longest request in MiB
    #[arg(long, value_name = "N", default_value_t = 64)]
    body_mb: usize,
}

impl ServeArgs {
    pub(super) fn execute(&self, session: &Session) -> Result<()> {
        let auth = Auth::from_env(self.token_env.as_deref()).map_err(unusable)?;
        // Before the model is loaded, which takes longer than to say that the port is taken.
        let listener = session.block_on(listen(self.host, self.port, &auth)).map_err(unusable)?;
        let context = self.model.context()?;
        let model = self.model.load()?;
        let served = Served {
            name: self.name.clone().unwrap_or_else(|| self.model.name()),
            policy: FrozenPolicy::new(model.policy.clone()),
            videos: model.reader.clone(),
            images: images()?,
            encoder: None,
            system: model.system.clone(),
        };
        let options = ServeOptions {
            auth,
            allowed: self.allow_dir.clone(),
            max_tokens: self.max_tokens,
            frames: Some(self.model.frames),
            queue: self.queue,
            body_bytes: self.body_mb.saturating_mul(1 << 20),
            text_bytes: context.saturating_mul(BYTES_PER_TOKEN),
            ..ServeOptions::default()
        };
        let router = router(served, options).map_err(|error| Error::Config(error.to_string()))?;
        let stop = session.cancelled_by_signals();
        print_line(format_args!("listening on http://{}", listener.local_addr()?))?;
        if !session.block_on(serve(listener, router, ConnectionLimits::default(), stop, GRACE)) {
            session.progress.line("requests that took longer than 30 s were cut off");
        }
        Ok(())
    }
}

/// A reader of lone pictures.
fn images() -> Result<std::sync::Arc<dyn isr_api::VideoReader>> {
    let config = serde_json::json!({ "sampling": { "rule": "uniform", "frames": 1 }, "min_frames": 1 });
    let config: FfmpegConfig = serde_json::from_value(config)?;
    config.build(&BuildContext::default()).map_err(|cause| anyhow!("{cause}"))
}

fn unusable(error: WebError) -> Error {
    Error::Config(error.to_string())
}
