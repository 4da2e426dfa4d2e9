//! Log-probs of target tokens in chunks, without logits for all of them at once.
//!
//! The language-model head outputs `vocabulary` logits for each hidden state, and DPO has hundreds of answer
//! tokens a pair. The head is therefore applied to a chunk of rows at a time, and only the target's log-prob is
//! kept; once the objective has returned its gradient, the chunks are recomputed for the backward pass. The cost
//! is one more product of the head with the answers, which are few beside prompt tokens.

use tch::{Kind, Tensor};

use crate::error::{Result, TorchError};
use crate::model::decoder::Decoder;
use crate::model::gradient_checkpointing::vector_jacobian;
use crate::tensors::{first_row_not_finite, to_vec};

/// Maximum number of logits in memory at once; 64 MiB in float32.
const LOGITS: i64 = 1 << 24;

/// Final hidden states with their target tokens.
pub(super) struct AnswerHead<'m> {
    decoder: &'m Decoder,
    /// Final hidden states `[tokens, hidden]`, with their graph.
    hidden: Tensor,
    /// Target ids `[tokens, 1]`.
    targets: Tensor,
    /// Rows of a chunk.
    rows: i64,
}

impl<'m> AnswerHead<'m> {
    /// Pairs hidden states `[tokens, hidden]` with their targets.
    pub(super) fn new(decoder: &'m Decoder, hidden: Tensor, targets: &[i64]) -> Result<Self> {
        let targets = Tensor::f_from_slice(targets)?.f_to_device(hidden.device())?.f_unsqueeze(1)?;
        let rows = (LOGITS / decoder.vocabulary()).max(1);
        Ok(Self { decoder, hidden, targets, rows })
    }

    /// Computes the log-prob of each target.
    ///
    /// # Errors
    /// Logits that are not finite.
    pub(super) fn log_probs(&self) -> Result<Vec<f64>> {
        let hidden = self.hidden.f_detach()?;
        let mut all = Vec::new();
        for (start, length) in self.chunks() {
            let part = tch::no_grad(|| {
                let logits = self.decoder.logits(&hidden.f_narrow(0, start, length)?)?;
                match first_row_not_finite(&logits)? {
                    None => self.target_log_probs(&logits, start, length),
                    Some(row) => Err(TorchError::NotFinite(format!(
                        "answer token {} of {} in a training batch",
                        start + row as i64 + 1,
                        self.targets.size()[0]
                    ))),
                }
            });
            all.extend(to_vec(&part?)?.into_iter().map(f64::from));
        }
        Ok(all)
    }

    /// Backpropagates the loss's derivative by each log-prob through the head and the graph of the hidden states.
    pub(super) fn backward(self, coefficients: &[f32]) -> Result<()> {
        let coefficients = Tensor::f_from_slice(coefficients)?.f_to_device(self.hidden.device())?;
        let mut gradients = Vec::new();
        let mut of_head = HeadGradient::new(self.decoder.head(), self.chunks().count());
        for (start, length) in self.chunks() {
            let hidden = self.hidden.f_detach()?.f_narrow(0, start, length)?.f_set_requires_grad(true)?;
            let head = of_head.leaf()?;
            let logits = match &head {
                Some(head) => Decoder::logits_by(head, &hidden)?,
                None => self.decoder.logits(&hidden)?,
            };
            let logprobs = self.target_log_probs(&logits, start, length)?;
            let coefficients = coefficients.f_narrow(0, start, length)?;
            logprobs.f_mul(&coefficients)?.f_sum(Kind::Float)?.f_backward()?;
            gradients.push(hidden.f_grad()?);
            of_head.add(head)?;
        }
        of_head.finish()?;
        if !self.hidden.requires_grad() {
            return Ok(());
        }
        Ok(vector_jacobian(&self.hidden, &Tensor::f_cat(&gradients, 0)?)?.f_backward()?)
    }

    /// Returns start and length of each chunk.
    fn chunks(&self) -> impl Iterator<Item = (i64, i64)> + use<> {
        let (all, rows) = (self.targets.size()[0], self.rows);
        (0..all).step_by(rows as usize).map(move |start| (start, rows.min(all - start)))
    }

    /// Picks the log-probs `[length]` of the targets from `start` on from logits `[length, vocabulary]`.
    fn target_log_probs(&self, logits: &Tensor, start: i64, length: i64) -> Result<Tensor> {
        let all = logits.f_log_softmax(-1, Kind::Float)?;
        Ok(all.f_gather(1, &self.targets.f_narrow(0, start, length)?, false)?.f_squeeze_dim(1)?)
    }
}

/// Gradient of the output layer over several chunks. In a narrower type than float32, the chunks' gradients add up in
/// float32 and are rounded once; in float32, autograd adds them to the weight's gradient itself.
struct HeadGradient<'h> {
    head: &'h Tensor,
    adds_up: bool,
    sum: Option<Tensor>,
}

impl<'h> HeadGradient<'h> {
    fn new(head: &'h Tensor, chunks: usize) -> Self {
        let adds_up = chunks > 1 && head.requires_grad() && head.kind() != Kind::Float;
        Self { head, adds_up, sum: None }
    }

    /// Returns the weight as a leaf of one chunk's graph; `None` if the weight itself is one.
    fn leaf(&self) -> Result<Option<Tensor>> {
        if !self.adds_up {
            return Ok(None);
        }
        Ok(Some(self.head.f_detach()?.f_set_requires_grad(true)?))
    }

    /// Adds a chunk's gradient.
    fn add(&mut self, leaf: Option<Tensor>) -> Result<()> {
        let Some(leaf) = leaf else { return Ok(()) };
        let gradient = leaf.f_grad()?.f_to_kind(Kind::Float)?;
        match &mut self.sum {
            Some(sum) => drop(sum.f_add_(&gradient)?),
            None => self.sum = Some(gradient),
        }
        Ok(())
    }

    /// Adds the sum to the weight's gradient.
    fn finish(self) -> Result<()> {
        let Some(sum) = self.sum else { return Ok(()) };
        // The gradient of this product's sum is the factor.
        Ok(self.head.f_mul(&sum.f_to_kind(self.head.kind())?)?.f_sum(Kind::Float)?.f_backward()?)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use tch::Device;

    use super::*;
    use crate::model::VideoLmm;

    /// 1,024 equal gradients, one a chunk: in bfloat16, a sum of ones stops at 256.
    #[test]
    fn chunks_of_the_output_layer_add_up_in_float32() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/tiny_llava");
        let gradient = |rows: i64| {
            let model = VideoLmm::load(&folder, None, Kind::BFloat16, Device::Cpu).unwrap();
            let head = model.decoder.head();
            let _ = head.set_requires_grad(true);
            let one = Tensor::arange(head.size()[1], (Kind::Float, Device::Cpu)).sin();
            let hidden = one.unsqueeze(0).repeat([1024, 1]).to_kind(Kind::BFloat16);
            let mut answers = AnswerHead::new(&model.decoder, hidden, &[5; 1024]).unwrap();
            answers.rows = rows;
            answers.backward(&[1.0; 1024]).unwrap();
            model.decoder.head().grad().to_kind(Kind::Float)
        };
        let (apart, together) = (gradient(1), gradient(1024));
        let largest = |tensor: Tensor| f64::try_from(tensor.abs().max()).unwrap();
        let difference = largest(&apart - &together) / largest(together);
        assert!(difference < 0.01, "{difference}");
    }
}
