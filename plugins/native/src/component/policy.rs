//! Policies: requests and batches of pairs cross as plain data.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use isr_api::{
    CheckpointKind, ComponentError, Fingerprint, GenerateRequest, Policy, PreferenceObjective, Response,
    ScoreRequest, StepReport, Target, TokenLogProbs, TrainExample, TrainStep,
};
use isr_plugin::wire::{
    self, ExampleForm, GenerateForm, Message, Packing, PromptedForm, ScoreForm, SnapshotForm, TargetForm,
    TextForm, TrainForm,
};

use crate::answers::Answers;
use crate::runner::Runner;

pub(crate) struct NativePolicy(pub(crate) Runner);

#[async_trait]
impl Policy for NativePolicy {
    fn fingerprint(&self) -> Fingerprint {
        let reply = self.0.call_now("fingerprint", &Message::default());
        match reply.and_then(|reply| self.0.read::<TextForm>("fingerprint", &reply)) {
            Ok(form) => wire::parse_fingerprint(&form.text),
            // The trait allows no error here. The next call tells what is wrong.
            Err(error) => {
                tracing::error!("{error}");
                Fingerprint::of(error.to_string())
            }
        }
    }

    async fn generate(&self, request: GenerateRequest) -> Result<Vec<Response>, ComponentError> {
        let GenerateRequest { prompt, sampling, n, seed } = request;
        let mut packing = Packing::default();
        let form = GenerateForm { prompt: packing.prompt(&prompt), sampling, n, seed };
        let reply = self.call("generate", Message::new(&form, packing.blobs)).await?;
        self.0.read("generate", &reply)
    }

    async fn score(&self, request: ScoreRequest) -> Result<Vec<TokenLogProbs>, ComponentError> {
        let ScoreRequest { prompt, continuations } = request;
        let mut packing = Packing::default();
        let form = ScoreForm { prompt: packing.prompt(&prompt), continuations };
        let reply = self.call("score", Message::new(&form, packing.blobs)).await?;
        self.0.read("score", &reply)
    }

    async fn train_step(
        &self,
        step: TrainStep,
        objective: Arc<dyn PreferenceObjective>,
    ) -> Result<StepReport, ComponentError> {
        let TrainStep { examples, step, learning_rate, max_grad_norm } = step;
        let mut packing = Packing::default();
        let target = |it: Target| TargetForm { continuation: it.continuation, reference: it.reference };
        let example = |it: TrainExample| ExampleForm {
            prompt: packing.prompt(&it.prompt),
            chosen: target(it.chosen),
            rejected: it.rejected.map(target),
            corrupted: it.corrupted.map(|own| PromptedForm {
                prompt: packing.prompt(&own.prompt),
                target: target(own.target),
            }),
            mismatched: it.mismatched.map(target),
        };
        let examples = examples.into_iter().map(example).collect();
        let form = TrainForm { examples, step, learning_rate, max_grad_norm };
        let request = Message::new(&form, packing.blobs);
        let answers = Answers::objective(self.0.name(), objective);
        let reply = self.0.call("train_step", request, answers).await?;
        self.0.read("train_step", &reply)
    }

    async fn save(&self, dir: &Path, what: CheckpointKind) -> Result<(), ComponentError> {
        self.call("save", snapshot(dir, what)).await.map(drop)
    }

    async fn load(&self, dir: &Path, what: CheckpointKind) -> Result<(), ComponentError> {
        self.call("load", snapshot(dir, what)).await.map(drop)
    }
}

impl NativePolicy {
    async fn call(
        &self,
        method: &'static str,
        request: Result<Message, wire::RemoteError>,
    ) -> Result<Message, ComponentError> {
        self.0.call(method, request, Answers::nobody(self.0.name())).await
    }
}

fn snapshot(dir: &Path, what: CheckpointKind) -> Result<Message, wire::RemoteError> {
    let form = SnapshotForm { dir: dir.to_owned(), training: what == CheckpointKind::TrainerState };
    Message::new(&form, Vec::new())
}
