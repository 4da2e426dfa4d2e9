//! The config of the judge `http`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use isr_api::{BuildContext, Cause, Component, Judge, Orders};
use reqwest::Url;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::backoff::Backoff;
use super::budget::{Budget, BudgetConfig, PricesConfig};
use super::cache::Cache;
use super::client::ChatClient;
use super::connection::{Connection, Secret};
use super::frames::FramesConfig;
use super::judge::HttpJudge;
use super::pace::Pace;
use super::request::{MaxTokensKey, OWN_KEYS, RequestStyle};
use crate::ask::{Comparison, ComparisonParts, DEFAULT_PROMPT, Take};
use crate::bounds;
use crate::error::JudgeError;

/// Generative pairwise judge behind an OpenAI-compatible server, asked as `verdict` asks the policy. The API
/// key comes from an environment variable. Sends text and, with `frames`, frames of the video.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HttpJudgeConfig {
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
    /// Prompt: a Jinja template over `question`, `first` and `second` (the answers in presentation order),
    /// `context` (the description; none without a retrospector) and `choices`. Default: that of `verdict`.
    #[serde(default = "default_prompt")]
    pub prompt: String,
    /// System prompt. Default none.
    #[serde(default)]
    pub system: Option<String>,
    /// Replies for the answer shown first and the answer shown second, matched in any case. Default `["A",
    /// "B"]`.
    #[serde(default = "default_choices")]
    pub choices: [String; 2],
    /// Regular expression for the choice in a reply: its first group, or the whole match. Default none: the
    /// reply begins with the choice, or with `the better answer is` and the choice.
    #[serde(default)]
    pub pattern: Option<String>,
    /// Match that counts: `first` or `last`. Default `first`.
    #[serde(default = "default_take")]
    pub take: Take,
    /// Presentation orders: `both`, or `given` for the sampled order only. Default `both`.
    #[serde(default = "default_orders")]
    pub orders: Orders,
    /// Whether the prompt shows the description. Default true.
    #[serde(default = "yes")]
    pub use_context: bool,
    /// Frames sent before the text, as PNG. Default none: text only.
    #[serde(default)]
    pub frames: Option<FramesConfig>,
    /// Sampling temperature, at least 0; `"omit"` sends none, for models that take no other than their own.
    /// Default 0.
    #[serde(default)]
    pub temperature: Temperature,
    /// Maximum length of a reply in tokens, that of its reasoning included; 0 omits the key. Default 32.
    #[serde(default = "default_max_tokens")]
    pub max_tokens: u32,
    /// Key of the request that holds `max_tokens`: `max_tokens` or `max_completion_tokens`. Default `max_tokens`.
    #[serde(default)]
    pub max_tokens_key: MaxTokensKey,
    /// Whether a `seed` derived from the case's is sent. Default true.
    #[serde(default = "yes")]
    pub send_seed: bool,
    /// Additional keys of the request body, such as `{ reasoning_effort = "low" }`. Must not contain
    /// secrets, as configs are stored. Default none.
    #[serde(default)]
    pub extra: Map<String, Value>,
    /// Maximum number of replies per presentation order, each with another seed, until one can be parsed; at
    /// least 1. After the last one the sample is quarantined. Default 2.
    #[serde(default = "default_attempts")]
    pub attempts: usize,
    /// Minimum temperature of the attempts after the first, more than 0; not sent if `temperature` is `"omit"`.
    /// Default 0.7.
    #[serde(default = "default_retry_temperature")]
    pub retry_temperature: f64,
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

/// Sampling temperature of requests.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "a number, or \"omit\"")]
pub enum Temperature {
    /// The temperature that is sent.
    Value(f64),
    /// None is sent.
    Omit(Omit),
}

/// The word of [`Temperature::Omit`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Omit {
    /// `"omit"`.
    Omit,
}

impl Default for Temperature {
    fn default() -> Self {
        Self::Value(0.0)
    }
}

impl Temperature {
    fn value(self) -> Option<f64> {
        match self {
            Self::Value(value) => Some(value),
            Self::Omit(_) => None,
        }
    }
}

fn default_prompt() -> String {
    DEFAULT_PROMPT.to_owned()
}

fn default_choices() -> [String; 2] {
    ["A".to_owned(), "B".to_owned()]
}

fn default_take() -> Take {
    Take::First
}

fn default_orders() -> Orders {
    Orders::Both
}

fn yes() -> bool {
    true
}

fn default_max_tokens() -> u32 {
    32
}

