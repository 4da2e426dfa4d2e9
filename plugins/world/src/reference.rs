//! The judge `reference`: an oracle that reads the ground truth.
//!
//! It is an upper bound for judges that have to look at the video. It deliberately breaks the rule that training
//! reads no ground truth: its config must set `oracle = true`, by which the loop marks every record of its
//! verdicts ([`isr_config::is_oracle`]).

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use isr_api::{
    BuildContext, Cause, Component, ComponentError, FrozenPolicy, Judge, JudgeCase, Verdict, video_key,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::clip::Split;
use crate::config::WorldConfig;
use crate::error::WorldError;
use crate::evaluator::{WorldEvaluator, WorldEvaluatorConfig};
use crate::question::Truth;
use crate::samples::samples;

/// Oracle judge that prefers the answer that is better by the synthetic world's facts, an upper bound for
/// judges. Requires data `world`; equally good answers get a probability of exactly one half. All verdicts,
/// pairs and summaries of a run are marked as an oracle's.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ReferenceJudgeConfig {
    /// Acknowledgement, must be true: training on these verdicts uses the ground truth. Default false.
    pub oracle: bool,
}

impl Component for ReferenceJudgeConfig {
    type Built = Arc<dyn Judge>;

    fn validate(&self) -> Result<(), String> {
        match self.oracle {
            true => Ok(()),
            false => Err("oracle is false; it must be true: this judge knows what is true".to_owned()),
        }
    }

    fn build(&self, cx: &BuildContext) -> Result<Self::Built, Cause> {
        self.validate()?;
        let world = world_of(&cx.config)?;
        let evaluator = WorldEvaluator::new(WorldEvaluatorConfig::default());
        Ok(Arc::new(ReferenceJudge { truths: truths(&world)?, evaluator }))
    }
}

isr_config::register!(Judge "reference" => ReferenceJudgeConfig, example = "oracle = true\n");

/// World of the run's samples, from the section `data`.
pub(crate) fn world_of(settings: &Value) -> Result<WorldConfig, Cause> {
    let data = settings.get("data").cloned().unwrap_or_default();
    match data.get("type").and_then(Value::as_str) {
        Some("world") => {}
        other => {
            let other = other.unwrap_or("none");
            return Err(format!("it knows the facts of data `world` alone, and `data` is {other}").into());
        }
    }
    let Value::Object(mut keys) = data else { return Err("`data` is no table".into()) };
    keys.remove("type");
    let config: WorldConfig = serde_json::from_value(keys.into())?;
    config.check().map_err(WorldError::Config)?;
    Ok(config)
}

/// Ground truth by video and instruction.
pub(crate) type Truths = HashMap<(String, String), Truth>;

pub(crate) fn truths(world: &WorldConfig) -> Result<Truths, serde_json::Error> {
    let labelled = samples(world, Split::Training).into_iter();
    let truth = |labelled: isr_api::LabelledSample| {
        let key = (video_key(&labelled.sample.video), labelled.sample.instruction);
        Ok((key, Truth::deserialize(&labelled.facts)?))
    };
    labelled.map(truth).collect()
}

struct ReferenceJudge {
    truths: Truths,
    evaluator: WorldEvaluator,
}

#[async_trait]
impl Judge for ReferenceJudge {
    async fn judge(&self, case: &JudgeCase, _: &FrozenPolicy) -> Result<Verdict, ComponentError> {
        let key = (case.scene.key(), case.instruction.clone());
        let Some(truth) = self.truths.get(&key) else {
            let (video, instruction) = key;
            return Err(ComponentError::bad_input(format!(
                "the facts of the world say nothing of `{instruction}` about {video}"
            )));
        };
        let quality = |text: &str| self.evaluator.assess_answer(truth, text).quality;
        let (first, second) = (quality(&case.first.text), quality(&case.second.text));
        let p_first = match first.total_cmp(&second) {
            std::cmp::Ordering::Greater => 1.0,
            std::cmp::Ordering::Equal => 0.5,
            std::cmp::Ordering::Less => 0.0,
        };
        Ok(Verdict { p_first, votes: Vec::new(), consistent: true })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;

    fn context() -> BuildContext {
        BuildContext { config: json!({ "data": { "type": "world", "training_clips": 5 } }) }
    }

    async fn judged(
        sample: &isr_api::Sample,
        first: &str,
        second: &str,
    ) -> Result<Verdict, ComponentError> {
        let judge = ReferenceJudgeConfig { oracle: true }.build(&context()).unwrap();
        let mut case = isr_testing::fixtures::case(first, second);
        case.scene.video = sample.video.clone();
        case.instruction = sample.instruction.clone();
        // No reply and no score: an oracle must not ask the policy.
        let policy = Arc::new(isr_testing::ScriptedPolicy::default());
        judge.judge(&case, &policy.frozen()).await
    }

    #[tokio::test]
    async fn the_right_answer_wins_in_every_place_and_for_every_question() {
        let world = WorldConfig { training_clips: 5, ..WorldConfig::default() };
        for labelled in samples(&world, Split::Training) {
            let (right, wrong) = (labelled.reference.as_str(), "the pole sings.");
            assert_eq!(judged(&labelled.sample, right, wrong).await.unwrap().p_first, 1.0);
            assert_eq!(judged(&labelled.sample, wrong, right).await.unwrap().p_first, 0.0);
            assert_eq!(judged(&labelled.sample, right, right).await.unwrap().p_first, 0.5);
        }
    }

    #[tokio::test]
    async fn it_keeps_the_contract_of_judges() {
        let world = WorldConfig { training_clips: 5, ..WorldConfig::default() };
        let sample = samples(&world, Split::Training).remove(0).sample;
        let mut cases = isr_testing::fixtures::cases();
        for case in &mut cases {
            case.scene.video = sample.video.clone();
            case.instruction = sample.instruction.clone();
        }
        let rules = isr_testing::JudgeRules { cases, least_verdicts: 1.0, ..Default::default() };
        let judge = ReferenceJudgeConfig { oracle: true }.build(&context()).unwrap();
        assert_eq!(isr_testing::judge(judge, &rules).await, []);
    }

    #[tokio::test]
    async fn what_the_world_knows_nothing_of_is_not_judged() {
        let world = WorldConfig { training_clips: 5, ..WorldConfig::default() };
        let mut sample = samples(&world, Split::Training).remove(0).sample;
        sample.instruction = "who is it?".to_owned();
        let error = judged(&sample, "a", "b").await.unwrap_err();
        assert!(matches!(error, ComponentError::BadInput(_)) && error.to_string().contains("`who is it?`"));
    }

    #[test]
    fn it_must_be_called_an_oracle_and_have_a_world() {
        let refused = ReferenceJudgeConfig::default();
        assert!(refused.validate().unwrap_err().starts_with("oracle is false; it must be true"));
        assert!(refused.build(&context()).is_err());
        let oracle = ReferenceJudgeConfig { oracle: true };
        let error = |data: Value| {
            let cx = BuildContext { config: json!({ "data": data }) };
            oracle.build(&cx).err().unwrap().to_string()
        };
        assert!(error(json!({ "type": "jsonl" })).ends_with("and `data` is jsonl"));
        assert!(error(json!({ "type": "world", "size": 33 })).contains("size is 33"));
        let config: Box<dyn isr_config::registry::JudgeConfig> =
            serde_json::from_value(json!({ "type": "reference", "oracle": true })).unwrap();
        assert!(isr_config::is_oracle(config.as_ref()));
    }
}
