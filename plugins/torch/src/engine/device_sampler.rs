//! Sampling on the device, of all rows at once. With the same uniform numbers it draws the tokens that
//! [`Sampler`](super::sampler::Sampler) draws on the host: weights and their sums are float64 there and here.

use isr_api::Sampling;
use tch::{Device, Kind, Tensor};

use crate::error::Result;

/// Sampling settings of the rows of a step.
pub(super) struct DeviceSampler {
    /// Rows that take the likeliest token, `[rows, 1]`; `None` if there are none.
    greedy: Option<Tensor>,
    /// Temperatures `[rows, 1]`; `None` if all are 1 or greedy.
    temperature: Option<Tensor>,
    /// Numbers and shares of the likeliest tokens to draw from, `[rows, 1]`; `None` if no row has either.
    truncation: Option<[Tensor; 2]>,
}

impl DeviceSampler {
    /// Places the settings of each row on the device.
    pub(super) fn new(rows: &[Sampling], device: Device) -> Result<Self> {
        let place = |values: &[f64]| -> Result<Tensor> {
            Ok(Tensor::f_from_slice(values)?.f_to_device(device)?.f_unsqueeze(1)?)
        };
        let is_greedy = |row: &Sampling| row.temperature == 0.0;
        let cuts = |row: &Sampling| !is_greedy(row) && (row.top_k > 0 || row.top_p < 1.0);
        let temperature = |row: &Sampling| if is_greedy(row) { 1.0 } else { row.temperature };
        let greedy: Vec<f64> = rows.iter().map(|row| f64::from(u8::from(is_greedy(row)))).collect();
        let temperatures: Vec<f64> = rows.iter().map(temperature).collect();
        let top_k = |row: &Sampling| if row.top_k > 0 { row.top_k as f64 } else { f64::INFINITY };
        Ok(Self {
            greedy: match rows.iter().any(is_greedy) {
                true => Some(place(&greedy)?.f_to_kind(Kind::Bool)?),
                false => None,
            },
            temperature: match temperatures.iter().all(|t| *t == 1.0) {
                true => None,
                false => Some(place(&temperatures)?),
            },
            truncation: match rows.iter().any(cuts) {
                true => {
                    let top_k: Vec<f64> = rows.iter().map(top_k).collect();
                    let top_p: Vec<f64> = rows.iter().map(|row| row.top_p).collect();
                    Some([place(&top_k)?, place(&top_p)?])
                }
                false => None,
            },
        })
    }

    /// Draws a token of each row from logits `[rows, vocabulary]` in float32 with uniform numbers `[rows]` in float64.
    /// Returns token ids `[rows]` and their log-probs at temperature 1 over the whole vocabulary, float32 `[rows]`: NaN for
    /// a row with a logit that is not finite.
    pub(super) fn draw(&self, logits: &Tensor, uniform: &Tensor) -> Result<(Tensor, Tensor)> {
        let best = logits.f_amax([-1], true)?;
        let centred = logits.f_to_kind(Kind::Double)?.f_sub(&best)?;
        let all = centred.f_exp()?;
        let total = all.f_sum_dim_intlist(-1, true, None::<Kind>)?;
        let weights = match &self.temperature {
            Some(temperature) => centred.f_div(temperature)?.f_exp()?,
            None => all,
        };
        let weights = match &self.truncation {
            Some(truncation) => truncated(&weights, truncation)?,
            None => weights,
        };
        let sums = weights.f_cumsum(-1, None::<Kind>)?;
        let last = sums.f_narrow(1, sums.size()[1] - 1, 1)?;
        let drawn = uniform.f_unsqueeze(1)?.f_mul(&last)?;
        let token = drawn.f_searchsorted(&sums, false, true, "right", None::<&Tensor>)?;
        // Rounding may put the number behind the last token that can be drawn.
        let drawable = sums.f_lt_tensor(&last)?.f_sum_dim_intlist(-1, true, Kind::Int64)?;
        let mut token = token.f_minimum(&drawable)?;
        if let Some(greedy) = &self.greedy {
            token = first_maximum(logits, &best)?.f_where_self(greedy, &token)?;
        }
        let logprob = centred.f_gather(1, &token, false)?.f_sub(&total.f_log()?)?;
        let is_finite = logits.f_isfinite()?.f_all_dim(-1, true)?;
        let logprob = logprob.f_masked_fill(&is_finite.f_logical_not()?, f64::NAN)?;
        Ok((token.f_squeeze_dim(1)?, logprob.f_to_kind(Kind::Float)?.f_squeeze_dim(1)?))
    }
}

