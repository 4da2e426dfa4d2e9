//! A training step that the process takes as a whole: it asks for the objective's values while it works.

use isr_api::messages::{TrainCall, TrainMessage, TrainedMessage};
use isr_api::{ComponentError, PreferenceObjective, StepReport, TrainStep};

use super::RemotePolicy;
use crate::component::params;
use crate::keys;
use crate::questions::Subject;
use crate::session::{CallOptions, Sending};

impl RemotePolicy {
    /// Takes a step. Where it fails, the weights are unknown until a checkpoint is loaded.
    pub(super) async fn whole_step(
        &self,
        step: TrainStep,
        objective: &dyn PreferenceObjective,
    ) -> Result<StepReport, ComponentError> {
        const CALL: &str = "train_step";
        self.check_begin(&step)?;
        let mut lease = self.exchange.lease();
        let message = TrainMessage::new(step, |prompt| lease.prompt(prompt))?;
        let message = params(&TrainCall::new(message, &objective.requirements()))?;
        let subject = Some(Subject::Objective(objective));
        let options = CallOptions { subject, sending: Sending::Changing, ..CallOptions::default() };
        let change = self.weights.begin();
        let value = self.session.call_with(CALL, message, options).await;
        let value = value.map_err(|error| self.given_up(CALL, &error))?;
        let read = || {
            let told: TrainedMessage = keys::read(value)?;
            let (report, fingerprint) = told.into_report();
            change.done(&self.identity, fingerprint)?;
            Ok(report)
        };
        read().map_err(|reason| self.unusable(CALL, reason))
    }
}
