//! The retrospector `fixed`: a control whose descriptions are independent of the video.

use std::sync::Arc;

use async_trait::async_trait;
use isr_api::{
    BuildContext, Cause, Component, ComponentError, FrozenPolicy, RetrospectionCase, Retrospector,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Constant description for every video: a control that separates the effect of having a description in the
/// judge's prompt from the effect of its content.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FixedRetrospectorConfig {
    /// Text of the description, ideally of the usual length and vocabulary. Default `nothing is known of this
    /// video.`
    pub text: String,
}

impl Default for FixedRetrospectorConfig {
    fn default() -> Self {
        Self { text: "nothing is known of this video.".to_owned() }
    }
}

impl Component for FixedRetrospectorConfig {
    type Built = Arc<dyn Retrospector>;

    fn validate(&self) -> Result<(), String> {
        match self.text.trim().is_empty() {
            true => Err("text is empty; a description says something".to_owned()),
            false => Ok(()),
        }
    }

    fn build(&self, _: &BuildContext) -> Result<Self::Built, Cause> {
        Ok(Arc::new(FixedRetrospector { text: self.text.trim().to_owned() }))
    }
}

isr_config::register!(
    Retrospector "fixed" => FixedRetrospectorConfig,
    example = "text = \"nothing is known of this video.\"\n"
);

/// Retrospector built by [`FixedRetrospectorConfig`].
#[derive(Debug)]
pub struct FixedRetrospector {
    text: String,
}

#[async_trait]
impl Retrospector for FixedRetrospector {
    async fn describe(&self, _: &RetrospectionCase, _: &FrozenPolicy) -> Result<String, ComponentError> {
        Ok(self.text.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_text_is_refused() {
        let empty = FixedRetrospectorConfig { text: " ".to_owned() };
        assert_eq!(empty.validate(), Err("text is empty; a description says something".to_owned()));
    }
}
