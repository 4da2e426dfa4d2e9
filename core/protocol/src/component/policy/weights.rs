//! Which weights a policy's process has, by what it tells of them.

use std::sync::{Mutex, MutexGuard, PoisonError};

use isr_api::Fingerprint;

use crate::component::Identity;

/// The weights that a process was last told to have.
pub(super) struct Weights(Mutex<Known>);

struct Known {
    /// As the plugin told it.
    told: String,
    fingerprint: Fingerprint,
    /// Whether no change is under way, or was given up midway.
    is_sure: bool,
}

impl Weights {
    pub(super) fn new(identity: &Identity, told: String) -> Result<Self, String> {
        let fingerprint = identity.fingerprint(&told)?;
        Ok(Self(Mutex::new(Known { told, fingerprint, is_sure: true })))
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The fingerprint that was told last.
    pub(super) fn last(&self) -> Fingerprint {
        self.lock().fingerprint.clone()
    }

    /// The fingerprint, where it is sure.
    ///
    /// # Errors
    /// A training step or a load was given up midway.
    pub(super) fn known(&self) -> Result<Fingerprint, String> {
        let known = self.lock();
        match known.is_sure {
            true => Ok(known.fingerprint.clone()),
            false => {
                Err("its weights are unknown, since a change of them did not end; load a checkpoint"
                    .to_owned())
            }
        }
    }

    /// The fingerprint of weights that a value was computed with.
    ///
    /// # Errors
    /// Neither those of before the call nor those that were told last.
    pub(super) fn same(
        &self,
        identity: &Identity,
        told: &str,
        before: &Fingerprint,
    ) -> Result<Fingerprint, String> {
        let (fingerprint, known) = (identity.fingerprint(told)?, self.lock());
        if fingerprint == *before || fingerprint == known.fingerprint {
            return Ok(fingerprint);
        }
        let (told, last): (String, String) =
            (told.chars().take(80).collect(), known.told.chars().take(80).collect());
        Err(format!(
            "it was computed with the weights `{told}`, and the plugin last told that it has `{last}`; weights change by \
             `apply` and `load` alone"
        ))
    }

    /// Begins a change.
    pub(super) fn begin(&self) -> Change<'_> {
        self.lock().is_sure = false;
        Change(self)
    }
}

/// A change of the weights. Where it is dropped, they are unknown.
pub(super) struct Change<'a>(&'a Weights);

impl Change<'_> {
    /// Ends the change with the fingerprint that was told.
    ///
    /// # Errors
    /// A text that is no fingerprint.
    pub(super) fn done(self, identity: &Identity, told: String) -> Result<(), String> {
        let fingerprint = identity.fingerprint(&told)?;
        *self.0.lock() = Known { told, fingerprint, is_sure: true };
        Ok(())
    }

    /// Ends the change without one.
    pub(super) fn refused(self) {
        self.0.lock().is_sure = true;
    }
}
