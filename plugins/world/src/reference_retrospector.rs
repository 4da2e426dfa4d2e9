//! The retrospector `reference`: an oracle that knows the ground truth.
//!
//! It bounds what descriptions can be worth, and how much a true predecessor helps to write one. Its config must set
//! `oracle = true`, by which every verdict of the run is marked ([`isr_config::is_oracle`]).

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use isr_api::{
    BuildContext, Cause, Component, ComponentError, FrozenPolicy, RetrospectionCase, Retrospector,
    VisualContext,
};
use rand::SeedableRng;
use rand_chacha::ChaCha12Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::claim::text;
use crate::facts::Facts;
use crate::mistakes::Narrator;
use crate::reference::{truths, world_of};

/// Oracle retrospector that describes a video by the synthetic world's facts, with errors at stated rates. Without
/// `inner` its description is the judge's context, an upper bound for contexts and a dose of their errors. With
/// `inner` it is the previous description that another retrospector sees, in all iterations. Requires data `world`;
/// all verdicts, pairs and summaries of a run are marked as an oracle's.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ReferenceRetrospectorConfig {
    /// Acknowledgement, must be true: training on verdicts that read these descriptions uses the ground truth. Default
    /// false.
    pub oracle: bool,
    /// Share of the description's claims that are false, 0 to 1. Default 0.
    pub noise: f64,
    /// Share of the facts that are left out, 0 to 1. Default 0.
    pub omission: f64,
    /// Retrospector that sees the description as its previous one. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inner: Option<Box<dyn isr_config::registry::RetrospectorConfig>>,
}

impl Component for ReferenceRetrospectorConfig {
    type Built = Arc<dyn Retrospector>;

    fn validate(&self) -> Result<(), String> {
        if !self.oracle {
            return Err("oracle is false; it must be true: this retrospector knows what is true".to_owned());
        }
        let shares = [("noise", self.noise), ("omission", self.omission)];
        if let Some((name, value)) = shares.iter().find(|(_, value)| !(0.0..=1.0).contains(value)) {
            return Err(format!("{name} is {value}; it is a share, 0 to 1"));
        }
        self.inner
            .as_ref()
            .map_or(Ok(()), |inner| inner.validate().map_err(|reason| format!("inner.{reason}")))
    }

    fn build(&self, cx: &BuildContext) -> Result<Self::Built, Cause> {
        self.validate()?;
        let world = world_of(&cx.config)?;
        let facts = truths(&world)?.into_iter().map(|((video, _), truth)| (video, truth.clip)).collect();
        let inner = self.inner.as_ref().map(|inner| inner.build(cx)).transpose()?;
        let (noise, omission, max_objects) = (self.noise, self.omission, world.max_objects);
        Ok(Arc::new(ReferenceRetrospector { facts, inner, noise, omission, max_objects }))
    }
}

isr_config::register!(Retrospector "reference" => ReferenceRetrospectorConfig, example = "oracle = true\nnoise = 0.1\n");

struct ReferenceRetrospector {
    /// By video.
    facts: HashMap<String, Facts>,
    inner: Option<Arc<dyn Retrospector>>,
    noise: f64,
    omission: f64,
    max_objects: u32,
}

