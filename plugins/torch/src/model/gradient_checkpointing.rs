//! Gradient checkpointing (arXiv 1604.06174): only the inputs of the decoder's layers are kept between forward and
//! backward pass, and each layer's activations are recomputed in the backward pass.

use tch::Tensor;

use super::decoder::{AttentionMode, Decoder, Inputs, PackedSequence};
use crate::error::{Result, TorchError};

/// Weights of the decoder's layers that are in memory for a layer's computation only. Layers are entered one after the other in
/// a forward pass, whose last is not left, and from the last to the first in a backward pass.
pub(crate) trait LayerWeights {
    /// Brings a layer's weights into memory.
    fn enter(&self, layer: usize) -> Result<()>;

    /// Lets a layer's weights go.
    fn leave(&self, layer: usize) -> Result<()>;

    /// Returns the trained weights of a layer whose gradients [`take_gradients`](Self::take_gradients) takes.
    fn trained(&self, layer: usize) -> &[(String, Tensor)];

    /// Takes the gradients of a layer's trained weights, in their order.
    fn take_gradients(&self, layer: usize, gradients: &[Tensor]) -> Result<()>;
}

/// Forward pass through the decoder's layers without a graph, with the state of its backward pass.
pub(crate) struct CheckpointedForward<'d> {
    decoder: &'d Decoder,
    /// `None` if all weights are in memory.
    weights: Option<&'d dyn LayerWeights>,
    /// Embeddings and DeepStack features, with their graph.
    given: Inputs,
    /// Input of each layer, detached.
    inputs: Vec<Tensor>,
    rope: (Tensor, Tensor),
    packed: Vec<PackedSequence>,
    /// Output of the last layer: a leaf of the graph of final norm and head.
    output: Tensor,
}

impl<'d> CheckpointedForward<'d> {
    /// Runs all layers on packed sequences.
    pub(crate) fn forward(
        decoder: &'d Decoder,
        given: Inputs,
        packed: Vec<PackedSequence>,
        weights: Option<&'d dyn LayerWeights>,
    ) -> Result<Self> {
        let mut inputs = Vec::with_capacity(decoder.depth());
        let (rope, output) = tch::no_grad(|| -> Result<_> {
            let rope = decoder.rope(&given.positions)?;
            let mut x = given.embeddings.f_detach()?;
            for index in 0..decoder.depth() {
                weights.map_or(Ok(()), |weights| weights.enter(index))?;
                let mut mode = AttentionMode::PackedSuffixes(&packed);
                let mut next = decoder.layer(index, &x, &rope, &mut mode)?;
                if let Some(deep) = given.deep.get(index) {
                    next = next.f_add(&decoder.select_outputs(index, deep, 1, &mode)?)?;
                }
                inputs.push(std::mem::replace(&mut x, next));
                // The last layer's are needed again at once.
                if index + 1 < decoder.depth() {
                    weights.map_or(Ok(()), |weights| weights.leave(index))?;
                }
            }
            Ok((rope, x))
        })?;
        let output = output.f_set_requires_grad(true)?;
        Ok(Self { decoder, weights, given, inputs, rope, packed, output })
    }

    /// Returns the final hidden states of [`AttentionMode::PackedSuffixes`]; their graph begins at the last
    /// layer's output.
    pub(crate) fn hidden(&self) -> Result<Tensor> {
        self.decoder.final_norm(&self.output)
    }

    /// Continues a backward pass from the gradient at the last layer's output through the layers, the embeddings
    /// and what those were computed from. Gradients equal those of a plain backward pass to the bit.
    pub(crate) fn backward(mut self) -> Result<()> {
        let mut gradient = self.output.f_grad()?;
        if !gradient.defined() {
            return Err(TorchError::Engine("no gradient reached the last layer".to_owned()));
        }
        drop(self.output);
        // Embeddings and DeepStack features share a graph, which is traversed once.
        let mut outside: Option<Tensor> = None;
        let mut accumulate = |given: &Tensor, gradient: &Tensor| -> Result<()> {
            if given.requires_grad() {
                let part = vector_jacobian(given, gradient)?;
                outside = Some(match outside.take() {
                    Some(sum) => sum.f_add(&part)?,
                    None => part,
                });
            }
            Ok(())
        };
        while let Some(input) = self.inputs.pop() {
            let mut mode = AttentionMode::PackedSuffixes(&self.packed);
            if let Some(deep) = self.given.deep.get(self.inputs.len()) {
                accumulate(&self.decoder.select_outputs(self.inputs.len(), deep, 1, &mode)?, &gradient)?;
            }
            let layer = self.inputs.len();
            self.weights.map_or(Ok(()), |weights| weights.enter(layer))?;
            let x = input.f_detach()?.f_set_requires_grad(true)?;
            let y = self.decoder.layer(layer, &x, &self.rope, &mut mode)?;
            let start = vector_jacobian(&y, &gradient)?;
            drop(y);
            gradient = match self.weights.filter(|weights| !weights.trained(layer).is_empty()) {
                Some(weights) => {
                    let trained = weights.trained(layer).iter().map(|(_, weight)| weight);
                    let leaves: Vec<&Tensor> = std::iter::once(&x).chain(trained).collect();
                    let mut gradients = Tensor::f_run_backward(&[start], &leaves, false, false)?;
                    let gradient = gradients.remove(0);
                    weights.take_gradients(layer, &gradients)?;
                    gradient
                }
                None => {
                    start.f_backward()?;
                    x.f_grad()?
                }
            };
            self.weights.map_or(Ok(()), |weights| weights.leave(layer))?;
        }
        accumulate(&self.given.embeddings, &gradient)?;
        match outside {
            Some(sum) => Ok(sum.f_backward()?),
            None => Ok(()),
        }
    }
}

/// Returns a scalar whose derivative by `y` is `gradient`, to start a backward pass with a known gradient.
pub(crate) fn vector_jacobian(y: &Tensor, gradient: &Tensor) -> Result<Tensor> {
    Ok(y.f_mul(gradient)?.f_sum(y.kind())?)
}
