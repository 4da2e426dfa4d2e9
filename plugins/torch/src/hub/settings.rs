//! Settings of the hub client.

use std::path::PathBuf;
use std::time::Duration;
use std::{env, fs};

/// Hub client: endpoint, credentials and cache.
#[derive(Clone)]
pub struct Hub {
    /// Base URL of the hub. Default `https://huggingface.co`.
    pub endpoint: String,
    /// Cache folder, an absolute path; `None` if no home folder is known.
    pub cache: Option<PathBuf>,
    /// Access token, sent to the hub only.
    pub token: Option<String>,
    /// Whether to use the cache alone, without network access.
    pub offline: bool,
    /// Whether to show downloads on stderr.
    pub progress: bool,
    /// Attempts in a row that bring nothing before a download fails; at least 1.
    pub attempts: u32,
    /// Pause behind the first attempt, doubled behind each further one up to half a minute. Default 0.5 s.
    pub pause: Duration,
}

impl Hub {
    /// Reads the settings from the environment, as `huggingface_hub` (1.1, `constants.py`) reads them.
    pub fn from_env() -> Self {
        let home = path("HF_HOME").or_else(|| {
            let user = path("XDG_CACHE_HOME").or_else(|| Some(env::home_dir()?.join(".cache")))?;
            Some(user.join("huggingface"))
        });
        let cache = path("HF_HUB_CACHE").or_else(|| Some(home.as_ref()?.join("hub")));
        let file = path("HF_TOKEN_PATH").or_else(|| Some(home.as_ref()?.join("token")));
        let saved = || text(&fs::read_to_string(file?).ok()?);
        Self {
            endpoint: variable("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".to_owned()),
            cache: cache.and_then(|cache| std::path::absolute(cache).ok()),
            token: variable("HF_TOKEN").or_else(saved),
            offline: variable("HF_HUB_OFFLINE").is_some_and(|it| is_on(&it)),
            progress: true,
            attempts: 5,
            pause: Duration::from_millis(500),
        }
    }
}

fn variable(name: &str) -> Option<String> {
    text(&env::var(name).ok()?)
}

fn path(name: &str) -> Option<PathBuf> {
    env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

fn text(value: &str) -> Option<String> {
    Some(value.trim().to_owned()).filter(|value| !value.is_empty())
}

fn is_on(value: &str) -> bool {
    ["1", "on", "yes", "true"].contains(&value.to_lowercase().as_str())
}
