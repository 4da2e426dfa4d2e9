//! Judges.

use async_trait::async_trait;
use isr_api::{ComponentError, FrozenPolicy, Judge, JudgeCase, Verdict, Vote};
use isr_plugin::wire::{JudgeForm, Message, Packing, VerdictForm, VoteForm};

use crate::answers::Answers;
use crate::runner::Runner;

pub(crate) struct NativeJudge(pub(crate) Runner);

#[async_trait]
impl Judge for NativeJudge {
    async fn judge(&self, case: &JudgeCase, policy: &FrozenPolicy) -> Result<Verdict, ComponentError> {
        let mut packing = Packing::default();
        let form = JudgeForm {
            scene: packing.scene(&case.scene, false),
            instruction: case.instruction.clone(),
            context: case.context.clone(),
            first: case.first.clone(),
            second: case.second.clone(),
            seed: case.seed,
        };
        let answers = Answers::policy(self.0.name(), policy, &case.scene);
        let reply = self.0.call("judge", Message::new(&form, packing.blobs), answers).await?;
        let VerdictForm { p_first, votes, consistent } = self.0.read("judge", &reply)?;
        let vote = |VoteForm { first_shown_first, p_first }| Vote { first_shown_first, p_first: p_first.0 };
        Ok(Verdict { p_first: p_first.0, votes: votes.into_iter().map(vote).collect(), consistent })
    }
}
