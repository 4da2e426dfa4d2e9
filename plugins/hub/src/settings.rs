//! Where the hub and its cache are.

use std::env;
use std::fs;
use std::path::PathBuf;

/// Which hub is asked, as whom, and where its files are kept.
#[derive(Clone)]
pub struct Hub {
    /// The hub's address. Default `https://huggingface.co`.
    pub endpoint: String,
    /// Folder of the cache, an absolute path; `None` where there is no home folder to put it in.
    pub cache: Option<PathBuf>,
    /// Who asks.
    pub token: Option<String>,
    /// Whether only the cache is used.
    pub offline: bool,
    /// Whether downloads are shown on stderr.
    pub progress: bool,
    /// Attempts at one file, while the hub answers at all.
    pub attempts: u32,
}

impl Hub {
    /// The settings of the environment, as `huggingface_hub` (1.1, `constants.py`) reads them.
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
