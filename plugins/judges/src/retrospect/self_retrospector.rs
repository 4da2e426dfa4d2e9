//! The retrospector `self`: `c_t ~ pi_t(V, c_{t-1})` (arXiv 2406.11280).

use std::sync::Arc;

use async_trait::async_trait;
use isr_api::{
    BuildContext, Cause, Component, ComponentError, FinishReason, FrozenPolicy, Prompt, RetrospectionCase,
    Retrospector, Sampling, without_reasoning,
};
use minijinja::context;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use crate::error::JudgeError;
use crate::template::{Template, TemplateError, Variables};
use crate::{prompt, sampling};

const DEFAULT_PROMPT: &str = "\
{% if previous %}
Here is an earlier description of this video. It may be wrong in places, and it may miss things:
{{ previous }}

Watch the video again. Keep what is right, correct what is wrong, and add what is missing.
{% endif %}
Describe the video in detail: who and what is seen, what they look like, what they do and in which \
order, and where it happens. State only what the video shows.
";

const VARIABLES: Variables = Variables { required: &[], optional: &["previous"] };

/// Self-retrospection (ISR-DPO, arXiv 2406.11280): the policy describes the video given its own description of
/// the previous iteration. The paper publishes neither the prompt nor the sampling; the defaults are this
/// project's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SelfRetrospectorConfig {
    /// Prompt after the video: a Jinja template over `previous`, the description of the previous iteration
    /// (none in the first). Default: English instructions for a general video model.
    pub prompt: String,
    /// System prompt. Default none.
    pub system: Option<String>,
    /// Whether the prompt shows the previous description; false is the "no retrospection" ablation. Default
    /// true.
    pub use_previous: bool,
    /// Sampling of descriptions. Keys left out: temperature 0 (greedy), at most 256 tokens.
    #[serde(deserialize_with = "over_default_sampling")]
    pub sampling: Sampling,
}

impl Default for SelfRetrospectorConfig {
    fn default() -> Self {
        Self {
            prompt: DEFAULT_PROMPT.to_owned(),
            system: None,
            use_previous: true,
            sampling: Sampling::greedy(256),
        }
    }
}

fn over_default_sampling<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Sampling, D::Error> {
    sampling::over(&SelfRetrospectorConfig::default().sampling, deserializer)
}

impl SelfRetrospectorConfig {
    fn template(&self) -> Result<Template, TemplateError> {
        let template = Template::new("prompt", &self.prompt, &VARIABLES)?;
        if self.use_previous {
            template.must_use("previous", "use_previous")?;
        }
        Ok(template)
    }
}

impl Component for SelfRetrospectorConfig {
    type Built = Arc<dyn Retrospector>;

    fn validate(&self) -> Result<(), String> {
        let template = self.template().map_err(|error| error.to_string())?;
        for previous in [None, Some("a dog runs.")] {
            let text = template.render(context! { previous }).map_err(|error| error.to_string())?;
            if text.trim().is_empty() {
                return Err("prompt is empty; it must ask for a description".to_owned());
            }
        }
        self.sampling.validate().map_err(|reason| format!("sampling.{reason}"))
    }

    fn build(&self, _: &BuildContext) -> Result<Self::Built, Cause> {
        Ok(Arc::new(SelfRetrospector { template: self.template()?, config: self.clone() }))
    }
}

isr_config::register!(
    Retrospector "self" => SelfRetrospectorConfig,
    example = "use_previous = true\nsampling = { temperature = 0.0, max_new_tokens = 256 }\n"
);

/// Retrospector built by [`SelfRetrospectorConfig`].
#[derive(Debug)]
pub struct SelfRetrospector {
    config: SelfRetrospectorConfig,
    template: Template,
}

impl SelfRetrospector {
    fn prompt(&self, case: &RetrospectionCase) -> Result<Prompt, ComponentError> {
        let shown = case.previous.as_ref().filter(|_| self.config.use_previous);
        let previous = shown.map(|context| context.text.trim());
        let text = self.template.render(context! { previous }).map_err(ComponentError::bad_input)?;
        Ok(prompt::assemble(Some(&case.scene), self.config.system.as_deref(), text))
    }
}

#[async_trait]
impl Retrospector for SelfRetrospector {
    async fn describe(
        &self,
        case: &RetrospectionCase,
        policy: &FrozenPolicy,
    ) -> Result<String, ComponentError> {
        let prompt = self.prompt(case)?;
        let response = policy.answer(prompt, self.config.sampling.clone(), case.seed).await?;
        let description = without_reasoning(&response.text).unwrap_or_default().trim();
        if description.is_empty()
            && !(response.text.trim().is_empty() && response.reasoning.is_none())
            && response.finish_reason == FinishReason::Length
        {
            let limit = format!("max_new_tokens = {}", self.config.sampling.max_new_tokens);
            return Err(ComponentError::bad_input(JudgeError::Cut { limit }));
        }
        if description.is_empty() {
            return Err(ComponentError::bad_input(JudgeError::EmptyDescription {
                video: case.scene.key(),
            }));
        }
        Ok(description.to_owned())
    }
}
