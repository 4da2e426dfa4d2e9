//! Sampling of tokens from logits, in transformers' order: temperature, top-k, top-p.

use std::cmp::Ordering;

use isr_api::Sampling;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha12Rng;

/// Sampler of one answer, with a random stream of its own.
#[derive(Clone)]
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

    /// Samples a token from the logits `[vocabulary]` of one position; greedy at temperature 0. `None` if a logit is
    /// not finite.
    pub(crate) fn draw(&mut self, logits: &[f32]) -> Option<Draw> {
        let best = argmax(logits)?;
        let largest = f64::from(logits[best]);
        // Unnormalised probabilities at temperature 1, which the log-prob needs whatever is drawn from.
        let weights: Vec<f64> = logits.iter().map(|&logit| (f64::from(logit) - largest).exp()).collect();
        let total: f64 = weights.iter().sum();
        let Sampling { temperature, top_k, top_p, .. } = self.sampling;
        let whole = top_k == 0 && top_p >= 1.0;
        let token = if temperature == 0.0 {
            best
        } else if temperature == 1.0 {
            match whole {
                true => self.pick(total, weights.into_iter().enumerate()),
                false => self.pick_kept(truncated(logits, |id| weights[id], || total, &self.sampling)),
            }
        } else {
            let weight = |id: usize| ((f64::from(logits[id]) - largest) / temperature).exp();
            match whole {
                true => self.pick_kept((0..logits.len()).map(|id| (id, weight(id))).collect()),
                false => {
                    let total = || (0..logits.len()).map(weight).sum();
                    self.pick_kept(truncated(logits, weight, total, &self.sampling))
                }
            }
        };
        let logprob = f64::from(logits[token]) - (largest + total.ln());
        Some(Draw { token: token as u32, logprob: logprob as f32 })
    }

    fn pick_kept(&mut self, kept: Vec<(usize, f64)>) -> usize {
        self.pick(sum_of(&kept), kept.into_iter())
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

/// Returns unnormalised probabilities of the tokens that top-k and top-p keep, by rising id. `total` is the sum of all
/// weights, for top-p without top-k.
fn truncated(
    logits: &[f32],
    weight: impl Fn(usize) -> f64,
    total: impl FnOnce() -> f64,
    sampling: &Sampling,
) -> Vec<(usize, f64)> {
    let mut ranking = Ranking::new(logits);
    let mut kept: Vec<(usize, f64)> = Vec::new();
    if sampling.top_k > 0 {
        kept.extend(ranking.next(sampling.top_k).iter().map(|&id| (id, weight(id))));
        let (limit, mut sum) = (sampling.top_p * sum_of(&kept), 0.0);
        let reached = kept.iter().position(|(_, weight)| {
            sum += weight;
            sum >= limit
        });
        kept.truncate(reached.map_or(kept.len(), |last| last + 1));
    } else {
        let (limit, mut sum, mut count) = (sampling.top_p * total(), 0.0, FIRST);
        while sum < limit && kept.len() < logits.len() {
            for &id in ranking.next(count) {
                kept.push((id, weight(id)));
                sum += weight(id);
                if sum >= limit {
                    break;
                }
            }
            count *= 4;
        }
    }
    kept.sort_unstable_by_key(|&(token, _)| token);
    kept
}

fn sum_of(weights: &[(usize, f64)]) -> f64 {
    weights.iter().map(|(_, weight)| weight).sum()
}

/// Tokens that top-p without top-k ranks first; four times as many each further time.
const FIRST: usize = 128;

/// Ranks tokens from the likeliest on, equal ones by rising id, and sorts no more of them than are asked for.
struct Ranking<'l> {
    logits: &'l [f32],
    ids: Vec<usize>,
    ranked: usize,
}

impl<'l> Ranking<'l> {
    fn new(logits: &'l [f32]) -> Self {
        Self { logits, ids: (0..logits.len()).collect(), ranked: 0 }
    }

    /// Returns the next `count` tokens; fewer at the end.
    fn next(&mut self, count: usize) -> &[usize] {
        let Self { logits, ids, ranked } = self;
        // Finite numbers have an order; 0 and -0 are equal.
        let order = |a: &usize, b: &usize| {
            logits[*b].partial_cmp(&logits[*a]).unwrap_or(Ordering::Equal).then(a.cmp(b))
        };
        let rest = &mut ids[*ranked..];
        let count = count.min(rest.len());
        if count < rest.len() {
            let _ = rest.select_nth_unstable_by(count, order);
        }
        let next = &mut rest[..count];
        next.sort_unstable_by(order);
        *ranked += count;
        next
    }
}

