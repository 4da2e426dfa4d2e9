//! What processes find in their parts of a batch, and its sum.

use std::collections::BTreeMap;

use isr_api::ScoreDrift;
use serde::{Deserialize, Serialize};

use crate::error::{Result, TorchError};

/// Loss, metrics and counts of a part of a batch, each in its share of the whole.
#[derive(Default)]
pub(in crate::train) struct Tally {
    pub(in crate::train) loss: f64,
    /// Completion tokens in the loss.
    pub(in crate::train) tokens: u64,
    pub(in crate::train) metrics: BTreeMap<String, f64>,
    /// `None` where it is not measured.
    pub(in crate::train) drift: Option<ScoreDrift>,
    /// Whether each trained parameter has a gradient.
    pub(in crate::train) has_gradient: Vec<bool>,
}

/// [`Tally`] between processes. Numbers cross by their bits, which keeps NaN and infinity.
#[derive(Serialize, Deserialize)]
struct Message {
    loss: u64,
    tokens: u64,
    metrics: BTreeMap<String, u64>,
    drift: Option<[u64; 5]>,
    has_gradient: Vec<bool>,
}

impl Tally {
    /// Adds loss and metrics of an evaluation, weighted by `share`.
    pub(in crate::train) fn add_value(&mut self, loss: f64, metrics: &BTreeMap<String, f64>, share: f64) {
        self.loss += loss * share;
        for (name, value) in metrics {
            *self.metrics.entry(name.clone()).or_insert(0.0) += value * share;
        }
    }

    /// Adds another part's.
    pub(super) fn add(&mut self, other: Self) {
        self.tokens += other.tokens;
        self.add_value(other.loss, &other.metrics, 1.0);
        match (&mut self.drift, other.drift) {
            (Some(own), Some(other)) => own.merge(&other),
            (own, other) => *own = own.take().or(other),
        }
        self.has_gradient.resize(self.has_gradient.len().max(other.has_gradient.len()), false);
        for (has, other) in self.has_gradient.iter_mut().zip(other.has_gradient) {
            *has |= other;
        }
    }

    pub(super) fn to_bytes(&self) -> Result<Vec<u8>> {
        let message = Message {
            loss: self.loss.to_bits(),
            tokens: self.tokens,
            metrics: self.metrics.iter().map(|(name, value)| (name.clone(), value.to_bits())).collect(),
            drift: self.drift.as_ref().map(ScoreDrift::to_bits),
            has_gradient: self.has_gradient.clone(),
        };
        serde_json::to_vec(&message).map_err(|error| TorchError::Engine(error.to_string()))
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let message: Message = serde_json::from_slice(bytes).ok()?;
        let metrics = message.metrics.into_iter().map(|(name, bits)| (name, f64::from_bits(bits)));
        Some(Self {
            loss: f64::from_bits(message.loss),
            tokens: message.tokens,
            metrics: metrics.collect(),
            drift: message.drift.map(ScoreDrift::from_bits),
            has_gradient: message.has_gradient,
        })
    }
}