fn default_attempts() -> usize {
    2
}

fn default_retry_temperature() -> f64 {
    0.7
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

impl HttpJudgeConfig {
    fn comparison(&self) -> Result<Comparison, JudgeError> {
        Comparison::new(ComparisonParts {
            prompt: &self.prompt,
            choices: &self.choices,
            pattern: self.pattern.as_deref(),
            take: self.take,
            use_context: self.use_context,
        })
    }

    /// The endpoint. Error messages do not repeat the address, which may contain a secret.
    fn url(&self) -> Result<Url, String> {
        let url = format!("{}/chat/completions", self.base_url.trim_end_matches('/'));
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

    fn validate_request(&self) -> Result<(), String> {
        if self.model.trim().is_empty() {
            return Err("model is empty; name one that the server has".to_owned());
        }
        if let Some(key) = self.extra.keys().find(|key| OWN_KEYS.contains(&key.as_str())) {
            return Err(format!("extra.{key} is written by the judge itself; use its own setting"));
        }
        if let Some(frames) = &self.frames {
            bounds::at_least_one("frames.count", frames.count)?;
        }
        if self.max_tokens > 0
            && self.max_tokens_key == MaxTokensKey::MaxCompletionTokens
            && self.extra.contains_key("max_completion_tokens")
        {
            return Err(
                "extra.max_completion_tokens is written by the judge itself; use max_tokens".to_owned()
            );
        }
        bounds::not_negative("temperature", self.temperature.value().unwrap_or_default())?;
        bounds::at_least_one("attempts", self.attempts)?;
        bounds::positive("retry_temperature", self.retry_temperature)
    }

    fn validate_waits(&self) -> Result<(), String> {
        bounds::at_least_one("concurrency", self.concurrency)?;
        self.requests_per_minute
            .map_or(Ok(()), |rate| bounds::between("requests_per_minute", rate, 1e-3, 1e6))?;
        bounds::between("timeout_s", self.timeout_s, 1e-3, 86_400.0)?;
        bounds::between("backoff_s", self.backoff_s, 1e-3, 86_400.0)?;
        bounds::between("max_wait_s", self.max_wait_s, self.backoff_s, 86_400.0)
    }

    fn client(&self) -> Result<ChatClient, JudgeError> {
        let key = self.api_key_env.as_deref().map(Secret::from_env).transpose()?;
        let url = self.url().map_err(JudgeError::Setting)?;
        let seconds = Duration::from_secs_f64;
        Ok(ChatClient {
            connection: Connection::new(url, key, seconds(self.timeout_s), self.ca_file.as_deref())?,
            pace: Pace::new(self.concurrency, self.requests_per_minute),
            budget: Budget::new(&self.budget, &self.prices).map_err(JudgeError::Setting)?,
            backoff: Backoff { first: seconds(self.backoff_s), longest: seconds(self.max_wait_s) },
            retries: self.retries,
            cache: self.cache_dir.as_deref().map(Cache::new),
        })
    }
}

impl Component for HttpJudgeConfig {
    type Built = Arc<dyn Judge>;

    fn validate(&self) -> Result<(), String> {
        self.url()?;
        self.validate_key()?;
        self.validate_request()?;
        self.validate_waits()?;
        Budget::new(&self.budget, &self.prices)?;
        self.comparison().map(drop).map_err(|error| error.to_string())
    }

    fn build(&self, _: &BuildContext) -> Result<Self::Built, Cause> {
        Ok(Arc::new(HttpJudge {
            client: self.client()?,
            comparison: self.comparison()?,
            style: RequestStyle {
                model: self.model.clone(),
                system: self.system.clone(),
                max_tokens: self.max_tokens,
                max_tokens_key: self.max_tokens_key,
                send_seed: self.send_seed,
                extra: self.extra.clone(),
            },
            orders: self.orders,
            frames: self.frames.as_ref().map(|frames| frames.count),
            temperatures: [None, Some(self.retry_temperature)]
                .map(|least| self.temperature.value().map(|own| least.map_or(own, |least| own.max(least)))),
            attempts: self.attempts,
        }))
    }
}

isr_config::register!(Judge "http" => HttpJudgeConfig, example = "\
base_url = \"http://127.0.0.1:8000/v1\"
model = \"Qwen/Qwen2.5-VL-7B-Instruct\"
frames = { count = 4 }
requests_per_minute = 600
budget = { requests = 20000, money = 5.0 }
prices = { prompt = 0.15, completion = 0.6 }
");
