//! The judge `ensemble`: the weighted mean of several judges.

use std::sync::Arc;

use async_trait::async_trait;
use futures::future::try_join_all;
use isr_api::{
    BuildContext, Cause, Choice, Component, ComponentError, FrozenPolicy, Judge, JudgeCase, Verdict,
};
use isr_config::registry::JudgeConfig;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::reseeded;
use crate::bounds;

/// Weighted mean of several judges' probabilities. A case that one member refuses has no verdict, so that all
/// verdicts of a run are means over the same judges.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EnsembleConfig {
    /// Members, at least one with a weight above 0: `{ weight = 1.0, judge = { type = ... } }`. Required.
    pub members: Vec<EnsembleMember>,
    /// Whether a consistent verdict requires that all members agree and are consistent themselves. If false,
    /// every verdict except a tie is consistent. Default true.
    #[serde(default = "yes")]
    pub unanimous: bool,
}

/// A member of an [`EnsembleConfig`].
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EnsembleMember {
    /// Weight in the mean, at least 0; a member of weight 0 is not called. Default 1.
    #[serde(default = "one")]
    pub weight: f64,
    /// Judge: a table of `type` and settings. Required.
    pub judge: Box<dyn JudgeConfig>,
}

fn yes() -> bool {
    true
}

fn one() -> f64 {
    1.0
}

impl Component for EnsembleConfig {
    type Built = Arc<dyn Judge>;

    fn validate(&self) -> Result<(), String> {
        for (index, EnsembleMember { weight, judge }) in self.members.iter().enumerate() {
            bounds::not_negative(&format!("members[{index}].weight"), *weight)?;
            bounds::judge(&format!("members[{index}].judge"), judge.as_ref())?;
        }
        if self.members.iter().any(|member| member.weight > 0.0) {
            return Ok(());
        }
        Err("members have no weight above 0; name at least one judge".to_owned())
    }

    fn build(&self, cx: &BuildContext) -> Result<Self::Built, Cause> {
        let called = self.members.iter().filter(|member| member.weight > 0.0);
        let members = called.map(|member| Ok((member.weight, member.judge.build(cx)?)));
        let members = members.collect::<Result<_, Cause>>()?;
        Ok(Arc::new(Ensemble { members, unanimous: self.unanimous }))
    }
}

isr_config::register!(Judge "ensemble" => EnsembleConfig, example = "\
unanimous = true
members = [
    { weight = 2.0, judge = { type = \"pointwise\" } },
    { weight = 1.0, judge = { type = \"length\", prefer = \"shorter\", slope = 0.05 } },
]
");

struct Ensemble {
    members: Vec<(f64, Arc<dyn Judge>)>,
    unanimous: bool,
}

#[async_trait]
impl Judge for Ensemble {
    async fn judge(&self, case: &JudgeCase, policy: &FrozenPolicy) -> Result<Verdict, ComponentError> {
        let cases: Vec<_> =
            (0..self.members.len()).map(|index| reseeded(case, "ensemble", index)).collect();
        let calls = self.members.iter().zip(&cases).map(|((_, judge), case)| judge.judge(case, policy));
        let verdicts = try_join_all(calls).await?;
        let weights = self.members.iter().map(|(weight, _)| weight);
        let sum: f64 =
            weights.clone().zip(&verdicts).map(|(weight, verdict)| weight * verdict.p_first).sum();
        // Rounding can push a mean of ones above one.
        let p_first = (sum / weights.sum::<f64>()).clamp(0.0, 1.0);
        let each = verdicts.iter().all(|verdict| verdict.consistent);
        let together = Choice::consistent(verdicts.iter().map(Verdict::choice));
        let decided = Choice::of_probability(p_first) != Choice::Tie;
        let consistent = if self.unanimous { each && together } else { decided };
        let votes = verdicts.into_iter().flat_map(|verdict| verdict.votes).collect();
        Ok(Verdict { p_first, votes, consistent })
    }
}