/// Returns the index of the first maximum; `None` if a number is not finite.
fn argmax(logits: &[f32]) -> Option<usize> {
    if !logits.iter().all(|logit| logit.is_finite()) {
        return None;
    }
    let mut best = 0;
    for (token, logit) in logits.iter().enumerate() {
        if *logit > logits[best] {
            best = token;
        }
    }
    Some(best)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weigh<'l>(logits: &'l [f32], sampling: &Sampling) -> impl Fn(usize) -> f64 + use<'l> {
        let (largest, temperature) = (f64::from(logits[argmax(logits).unwrap()]), sampling.temperature);
        move |id| ((f64::from(logits[id]) - largest) / temperature).exp()
    }

    fn kept(logits: &[f32], sampling: Sampling) -> Vec<(usize, f64)> {
        let weight = weigh(logits, &sampling);
        truncated(logits, &weight, || (0..logits.len()).map(&weight).sum(), &sampling)
    }

    fn ids(logits: &[f32], sampling: Sampling) -> Vec<usize> {
        kept(logits, sampling).into_iter().map(|(token, _)| token).collect()
    }

    /// The definition: sort the whole vocabulary, cut at top-k, then at top-p.
    fn by_sorting(logits: &[f32], sampling: &Sampling) -> Vec<(usize, f64)> {
        let weight = weigh(logits, sampling);
        let mut all: Vec<(usize, f64)> = (0..logits.len()).map(|id| (id, weight(id))).collect();
        all.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        if sampling.top_k > 0 {
            all.truncate(sampling.top_k);
        }
        let (limit, mut sum) = (sampling.top_p * sum_of(&all), 0.0);
        let last = all.iter().position(|(_, weight)| {
            sum += weight;
            sum >= limit
        });
        all.truncate(last.map_or(all.len(), |last| last + 1));
        all.sort_by_key(|(id, _)| *id);
        all
    }

    #[test]
    fn partial_selection_keeps_what_a_full_sort_keeps() {
        let mut rng = ChaCha12Rng::seed_from_u64(11);
        for spread in [0.0_f32, 0.5, 4.0, 30.0] {
            // Rounded, so that there are ties.
            let logits: Vec<f32> =
                (0..3000).map(|_| (rng.random::<f32>() * spread * 64.0).round() / 64.0).collect();
            for temperature in [0.3, 1.0, 1.7] {
                for (top_k, top_p) in
                    [(0, 0.1), (0, 0.9), (0, 0.999_9), (1, 1.0), (50, 1.0), (50, 0.8), (5000, 0.5)]
                {
                    let sampling = Sampling { temperature, top_k, top_p, ..Sampling::default() };
                    let expected = by_sorting(&logits, &sampling);
                    assert_eq!(kept(&logits, sampling.clone()), expected, "{spread} {sampling:?}");
                }
            }
        }
    }

    #[test]
    fn logits_that_are_not_finite_draw_nothing() {
        for wrong in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for sampling in [Sampling::greedy(1), Sampling::default()] {
                for at in 0..3 {
                    let mut logits = [0.0_f32, 1.0, 2.0];
                    logits[at] = wrong;
                    assert_eq!(Sampler::new(sampling.clone(), 1, 0).draw(&logits), None);
                }
            }
        }
    }

    #[test]
    fn truncation_keeps_the_smallest_set_that_reaches_top_p() {
        let logits = [0.1_f32.ln(), 0.5_f32.ln(), 0.3_f32.ln(), 0.1_f32.ln()];
        let top_p = |top_p| Sampling { top_p, ..Sampling::default() };
        assert_eq!(ids(&logits, top_p(0.45)), [1]);
        assert_eq!(ids(&logits, top_p(0.6)), [1, 2]);
        assert_eq!(ids(&logits, top_p(0.85)), [0, 1, 2]);
        assert_eq!(ids(&logits, Sampling { top_k: 1, ..Sampling::default() }), [1]);
    }

    #[test]
    fn log_probs_ignore_temperature_and_truncation() {
        let logits = [1.0_f32, 2.0, 3.0];
        let sampling = Sampling { temperature: 0.3, top_k: 1, ..Sampling::default() };
        let draw = Sampler::new(sampling, 1, 0).draw(&logits).unwrap();
        assert_eq!(draw.token, 2);
        assert!((draw.logprob - (-0.407_606)).abs() < 1e-5);
    }

    #[test]
    fn frequencies_follow_the_distribution() {
        let logits = [0.2_f32.ln(), 0.8_f32.ln()];
        let mut sampler = Sampler::new(Sampling::default(), 5, 1);
        let ones = (0..4000).filter(|_| sampler.draw(&logits).unwrap().token == 1).count();
        assert!((3080..3320).contains(&ones), "{ones} of 4000");
    }

    #[test]
    fn answers_of_a_request_have_streams_of_their_own() {
        let logits = [0.0_f32; 512];
        let draw =
            |seed, index| Sampler::new(Sampling::default(), seed, index).draw(&logits).unwrap().token;
        assert_eq!(draw(3, 0), draw(3, 0));
        assert_ne!((draw(3, 0), draw(3, 1)), (draw(4, 0), draw(4, 1)));
        assert_ne!(draw(3, 0), draw(3, 1));
    }
}
