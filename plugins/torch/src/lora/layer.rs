//! LoRA adapter of one linear layer.

use std::sync::Arc;

use tch::Tensor;

use super::dora::{Dora, Update};
use super::dropout::Dropout;
use crate::error::Result;
use crate::model::linear_weight::LinearWeight;
use crate::model::product;

/// Low-rank update `scale * B A dropout(x)` of a linear layer, perhaps with magnitudes (DoRA).
pub(crate) struct Lora {
    /// `[rank, in]`, float32.
    pub(super) a: Tensor,
    /// `[out, rank]`, float32.
    pub(super) b: Tensor,
    pub(super) scale: f64,
    pub(super) dora: Option<Dora>,
    pub(super) dropout: Arc<Dropout>,
    /// Distinguishes the layer's dropout masks from those of other layers.
    pub(super) salt: u64,
}

impl Lora {
    /// Returns `A` `[rank, in]` and `scale * B` `[out, rank]` in float32, without dropout.
    pub(crate) fn matrices(&self) -> Result<[Tensor; 2]> {
        Ok([self.a.f_detach()?, self.b.f_detach()?.f_mul_scalar(self.scale)?])
    }

    /// Returns the factors `[out]` in float32 by which DoRA scales the adapted layer's outputs, without a graph.
    pub(crate) fn factors(&self, weight: &dyn Fn() -> Result<Tensor>) -> Result<Option<Tensor>> {
        let factors = |dora: &Dora| tch::no_grad(|| dora.factor(weight, self.update()));
        self.dora.as_ref().map(factors).transpose()
    }

    fn update(&self) -> Update<'_> {
        Update { a: &self.a, b: &self.b, scale: self.scale }
    }

    /// Computes the adapted layer's output `[.., out]` for inputs `[.., in]`.
    pub(crate) fn adapted(
        &self,
        x: &Tensor,
        weight: &LinearWeight,
        bias: Option<&Tensor>,
    ) -> Result<Tensor> {
        let Some(dora) = &self.dora else {
            return Ok(weight.linear(x, bias)?.f_add(&self.forward(x)?)?);
        };
        // In float32, as steps of the magnitudes are smaller than the distances of narrower types.
        let factor = dora.factor(&|| weight.dense(), self.update())?;
        let base = weight.linear(x, None)?;
        let scaled = match self.dropout.is_active() {
            false => base.f_add(&self.forward(x)?)?.f_mul(&factor)?,
            // What is dropped is the input of the change, (f - 1) W + f s B A.
            true => {
                let dropped = weight.linear(&self.dropout.apply(x, self.salt)?, None)?;
                let change = dropped.f_mul(&factor.f_sub_scalar(1.0)?)?;
                base.f_add(&change)?.f_add(&self.forward(x)?.f_mul(&factor)?)?
            }
        };
        let scaled = match bias {
            Some(bias) => scaled.f_add(bias)?,
            None => scaled,
        };
        Ok(scaled.f_to_kind(x.kind())?)
    }

    /// Computes the update of the layer's output `[.., out]` for inputs `[.., in]`. Matrices are stored in float32 and
    /// converted to the dtype of `x`, so that training in bfloat16 keeps no float32 activations.
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let kind = x.kind();
        let low = product::linear(&self.dropout.apply(x, self.salt)?, &self.a.f_to_kind(kind)?, None)?;
        let high = product::linear(&low, &self.b.f_to_kind(kind)?, None)?;
        Ok(high.f_mul_scalar(self.scale)?)
    }
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind};

    use super::super::dora::RowNorms;
    use super::*;

    fn layer(dropout: f64) -> (Lora, Tensor) {
        let random = |shape: &[i64]| Tensor::randn(shape, (Kind::Float, Device::Cpu));
        let (a, b, magnitude) = (random(&[3, 8]), random(&[5, 3]), random(&[5]).abs());
        let magnitude = magnitude.set_requires_grad(true);
        let dora = Some(Dora { magnitude, norms: RowNorms::default(), version: Arc::default() });
        let dropout = Arc::new(Dropout::new(dropout));
        (Lora { a, b, scale: 0.5, dora, dropout, salt: 9 }, random(&[5, 8]))
    }

    fn dense(weight: &Tensor) -> LinearWeight {
        LinearWeight::Dense(weight.shallow_clone())
    }

    /// The formulas of peft 0.21.2 (`tuners/lora/dora.py`, `variants.py`), written down with its terms.
    #[test]
    fn dora_drops_the_inputs_of_its_change_as_in_peft() {
        tch::manual_seed(1);
        for share in [0.0, 0.4] {
            let (lora, weight) = layer(share);
            lora.dropout.seed(Some(3));
            let (x, bias) =
                (Tensor::randn([4, 8], (Kind::Float, Device::Cpu)), Tensor::from_slice(&[1.0_f32; 5]));
            let dropped = lora.dropout.apply(&x, 9).unwrap();
            let norm = (&weight + lora.b.matmul(&lora.a) * 0.5)
                .square()
                .sum_dim_intlist([1].as_slice(), false, Kind::Float)
                .sqrt();
            let factor = (&lora.dora.as_ref().unwrap().magnitude / norm).view([1, -1]);
            let low = dropped.matmul(&lora.a.tr()).matmul(&lora.b.tr()) * 0.5;
            let expected = x.matmul(&weight.tr())
                + &bias
                + (&factor - 1.0) * dropped.matmul(&weight.tr())
                + &factor * low;
            let ours = lora.adapted(&x, &dense(&weight), Some(&bias)).unwrap();
            let far = f64::try_from((ours - expected).abs().max()).unwrap();
            assert!(far < 1e-5, "{share}: {far}");
        }
    }

    /// In bfloat16 a factor of 1.001 is 1.
    #[test]
    fn small_changes_of_magnitudes_count_in_bfloat16() {
        tch::manual_seed(2);
        let (lora, weight) = layer(0.0);
        let x = Tensor::randn([64, 8], (Kind::Float, Device::Cpu)).to_kind(Kind::BFloat16);
        let weight = weight.to_kind(Kind::BFloat16);
        let sum = |lora: &Lora| {
            let y = lora.adapted(&x, &dense(&weight), None).unwrap();
            assert_eq!(y.kind(), Kind::BFloat16);
            f64::try_from(y.abs().sum(Kind::Double)).unwrap()
        };
        let before = sum(&lora);
        tch::no_grad(|| drop(lora.dora.as_ref().unwrap().magnitude.shallow_clone().g_mul_scalar_(1.001)));
        let ratio = sum(&lora) / before;
        assert!((ratio - 1.001).abs() < 5e-4, "{ratio}");
    }
}
