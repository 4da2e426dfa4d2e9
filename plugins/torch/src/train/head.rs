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
        for (start, length) in self.chunks() {
            let hidden = self.hidden.f_detach()?.f_narrow(0, start, length)?.f_set_requires_grad(true)?;
            let logprobs = self.chunk(&hidden, start, length)?;
            let coefficients = coefficients.f_narrow(0, start, length)?;
            logprobs.f_mul(&coefficients)?.f_sum(Kind::Float)?.f_backward()?;
            gradients.push(hidden.f_grad()?);
        }
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

    /// Computes log-probs `[length]` of the targets from `start` on.
    fn chunk(&self, hidden: &Tensor, start: i64, length: i64) -> Result<Tensor> {
        self.target_log_probs(&self.decoder.logits(hidden)?, start, length)
    }

    /// Picks the log-probs `[length]` of the targets from `start` on from logits `[length, vocabulary]`.
    fn target_log_probs(&self, logits: &Tensor, start: i64, length: i64) -> Result<Tensor> {
        let all = logits.f_log_softmax(-1, Kind::Float)?;
        Ok(all.f_gather(1, &self.targets.f_narrow(0, start, length)?, false)?.f_squeeze_dim(1)?)
    }
}
