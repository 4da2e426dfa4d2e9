//! Gradient checkpointing (arXiv 1604.06174): a layer's activations are computed again when its gradient is
//! wanted, so that between forward and backward only the layers' inputs are kept.

use tch::Tensor;

use super::decoder::{Attend, Decoder, Inputs, Tree};
use crate::error::{Result, TorchError};

/// A forward pass through a decoder's layers without graph, and what its backward pass needs.
pub(crate) struct Recompute<'d> {
    decoder: &'d Decoder,
    /// What went into the first layer and what was added behind others, with their graph.
    given: Inputs,
    /// What went into each layer, without.
    inputs: Vec<Tensor>,
    rope: (Tensor, Tensor),
    trees: Vec<Tree>,
    /// What came out of the last one: a leaf, whose gradient the rest of the model computes.
    output: Tensor,
}

impl<'d> Recompute<'d> {
    /// Runs all layers on whole sequences.
    pub(crate) fn forward(decoder: &'d Decoder, given: Inputs, trees: Vec<Tree>) -> Result<Self> {
        let mut inputs = Vec::with_capacity(decoder.depth());
        let (rope, output) = tch::no_grad(|| -> Result<_> {
            let rope = decoder.rope(&given.positions)?;
            let mut x = given.embeddings.f_detach()?;
            for index in 0..decoder.depth() {
                let mut attend = Attend::Answers(&trees);
                let mut next = decoder.layer(index, &x, &rope, &mut attend)?;
                if let Some(deep) = given.deep.get(index) {
                    next = next.f_add(&decoder.asking(index, deep, 1, &attend)?)?;
                }
                inputs.push(std::mem::replace(&mut x, next));
            }
            Ok((rope, x))
        })?;
        let output = output.f_set_requires_grad(true)?;
        Ok(Self { decoder, given, inputs, rope, trees, output })
    }

    /// Final hidden states `[batch, length, hidden]` of what [`Attend::Answers`] computes, with a graph that ends at the last layer's output.
    pub(crate) fn hidden(&self) -> Result<Tensor> {
        self.decoder.last_norm(&self.output)
    }

    /// Goes on from the gradient that a backward pass left at the last layer's output, back through the
    /// layers to what the embeddings came from. Gradients are those of a plain backward pass, to the bit.
    pub(crate) fn backward(mut self) -> Result<()> {
        let mut gradient = self.output.f_grad()?;
        if !gradient.defined() {
            return Err(TorchError::Engine("no gradient reached the last layer".to_owned()));
        }
        drop(self.output);
        // What the layers were given came out of one graph, which is gone through once.
        let mut outside: Option<Tensor> = None;
        let mut leave = |given: &Tensor, gradient: &Tensor| -> Result<()> {
            if given.requires_grad() {
                let part = product(given, gradient)?;
                outside = Some(match outside.take() {
                    Some(sum) => sum.f_add(&part)?,
                    None => part,
                });
            }
            Ok(())
        };
        while let Some(input) = self.inputs.pop() {
            let mut attend = Attend::Answers(&self.trees);
            if let Some(deep) = self.given.deep.get(self.inputs.len()) {
                leave(&self.decoder.asking(self.inputs.len(), deep, 1, &attend)?, &gradient)?;
            }
            let x = input.f_detach()?.f_set_requires_grad(true)?;
            let y = self.decoder.layer(self.inputs.len(), &x, &self.rope, &mut attend)?;
            product(&y, &gradient)?.f_backward()?;
            gradient = x.f_grad()?;
        }
        leave(&self.given.embeddings, &gradient)?;
        match outside {
            Some(sum) => Ok(sum.f_backward()?),
            None => Ok(()),
        }
    }
}

/// What to go back from where the gradient of `y` is known: the sum's derivative by `y` is exactly that.
pub(crate) fn product(y: &Tensor, gradient: &Tensor) -> Result<Tensor> {
    Ok(y.f_mul(gradient)?.f_sum(y.kind())?)
}
