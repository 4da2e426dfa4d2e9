//! Settings that samplers on servers share.

use std::collections::BTreeMap;
use std::path::PathBuf;

use isr_chat::ServerConfig;
use isr_config::bounds;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Server that samples in the policy's place: its address, its command, the folder of its weights, and limits on requests.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(inline)]
pub struct ServerSettings {
    /// Root of the server. Default "http://127.0.0.1:8000".
    pub base_url: String,
    /// Name of the environment variable with the server's API key. Default none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_key_env: Option<String>,
    /// Command that serves at `base_url`, which is started before the first response and ends with the run; the example is one.
    /// `{checkpoint}` is the folder of the policy's weights; with LoRA, name the base model instead. Default none: the server
    /// is there.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// Environment variables of the command: `{ CUDA_VISIBLE_DEVICES = "1" }`. Default none.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Folder for the weights that the server reads, on a file system that both see, and of one run at a time; older weights in
    /// it are removed. Default: `isr-dpo/weights` in the user's cache.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weights_dir: Option<PathBuf>,
    /// Form in which frames are sent, losslessly: one `video` with its times, or `images` for models that take no video. Default
    /// `video`.
    pub media: Media,
    /// Maximum number of concurrent requests, at least 1. Default 256.
    pub concurrency: usize,
    /// Maximum seconds of a request, in [0.001, 86400]. Default 600.
    pub timeout_s: f64,
    /// Maximum seconds until the server answers after its start, and until it has read weights, in [0.001, 86400]. Default 1800.
    pub start_s: f64,
    /// Maximum number of repetitions of a request after the server was lost, each behind a repair: the command is started again,
    /// the weights are read again. Then the run stops and can be continued. Default 5.
    pub retries: usize,
}

/// Form of frames in a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Media {
    /// A video with the times of its frames.
    #[default]
    Video,
    /// Each frame as a picture.
    Images,
}

impl Default for ServerSettings {
    fn default() -> Self {
        Self {
            base_url: "http://127.0.0.1:8000".to_owned(),
            api_key_env: None,
            command: Vec::new(),
            env: BTreeMap::new(),
            weights_dir: None,
            media: Media::Video,
            concurrency: 256,
            timeout_s: 600.0,
            start_s: 1800.0,
            retries: 5,
        }
    }
}

impl ServerSettings {
    pub(crate) fn server(&self) -> ServerConfig {
        ServerConfig {
            api_key_env: self.api_key_env.clone(),
            timeout_s: self.timeout_s,
            ..ServerConfig::new(self.base_url.clone(), "")
        }
    }

    pub(crate) fn check(&self) -> Result<(), String> {
        self.server().validate_endpoint()?;
        bounds::at_least_one("concurrency", self.concurrency)?;
        bounds::between("start_s", self.start_s, 1e-3, 86_400.0)?;
        match self.command.first().is_some_and(String::is_empty) {
            true => Err("command begins with an empty text; name the program".to_owned()),
            false => Ok(()),
        }
    }
}
