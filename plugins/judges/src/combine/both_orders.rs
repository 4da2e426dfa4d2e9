//! The judge `both_orders`: removes the position bias of any judge.

use std::sync::Arc;

use async_trait::async_trait;
use futures::future::try_join;
use isr_api::{
    BuildContext, Cause, Component, ComponentError, FrozenPolicy, Judge, JudgeCase, Verdict, Vote,
};
use isr_config::registry::JudgeConfig;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::bounds;

/// Calls a judge on the answers and on the swapped answers, and takes the mean. The verdict is inconsistent if
/// the two calls disagree or one of them is inconsistent.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BothOrdersConfig {
    /// Wrapped judge: a table of `type` and settings. Required.
    pub inner: Box<dyn JudgeConfig>,
}

impl Component for BothOrdersConfig {
    type Built = Arc<dyn Judge>;

    fn validate(&self) -> Result<(), String> {
        bounds::judge("inner", self.inner.as_ref())
    }

    fn build(&self, cx: &BuildContext) -> Result<Self::Built, Cause> {
        Ok(Arc::new(BothOrders { inner: self.inner.build(cx)? }))
    }
}

isr_config::register!(
    Judge "both_orders" => BothOrdersConfig,
    example = "inner = { type = \"verdict\", orders = \"given\" }\n"
);

struct BothOrders {
    inner: Arc<dyn Judge>,
}

#[async_trait]
impl Judge for BothOrders {
    async fn judge(&self, case: &JudgeCase, policy: &FrozenPolicy) -> Result<Verdict, ComponentError> {
        let swapped = case.swapped();
        // Concurrently, so that an engine can batch both on one prefix.
        let calls = try_join(self.inner.judge(case, policy), self.inner.judge(&swapped, policy));
        let (given, turned) = calls.await?;
        let turned = turned.mirrored();
        let certain = given.consistent && turned.consistent;
        let vote =
            |first_shown_first, verdict: Verdict| Vote { first_shown_first, p_first: verdict.p_first };
        let mut verdict = Verdict::from_votes(vec![vote(true, given), vote(false, turned)]);
        verdict.consistent &= certain;
        Ok(verdict)
    }
}
