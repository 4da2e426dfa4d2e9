//! [`ServerConfig`]: a server, and how it is asked.

use std::path::PathBuf;
use std::time::Duration;

use isr_config::bounds;
use reqwest::Url;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::backoff::Backoff;
use crate::budget::{Budget, BudgetConfig, PricesConfig};
use crate::cache::Cache;
use crate::client::ChatClient;
use crate::connection::{Connection, Secret};
use crate::endpoint::Endpoint;
use crate::error::ChatError;
use crate::pace::Pace;
use crate::request::{MaxTokensKey, OWN_KEYS, RequestStyle};
use crate::temperature::Temperature;

/// OpenAI-compatible server and the way it is asked: address, model, parameters of requests, rate limit, retries,
/// budget and cache.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ServerConfig {
    /// Address of the server, to which `/chat/completions` is appended: `https://api.openai.com/v1`. Must not
    /// contain a key or password. Required.
    pub base_url: String,
    /// Name of the model on the server. Required.
    pub model: String,
    /// Name of the environment variable with the API key, which is sent as a bearer token and never stored.
    /// Default none: no key is sent.
    #[serde(default)]
    pub api_key_env: Option<String>,
    /// PEM file of certificate authorities, trusted in addition to the system's, for servers with a private
    /// certificate. Default none.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// Sampling temperature, at least 0; `"omit"` sends none. Default none: what the published script sends, or 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<Temperature>,
    /// Maximum length of a reply in tokens, that of its reasoning included; 0 omits the key. Default 0.
    #[serde(default)]
    pub max_tokens: u32,
    /// Key of the request that holds `max_tokens`: `max_tokens` or `max_completion_tokens`. Default `max_tokens`.
    #[serde(default)]
    pub max_tokens_key: MaxTokensKey,
    /// Whether a `seed` is sent. Default false.
    #[serde(default)]
    pub send_seed: bool,
    /// Additional keys of the request body, such as `{ reasoning_effort = "low" }`. Must not contain
    /// secrets, as configs are stored. Default none.
    #[serde(default)]
    pub extra: Map<String, Value>,
    /// Maximum number of concurrent requests, at least 1. Default 8.
    #[serde(default = "default_concurrency")]
    pub concurrency: usize,
    /// Rate limit in requests per minute, in [0.001, 1e6], evenly spaced. Default none: no limit.
    #[serde(default)]
    pub requests_per_minute: Option<f64>,
    /// Time-out in seconds from sending a request to the end of its reply, in [0.001, 86400]. Default 60.
    #[serde(default = "default_timeout")]
    pub timeout_s: f64,
    /// Maximum number of retries after a transient failure: connection error, time-out, 408, 425, 429, 5xx,
    /// truncated or invalid reply. Then the run stops and can be continued. Default 5.
    #[serde(default = "default_retries")]
    pub retries: usize,
    /// Delay in seconds before the first retry, in [0.001, 86400]; doubled for each further one, with a seeded
    /// jitter down to a half. A server's `Retry-After` above 0 replaces it and delays all requests. Default 1.
    #[serde(default = "default_backoff")]
    pub backoff_s: f64,
    /// Maximum delay in seconds, at least `backoff_s`; a server that asks for more stops the run. Default 60.
    #[serde(default = "default_max_wait")]
    pub max_wait_s: f64,
    /// Limits on requests, tokens and money per process. Default: no limits.
    #[serde(default)]
    pub budget: BudgetConfig,
    /// Prices of tokens, for `budget.money`. Default: 0.
    #[serde(default)]
    pub prices: PricesConfig,
    /// Directory of the reply cache; processes may share it. Contains replies, no prompts and no keys. Default
    /// none: no cache.
    #[serde(default)]
    pub cache_dir: Option<PathBuf>,
}

fn default_concurrency() -> usize {
    8
}

fn default_timeout() -> f64 {
    60.0
}

fn default_retries() -> usize {
    5
}

fn default_backoff() -> f64 {
    1.0
}

fn default_max_wait() -> f64 {
    60.0
}

impl ServerConfig {
    /// Config of a server with default settings.
    pub fn new(base_url: impl Into<String>, model: impl Into<String>) -> Self {
        Self {
            base_url: base_url.into(),
            model: model.into(),
            api_key_env: None,
            ca_file: None,
            temperature: None,
            max_tokens: 0,
            max_tokens_key: MaxTokensKey::default(),
            send_seed: false,
            extra: Map::new(),
            concurrency: default_concurrency(),
            requests_per_minute: None,
            timeout_s: default_timeout(),
            retries: default_retries(),
            backoff_s: default_backoff(),
            max_wait_s: default_max_wait(),
            budget: BudgetConfig::default(),
            prices: PricesConfig::default(),
            cache_dir: None,
        }
    }

    /// Checks all settings. `role` is who asks, `judge` or `scorer`.
    ///
    /// # Errors
    /// A message that begins with the first key that is not valid.
    pub fn validate(&self, role: &str) -> Result<(), String> {
        self.url()?;
        self.validate_key()?;
        self.validate_request(role)?;
        self.validate_waits()?;
        Budget::new(&self.budget, &self.prices).map(drop)
    }

