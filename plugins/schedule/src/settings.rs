//! Which back end, as a config says it.

use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Error, Local, Scheduler};

/// Where jobs run.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Settings {
    /// Processes of this machine.
    Local(Local),
}

impl Default for Settings {
    fn default() -> Self {
        Self::Local(Local::default())
    }
}

impl Settings {
    /// The back end. `state` is a folder of its own, made where it needs one: what it knows of submitted
    /// jobs, so that a call after a cut finds them. It must be seen by all machines under the same path.
    ///
    /// # Errors
    /// Where `state` is not absolute, or a setting is wrong.
    pub fn open(&self, state: &Path) -> Result<Box<dyn Scheduler>, Error> {
        let _ = state;
        Ok(match self {
            Self::Local(local) => Box::new(local.clone()),
        })
    }
}
