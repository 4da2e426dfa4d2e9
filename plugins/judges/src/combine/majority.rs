//! The judge `majority`: several calls of one judge with different seeds.

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

/// Majority vote over several calls of a judge with different seeds: the probability is the share of calls
/// that prefer the first answer. A call that is inconsistent or a tie counts half for either
/// answer. For judges that sample, such as `verdict` with a temperature above 0.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MajorityConfig {
    /// Wrapped judge: a table of `type` and settings. Required.
    pub inner: Box<dyn JudgeConfig>,
    /// Number of calls, at least 1; an odd number avoids ties. Default 3.
    #[serde(default = "three")]
    pub calls: usize,
    /// Minimum share of calls on the winning side for a consistent verdict, in (0, 1]; 1 requires unanimity. A
    /// tie is never consistent. Default 0.5.
    #[serde(default = "half")]
    pub min_agreement: f64,
}

fn three() -> usize {
    3
}

fn half() -> f64 {
    0.5
}

impl Component for MajorityConfig {
    type Built = Arc<dyn Judge>;

    fn validate(&self) -> Result<(), String> {
        bounds::at_least_one("calls", self.calls)?;
        bounds::share("min_agreement", self.min_agreement)?;
        bounds::judge("inner", self.inner.as_ref())
    }

    fn build(&self, cx: &BuildContext) -> Result<Self::Built, Cause> {
        let (calls, min_agreement) = (self.calls, self.min_agreement);
        Ok(Arc::new(Majority { inner: self.inner.build(cx)?, calls, min_agreement }))
    }
}

isr_config::register!(Judge "majority" => MajorityConfig, example = "\
inner = { type = \"verdict\", reply = { sampling = { temperature = 0.7 } } }
calls = 5
min_agreement = 0.6
");

struct Majority {
    inner: Arc<dyn Judge>,
    calls: usize,
    min_agreement: f64,
}

/// Share of a call that counts for the first answer: 0, 0.5 or 1.
fn ballot(verdict: &Verdict) -> f64 {
    if verdict.consistent { verdict.choice().p_first() } else { Choice::Tie.p_first() }
}

#[async_trait]
impl Judge for Majority {
    async fn judge(&self, case: &JudgeCase, policy: &FrozenPolicy) -> Result<Verdict, ComponentError> {
        let cases: Vec<_> = (0..self.calls).map(|call| reseeded(case, "majority", call)).collect();
        let calls = cases.iter().map(|case| self.inner.judge(case, policy));
        let verdicts = try_join_all(calls).await?;
        let p_first = verdicts.iter().map(ballot).sum::<f64>() / self.calls as f64;
        let winning = p_first.max(1.0 - p_first);
        let decided = Choice::of_probability(p_first) != Choice::Tie;
        let consistent = decided && winning >= self.min_agreement;
        let votes = verdicts.into_iter().flat_map(|verdict| verdict.votes).collect();
        Ok(Verdict { p_first, votes, consistent })
    }
}