    /// The endpoint. Error messages do not repeat the address, which may contain a secret.
    fn url(&self) -> Result<Url, String> {
        self.url_of("/chat/completions")
    }

    fn url_of(&self, path: &str) -> Result<Url, String> {
        let url = format!("{}{path}", self.base_url.trim_end_matches('/'));
        let url = Url::parse(&url).map_err(|error| format!("base_url: {error}"))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err("base_url must begin with http:// or https://".to_owned());
        }
        if !url.username().is_empty() || url.password().is_some() || url.query().is_some() {
            let remedy = "put the key into an environment variable, and its name into api_key_env";
            return Err(format!("base_url has a user, password or query; {remedy}"));
        }
        Ok(url)
    }

    /// Refuses an API key in place of a variable's name, which would be stored with the config. The message
    /// does not repeat it.
    fn validate_key(&self) -> Result<(), String> {
        let is_name = |name: &String| {
            let mut letters = name.chars();
            letters.next().is_some_and(|first| first.is_ascii_uppercase() || first == '_')
                && letters.all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
        };
        if self.api_key_env.as_ref().is_none_or(is_name) {
            return Ok(());
        }
        Err("api_key_env must be the name of an environment variable (capitals, digits, _), not a key"
            .to_owned())
    }

    fn validate_request(&self, role: &str) -> Result<(), String> {
        if self.model.trim().is_empty() {
            return Err("model is empty; name one that the server has".to_owned());
        }
        if let Some(key) = self.extra.keys().find(|key| OWN_KEYS.contains(&key.as_str())) {
            return Err(format!("extra.{key} is written by the {role} itself; use its own setting"));
        }
        if self.max_tokens > 0
            && self.max_tokens_key == MaxTokensKey::MaxCompletionTokens
            && self.extra.contains_key("max_completion_tokens")
        {
            return Err(format!(
                "extra.max_completion_tokens is written by the {role} itself; use max_tokens"
            ));
        }
        let temperature = self.temperature.and_then(Temperature::value);
        bounds::not_negative("temperature", temperature.unwrap_or_default())
    }

    /// Checks address, key and waits, for a client that names its models itself.
    ///
    /// # Errors
    /// A message that begins with the first key that is not valid.
    pub fn validate_endpoint(&self) -> Result<(), String> {
        self.url_of("")?;
        self.validate_key()?;
        self.validate_waits()
    }

    fn validate_waits(&self) -> Result<(), String> {
        bounds::at_least_one("concurrency", self.concurrency)?;
        self.requests_per_minute
            .map_or(Ok(()), |rate| bounds::between("requests_per_minute", rate, 1e-3, 1e6))?;
        bounds::between("timeout_s", self.timeout_s, 1e-3, 86_400.0)?;
        bounds::between("backoff_s", self.backoff_s, 1e-3, 86_400.0)?;
        bounds::between("max_wait_s", self.max_wait_s, self.backoff_s, 86_400.0)
    }

    /// Parameters of the requests.
    pub fn style(&self, system: Option<String>) -> RequestStyle {
        RequestStyle {
            model: self.model.clone(),
            system,
            max_tokens: self.max_tokens,
            max_tokens_key: self.max_tokens_key,
            send_seed: self.send_seed,
            extra: self.extra.clone(),
        }
    }

    /// Builds a client of all paths of a server, whose `base_url` is its root. Uses address, key, authorities and time-out.
    ///
    /// # Errors
    /// As [`client`](Self::client).
    pub fn endpoint(&self) -> Result<Endpoint, ChatError> {
        let base = self.url_of("").map_err(ChatError::Setting)?;
        let connection = self.connection(base.clone())?;
        Ok(Endpoint::new(connection, base))
    }

    fn connection(&self, url: Url) -> Result<Connection, ChatError> {
        let key = self.api_key_env.as_deref().map(Secret::from_env).transpose()?;
        Connection::new(url, key, Duration::from_secs_f64(self.timeout_s), self.ca_file.as_deref())
    }

    /// Builds the client, which sends nothing yet. `role` is who asks, `judge` or `scorer`.
    ///
    /// # Errors
    /// [`ChatError`] for an invalid setting, a missing key, and a file of authorities that cannot be read.
    pub fn client(&self, role: &'static str) -> Result<ChatClient, ChatError> {
        let url = self.url().map_err(ChatError::Setting)?;
        let seconds = Duration::from_secs_f64;
        Ok(ChatClient {
            role,
            connection: self.connection(url)?,
            pace: Pace::new(self.concurrency, self.requests_per_minute),
            budget: Budget::new(&self.budget, &self.prices).map_err(ChatError::Setting)?,
            backoff: Backoff { first: seconds(self.backoff_s), longest: seconds(self.max_wait_s) },
            retries: self.retries,
            cache: self.cache_dir.as_deref().map(Cache::new),
        })
    }
}