/// Sets weights `[rows, vocabulary]` to zero but those of the tokens that top-k and top-p keep.
fn truncated(weights: &Tensor, [top_k, top_p]: &[Tensor; 2]) -> Result<Tensor> {
    let (sorted, order) = weights.f_sort_stable(true, -1, true)?;
    let rank = Tensor::f_arange(sorted.size()[1], (Kind::Double, sorted.device()))?;
    let sorted = sorted.f_mul(&rank.f_unsqueeze(0)?.f_lt_tensor(top_k)?)?;
    let limit = sorted.f_sum_dim_intlist(-1, true, None::<Kind>)?.f_mul(top_p)?;
    // A token is kept if those before it do not reach the limit.
    let before = sorted.f_cumsum(-1, None::<Kind>)?.f_sub(&sorted)?;
    let kept = sorted.f_mul(&before.f_lt_tensor(&limit)?)?;
    Ok(kept.f_zeros_like()?.f_scatter(1, &order, &kept)?)
}

/// Returns the first token of each row with the largest logit, `[rows, 1]`.
fn first_maximum(logits: &Tensor, best: &Tensor) -> Result<Tensor> {
    let vocabulary = logits.size()[1];
    let tokens = Tensor::f_arange(vocabulary, (Kind::Int64, logits.device()))?.f_unsqueeze(0)?;
    let others = logits.f_eq_tensor(best)?.f_logical_not()?;
    Ok(tokens.f_expand_as(logits)?.f_masked_fill(&others, vocabulary - 1)?.f_amin([-1], true)?)
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::super::sampler::Sampler;
    use super::*;
    use crate::tensors::to_vec;

    /// Rows of all kinds in one step, some with equal logits: the same tokens and log-probs as on the host.
    #[test]
    fn tokens_equal_those_of_the_host() {
        let mut rng = ChaCha8Rng::seed_from_u64(4);
        let plain = Sampling::default();
        let kinds = [
            plain.clone(),
            Sampling { temperature: 0.0, ..plain.clone() },
            Sampling { temperature: 0.7, top_k: 5, ..plain.clone() },
            Sampling { temperature: 1.3, top_p: 0.8, ..plain.clone() },
            Sampling { top_k: 40, top_p: 0.5, ..plain.clone() },
            Sampling { temperature: 0.1, ..plain },
        ];
        for count in [1, 2, 6] {
            let rows = &kinds[..count];
            let device = DeviceSampler::new(rows, Device::Cpu).unwrap();
            for seed in 0..50 {
                let logits: Vec<f32> =
                    (0..count * 97).map(|_| rng.random_range(-24_i32..24) as f32 / 8.0).collect();
                let mut samplers: Vec<Sampler> = rows
                    .iter()
                    .enumerate()
                    .map(|(row, kind)| Sampler::new(kind.clone(), seed, row))
                    .collect();
                let mut ahead: Vec<Sampler> = rows
                    .iter()
                    .enumerate()
                    .map(|(row, kind)| Sampler::new(kind.clone(), seed, row))
                    .collect();
                let uniform: Vec<f64> = ahead.iter_mut().map(Sampler::uniform).collect();
                let table = Tensor::from_slice(&logits).view([count as i64, 97]);
                let (tokens, logprobs) = device.draw(&table, &Tensor::from_slice(&uniform)).unwrap();
                let (tokens, logprobs) =
                    (Vec::<i64>::try_from(&tokens).unwrap(), to_vec(&logprobs).unwrap());
                for (row, sampler) in samplers.iter_mut().enumerate() {
                    let draw = sampler.draw(&logits[row * 97..(row + 1) * 97]).unwrap();
                    assert_eq!(tokens[row], i64::from(draw.token), "row {row}, seed {seed}");
                    assert!((logprobs[row] - draw.logprob).abs() < 1e-6);
                }
            }
        }
    }
}
