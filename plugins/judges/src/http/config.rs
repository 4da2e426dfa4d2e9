//! What a config says of a server.

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
use super::request::{OWN_KEYS, RequestStyle};
use crate::ask::{Comparison, ComparisonParts, DEFAULT_PROMPT, Take};
use crate::bounds;
use crate::error::JudgeError;

/// A model behind an OpenAI-compatible server says which answer is better, as the judge `verdict` asks the
/// policy. The key comes from an environment variable. Sends text, and frames of the video on request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HttpJudgeConfig {
    /// The server's address, to which `/chat/completions` is added: `https://api.openai.com/v1`. No key or
    /// password in it. Required.
    pub base_url: String,
    /// The model's name there. Required.
    pub model: String,
    /// Name of the environment variable that holds the key; it is sent as a bearer token, and stored
    /// nowhere. Default none: no key is sent.
    #[serde(default)]
    pub api_key_env: Option<String>,
    /// PEM file of certificate authorities that are trusted beside the system's, for a server with a
    /// certificate of one's own. Default none.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// What the model is asked: a Jinja template over `question`, `first` and `second` (the answers as they
    /// are shown), `context` (the description; none without a retrospector) and `choices`. Default: that of
    /// `verdict`.
    #[serde(default = "default_prompt")]
    pub prompt: String,
    /// Standing instructions. Default none.
    #[serde(default)]
    pub system: Option<String>,
    /// The replies that stand for the answer shown first and the answer shown second, in any case. Default
    /// `["A", "B"]`.
    #[serde(default = "default_choices")]
    pub choices: [String; 2],
    /// Regular expression that finds the choice in a reply: its first group, or all of it. Default none: the
    /// reply begins with the choice, or with `the better answer is` and the choice.
    #[serde(default)]
    pub pattern: Option<String>,
    /// Which match counts: `first` or `last`. Default `first`.
    #[serde(default = "default_take")]
    pub take: Take,
    /// Which orders of showing are asked: `both` or `given`. Default `both`.
    #[serde(default = "default_orders")]
    pub orders: Orders,
    /// Whether the description is shown. Default true.
    #[serde(default = "yes")]
    pub use_context: bool,
    /// Frames that are shown before the text, as PNG. Default none: text only.
    #[serde(default)]
    pub frames: Option<FramesConfig>,
    /// Sampling temperature, at least 0. Default 0.
    #[serde(default)]
    pub temperature: f64,
    /// Longest reply in tokens, sent as `max_tokens`; 0 sends none. Default 32.
    #[serde(default = "default_max_tokens")]
    pub max_tokens: u32,
    /// Whether a `seed` from the case is sent. Default true.
    #[serde(default = "yes")]
    pub send_seed: bool,
    /// Further keys of the request, as the server names them: `{ max_completion_tokens = 500 }`. No secrets:
    /// configs are stored. Default none.
    #[serde(default)]
    pub extra: Map<String, Value>,
    /// How often a case is asked in one order of showing, each time with another seed, until a reply can be
    /// read; at least 1. Then the sample is quarantined. Default 2.
    #[serde(default = "default_attempts")]
    pub attempts: usize,
    /// Temperature of the attempts after the first, more than 0. Default 0.7.
    #[serde(default = "default_retry_temperature")]
    pub retry_temperature: f64,
    /// Requests under way at once, at least 1. Default 8.
    #[serde(default = "default_concurrency")]
    pub concurrency: usize,
    /// Requests a minute at most, more than 0, evenly spaced. Default none: no limit.
    #[serde(default)]
    pub requests_per_minute: Option<f64>,
    /// Seconds from sending a request to the end of its reply, more than 0. Default 60.
    #[serde(default = "default_timeout")]
    pub timeout_s: f64,
    /// How often a request is sent again after a failure that may pass: no connection, time-out, 408, 425,
    /// 429, 5xx, a torn or senseless reply. Then the run stops, and can be continued. Default 5.
    #[serde(default = "default_retries")]
    pub retries: usize,
    /// Seconds before the first retry, more than 0; doubled for each further one, with a seeded jitter down
    /// to a half. A server's `Retry-After` above 0 takes its place, and holds all requests back. Default 1.
    #[serde(default = "default_backoff")]
    pub backoff_s: f64,
    /// Longest wait in seconds, at least `backoff_s`; a server that asks for more stops the run. Default 60.
    #[serde(default = "default_max_wait")]
    pub max_wait_s: f64,
    /// What may be spent. Default: no limits.
    #[serde(default)]
    pub budget: BudgetConfig,
    /// What tokens cost, for `budget.money`. Default: nothing.
    #[serde(default)]
    pub prices: PricesConfig,
    /// Directory in which replies are kept, and looked up before a server is asked; processes may share it.
    /// Holds replies, no questions and no keys. Default none: no cache.
    #[serde(default)]
    pub cache_dir: Option<PathBuf>,
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

    /// Where requests go. Says nothing of a bad address but what is wrong with it: it may hold a secret.
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

    /// A key in the place of its variable's name would be stored with the config; it is not repeated here.
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
        bounds::not_negative("temperature", self.temperature)?;
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
                send_seed: self.send_seed,
                extra: self.extra.clone(),
            },
            orders: self.orders,
            frames: self.frames.as_ref().map(|frames| frames.count),
            temperatures: [self.temperature, self.temperature.max(self.retry_temperature)],
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
