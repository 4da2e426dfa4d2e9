//! Judges.

use async_trait::async_trait;
use isr_api::{ComponentError, FrozenPolicy, Judge, JudgeCase, Verdict};
use isr_plugin::wire::{self, VerdictMessage};

use crate::answers::Answers;
use crate::runner::Runner;

/// A judge of a library.
pub(crate) struct NativeJudge(pub(crate) Runner);

#[async_trait]
impl Judge for NativeJudge {
    async fn judge(&self, case: &JudgeCase, policy: &FrozenPolicy) -> Result<Verdict, ComponentError> {
        let answers = Answers::policy(self.0.name(), policy, &case.scene);
        let reply = self.0.call("judge", wire::judge_message(case), answers).await?;
        let verdict: VerdictMessage = self.0.read("judge", &reply)?;
        Verdict::try_from(verdict).map_err(|error| self.0.failed("judge", error.into()))
    }
}
