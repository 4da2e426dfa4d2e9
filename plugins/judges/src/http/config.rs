//! The config of the judge `http`.

use std::path::PathBuf;
use std::sync::Arc;

use isr_api::{BuildContext, Cause, Component, Judge, Orders};
use isr_chat::{BudgetConfig, FramesConfig, MaxTokensKey, PricesConfig, ServerConfig, Temperature};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::judge::HttpJudge;
use crate::ask::{Comparison, ComparisonParts, DEFAULT_PROMPT, Take};
use crate::bounds;
use crate::error::JudgeError;

/// Who asks, in error messages.
const ROLE: &str = "judge";

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

    /// The server's part of the settings.
    fn server(&self) -> ServerConfig {
        ServerConfig {
            base_url: self.base_url.clone(),
            model: self.model.clone(),
            api_key_env: self.api_key_env.clone(),
            ca_file: self.ca_file.clone(),
            temperature: Some(self.temperature),
            max_tokens: self.max_tokens,
            max_tokens_key: self.max_tokens_key,
            send_seed: self.send_seed,
            extra: self.extra.clone(),
            concurrency: self.concurrency,
            requests_per_minute: self.requests_per_minute,
            timeout_s: self.timeout_s,
            retries: self.retries,
            backoff_s: self.backoff_s,
            max_wait_s: self.max_wait_s,
            budget: self.budget.clone(),
            prices: self.prices.clone(),
            cache_dir: self.cache_dir.clone(),
        }
    }
}

impl Component for HttpJudgeConfig {
    type Built = Arc<dyn Judge>;

    fn validate(&self) -> Result<(), String> {
        self.server().validate(ROLE)?;
        if let Some(frames) = &self.frames {
            bounds::at_least_one("frames.count", frames.count)?;
        }
        bounds::at_least_one("attempts", self.attempts)?;
        bounds::positive("retry_temperature", self.retry_temperature)?;
        self.comparison().map(drop).map_err(|error| error.to_string())
    }

    fn build(&self, _: &BuildContext) -> Result<Self::Built, Cause> {
        let server = self.server();
        Ok(Arc::new(HttpJudge {
            client: server.client(ROLE)?,
            comparison: self.comparison()?,
            style: server.style(self.system.clone()),
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
