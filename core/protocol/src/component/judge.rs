//! A judge in a process.

use async_trait::async_trait;
use isr_api::{ComponentError, FrozenPolicy, Judge, JudgeCase, Verdict};

use super::{call_error, unusable};
use crate::form::{self, Asked};
use crate::session::Session;

/// A [`Judge`] on a session whose component is one.
pub struct RemoteJudge {
    name: String,
    session: Session,
}

impl RemoteJudge {
    /// Judges through a session; `name` stands in errors.
    pub fn new(name: &str, session: Session) -> Self {
        Self { name: name.to_owned(), session }
    }
}

#[async_trait]
impl Judge for RemoteJudge {
    async fn judge(&self, case: &JudgeCase, policy: &FrozenPolicy) -> Result<Verdict, ComponentError> {
        let asked = Asked { scene: &case.scene, policy };
        let value = self.session.call("judge", form::judge_case(case), Some(asked)).await;
        let value = value.map_err(|error| call_error(&self.name, "judge", &error))?;
        form::verdict(value).map_err(|reason| unusable(&self.name, "judge", reason))
    }
}
