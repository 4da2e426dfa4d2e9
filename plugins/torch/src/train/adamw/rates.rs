//! The update of one step.

use tch::{Kind, Tensor};

use super::AdamWSettings;
use crate::error::Result;

/// Factors of one step.
pub(super) struct Rates {
    /// Learning rate divided by the first moment's bias correction.
    learning_rate: f64,
    /// Bias correction of the second moment's root.
    correction: f64,
    /// Factor of a weight under decoupled weight decay.
    decay: f64,
    betas: [f64; 2],
    epsilon: f64,
    clip: f64,
}

impl Rates {
    /// Returns the factors of the step with this number, from 1.
    pub(super) fn new(settings: &AdamWSettings, steps: i64, learning_rate: f64, clip: f64) -> Self {
        let AdamWSettings { betas: [beta1, beta2], epsilon, weight_decay, .. } = *settings;
        let steps = steps as i32;
        Self {
            learning_rate: learning_rate / (1.0 - beta1.powi(steps)),
            correction: (1.0 - beta2.powi(steps)).sqrt().recip(),
            decay: 1.0 - learning_rate * weight_decay,
            betas: [beta1, beta2],
            epsilon,
            clip,
        }
    }

    /// Updates flat weights and moments in place.
    pub(super) fn apply(&self, [mut weights, gradient, mut first, mut second]: [Tensor; 4]) -> Result<()> {
        let [beta1, beta2] = self.betas;
        let gradient = gradient.f_to_kind(Kind::Float)?.f_mul_scalar(self.clip)?;
        let _ = first.f_lerp_(&gradient, 1.0 - beta1)?;
        let root = gradient.f_mul_scalar((1.0 - beta2).sqrt())?;
        let _ = second.f_mul_scalar_(beta2)?.f_addcmul_(&root, &root)?;
        if self.learning_rate == 0.0 {
            return Ok(());
        }
        // weights - rate first / (correction sqrt(second) + epsilon), its factors gathered in the divisor.
        let by_rate = -self.learning_rate.recip();
        let mut divisor = second.f_sqrt()?;
        let _ = divisor.f_mul_scalar_(self.correction * by_rate)?.f_add_scalar_(self.epsilon * by_rate)?;
        if self.decay != 1.0 {
            let _ = weights.f_mul_scalar_(self.decay)?;
        }
        let _ = weights.f_addcdiv_(&first, &divisor)?;
        Ok(())
    }
}