#[async_trait]
impl Retrospector for ReferenceRetrospector {
    async fn describe(
        &self,
        case: &RetrospectionCase,
        policy: &FrozenPolicy,
    ) -> Result<String, ComponentError> {
        let video = case.scene.key();
        let Some(facts) = self.facts.get(&video) else {
            return Err(ComponentError::bad_input(format!(
                "the facts of the world say nothing of {video}"
            )));
        };
        let narrator = Narrator { facts, max_objects: self.max_objects };
        let mut rng = ChaCha12Rng::seed_from_u64(case.seed);
        let description = text(&narrator.description(&mut rng, self.noise, self.omission));
        let Some(inner) = &self.inner else { return Ok(description) };
        let (iteration, parent) =
            case.previous.as_ref().map_or((0, None), |previous| (previous.iteration, previous.parent));
        let previous = VisualContext { video, iteration, parent, parent_of: None, text: description };
        inner.describe(&RetrospectionCase { previous: Some(previous), ..case.clone() }, policy).await
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::clip::Split;
    use crate::config::WorldConfig;
    use crate::question::Truth;
    use crate::reading::Reading;
    use crate::samples::samples;

    fn built(config: ReferenceRetrospectorConfig) -> Arc<dyn Retrospector> {
        let data = json!({ "data": { "type": "world", "training_clips": 200 } });
        config.build(&BuildContext { config: data }).unwrap()
    }

    fn cases() -> Vec<(RetrospectionCase, Facts)> {
        let world = WorldConfig { training_clips: 200, questions_per_clip: 1, ..WorldConfig::default() };
        let case = |labelled: isr_api::LabelledSample| {
            let mut scene = isr_testing::fixtures::case("a", "b").scene;
            scene.video = labelled.sample.video;
            let facts = Truth::deserialize(&labelled.facts).unwrap().clip;
            (RetrospectionCase { scene, previous: None, seed: 7 }, facts)
        };
        samples(&world, Split::Training).into_iter().map(case).collect()
    }

    #[tokio::test]
    async fn its_description_is_as_true_as_asked() {
        // No reply: without an inner retrospector the policy is not asked.
        let policy = Arc::new(isr_testing::ScriptedPolicy::default()).frozen();
        for (noise, expected) in [(0.0, 1.0), (0.3, 0.7)] {
            let oracle = built(ReferenceRetrospectorConfig { oracle: true, noise, ..Default::default() });
            let mut precision = 0.0;
            for (index, (mut case, facts)) in cases().into_iter().enumerate() {
                case.seed = index as u64;
                let told = oracle.describe(&case, &policy).await.unwrap();
                assert_eq!(told, oracle.describe(&case, &policy).await.unwrap());
                precision += Reading::of(&told).precision(&facts).unwrap() / 200.0;
            }
            assert!((precision - expected).abs() < 0.04, "{noise}: {precision}");
        }
    }

    #[tokio::test]
    async fn an_inner_retrospector_sees_the_truth_as_the_previous_description() {
        struct Echo;
        #[async_trait]
        impl Retrospector for Echo {
            async fn describe(
                &self,
                case: &RetrospectionCase,
                _: &FrozenPolicy,
            ) -> Result<String, ComponentError> {
                Ok(case.previous.as_ref().map_or_else(String::new, |previous| previous.text.clone()))
            }
        }
        let policy = Arc::new(isr_testing::ScriptedPolicy::default()).frozen();
        let (case, facts) = cases().remove(0);
        let oracle = ReferenceRetrospector {
            facts: HashMap::from([(case.scene.key(), facts.clone())]),
            inner: Some(Arc::new(Echo)),
            noise: 0.0,
            omission: 0.0,
            max_objects: 2,
        };
        assert_eq!(oracle.describe(&case, &policy).await.unwrap(), text(&facts.claims()));
    }

    #[tokio::test]
    async fn an_unknown_video_is_bad_input_and_shares_are_checked() {
        let policy = Arc::new(isr_testing::ScriptedPolicy::default()).frozen();
        let oracle = built(ReferenceRetrospectorConfig { oracle: true, ..Default::default() });
        let (mut case, _) = cases().remove(0);
        case.scene.video = "other.mp4".into();
        let error = oracle.describe(&case, &policy).await.unwrap_err();
        assert!(matches!(error, ComponentError::BadInput(_)), "{error}");
        let config = ReferenceRetrospectorConfig::default();
        assert!(config.validate().unwrap_err().starts_with("oracle is false; it must be true"));
        let config = ReferenceRetrospectorConfig { oracle: true, noise: 1.5, ..Default::default() };
        assert_eq!(config.validate().unwrap_err(), "noise is 1.5; it is a share, 0 to 1");
    }
}
