//! Sampling of tokens from logits, in transformers' order: temperature, top-k, top-p.

use isr_api::Sampling;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha12Rng;

/// Sampler of one answer, with a random stream of its own.
pub(crate) struct Sampler {
    sampling: Sampling,
    rng: ChaCha12Rng,
}

/// Sampled token with its log-prob at temperature 1 over the whole vocabulary.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Draw {
    pub(crate) token: u32,
    pub(crate) logprob: f32,
}

impl Sampler {
    /// Creates the sampler of answer `index`: stream `index` of ChaCha12 seeded with `seed`.
    pub(crate) fn new(sampling: Sampling, seed: u64, index: usize) -> Self {
        let mut rng = ChaCha12Rng::seed_from_u64(seed);
        rng.set_stream(index as u64);
        Self { sampling, rng }
    }

    /// Draws the uniform number in [0, 1) of the next token; a greedy sampler draws none and returns 0.
    pub(super) fn uniform(&mut self) -> f64 {
        if self.sampling.temperature == 0.0 { 0.0 } else { self.rng.random() }
    }

    /// Samples a token from the logits `[vocabulary]` of one position; greedy at temperature 0.
    pub(crate) fn draw(&mut self, logits: &[f32]) -> Draw {
        let best = argmax(logits);
        let largest = f64::from(logits[best]);
        // Unnormalised probabilities at temperature 1, which the log-prob needs whatever is drawn from.
        let weights: Vec<f64> = logits.iter().map(|&logit| (f64::from(logit) - largest).exp()).collect();
        let total: f64 = weights.iter().sum();
        let Sampling { temperature, top_k, top_p, .. } = self.sampling;
        let token = if temperature == 0.0 {
            best
        } else if temperature == 1.0 && top_k == 0 && top_p >= 1.0 {
            self.pick(total, weights.into_iter().enumerate())
        } else {
            let kept = kept_weights(logits, largest, &self.sampling);
            self.pick(kept.iter().map(|(_, weight)| weight).sum(), kept.into_iter())
        };
        let logprob = f64::from(logits[token]) - (largest + total.ln());
        Draw { token: token as u32, logprob: logprob as f32 }
    }

    /// Samples a token in proportion to weights that add up to `total`.
    fn pick(&mut self, total: f64, weights: impl Iterator<Item = (usize, f64)>) -> usize {
        let mut left = self.rng.random::<f64>() * total;
        let mut last = 0;
        for (token, weight) in weights {
            last = token;
            left -= weight;
            if left < 0.0 {
                break;
            }
        }
        // Rounding may leave a remainder behind the last token.
        last
    }
}

/// Returns unnormalised probabilities of the tokens that top-k and top-p keep, by rising id.
fn kept_weights(logits: &[f32], largest: f64, sampling: &Sampling) -> Vec<(usize, f64)> {
    let weight = |logit: f32| ((f64::from(logit) - largest) / sampling.temperature).exp();
    let mut weights: Vec<(usize, f64)> = logits.iter().map(|&logit| weight(logit)).enumerate().collect();
    if sampling.top_k == 0 && sampling.top_p >= 1.0 {
        return weights;
    }
    weights.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    if sampling.top_k > 0 {
        weights.truncate(sampling.top_k);
    }
    let limit = sampling.top_p * weights.iter().map(|(_, weight)| weight).sum::<f64>();
    let mut sum = 0.0;
    let kept = weights.iter().position(|(_, weight)| {
        sum += weight;
        sum >= limit
    });
    weights.truncate(kept.map_or(weights.len(), |last| last + 1));
    weights.sort_by_key(|&(token, _)| token);
    weights
}

/// Returns the index of the first maximum.
fn argmax(logits: &[f32]) -> usize {
    let mut best = 0;
    for (token, logit) in logits.iter().enumerate() {
        if *logit > logits[best] {
            best = token;
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(logits: &[f32], sampling: Sampling) -> Vec<usize> {
        let largest = f64::from(logits[argmax(logits)]);
        kept_weights(logits, largest, &sampling).into_iter().map(|(token, _)| token).collect()
    }

    #[test]
    fn truncation_keeps_the_smallest_set_that_reaches_top_p() {
        let logits = [0.1_f32.ln(), 0.5_f32.ln(), 0.3_f32.ln(), 0.1_f32.ln()];
        let top_p = |top_p| Sampling { top_p, ..Sampling::default() };
        assert_eq!(kept(&logits, top_p(0.45)), [1]);
        assert_eq!(kept(&logits, top_p(0.6)), [1, 2]);
        assert_eq!(kept(&logits, top_p(0.85)), [0, 1, 2]);
        assert_eq!(kept(&logits, Sampling { top_k: 1, ..Sampling::default() }), [1]);
        assert_eq!(kept(&logits, Sampling::default()).len(), 4);
    }

    #[test]
    fn log_probs_ignore_temperature_and_truncation() {
        let logits = [1.0_f32, 2.0, 3.0];
        let sampling = Sampling { temperature: 0.3, top_k: 1, ..Sampling::default() };
        let draw = Sampler::new(sampling, 1, 0).draw(&logits);
        assert_eq!(draw.token, 2);
        assert!((draw.logprob - (-0.407_606)).abs() < 1e-5);
    }

    #[test]
    fn frequencies_follow_the_distribution() {
        let logits = [0.2_f32.ln(), 0.8_f32.ln()];
        let mut sampler = Sampler::new(Sampling::default(), 5, 1);
        let ones = (0..4000).filter(|_| sampler.draw(&logits).token == 1).count();
        assert!((3080..3320).contains(&ones), "{ones} of 4000");
    }

    #[test]
    fn answers_of_a_request_have_streams_of_their_own() {
        let logits = [0.0_f32; 512];
        let draw = |seed, index| Sampler::new(Sampling::default(), seed, index).draw(&logits).token;
        assert_eq!(draw(3, 0), draw(3, 0));
        assert_ne!((draw(3, 0), draw(3, 1)), (draw(4, 0), draw(4, 1)));
        assert_ne!(draw(3, 0), draw(3, 1));
    }
}
