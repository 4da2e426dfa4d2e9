//! DoRA (arXiv 2402.09353) on a linear layer, as PEFT 0.21 computes it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tch::{Kind, Tensor};

use crate::error::Result;

/// Maximum number of elements of a weight that are converted to float32 at a time.
const PIECE: i64 = 1 << 24;

/// Magnitudes of an adapted weight's rows: the layer multiplies by `m (W + s B A) / ||W + s B A||`, whose norm is no part of
/// the graph (section 4.3).
pub(crate) struct Dora {
    /// `[out]`, float32.
    pub(super) magnitude: Tensor,
    pub(super) norms: RowNorms,
    /// Version of the adapter's values.
    pub(super) version: Arc<AtomicU64>,
}

/// Row norms of an adapted weight with the version of the values that they are of.
pub(super) type RowNorms = Arc<Mutex<Option<(u64, Tensor)>>>;

impl Dora {
    /// Returns `m / ||W + s B A||`, `[out]` in float32, with the graph of `m`.
    pub(super) fn factor(&self, weight: &dyn Fn() -> Result<Tensor>, update: Update<'_>) -> Result<Tensor> {
        Ok(self.magnitude.f_div(&self.row_norms(weight, update)?)?)
    }

    /// Returns the row norms, which are computed once for each version.
    fn row_norms(&self, weight: &dyn Fn() -> Result<Tensor>, update: Update<'_>) -> Result<Tensor> {
        let version = self.version.load(Ordering::Acquire);
        let mut known = self.norms.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, norms)) = known.as_ref().filter(|(of, _)| *of == version) {
            return Ok(norms.shallow_clone());
        }
        let norms = row_norms(&tch::no_grad(weight)?, update)?;
        *known = Some((version, norms.shallow_clone()));
        Ok(norms)
    }
}

/// Low-rank update `scale * B A` of a weight.
#[derive(Clone, Copy)]
pub(super) struct Update<'t> {
    pub(super) a: &'t Tensor,
    pub(super) b: &'t Tensor,
    pub(super) scale: f64,
}

/// Returns the L2 norm of each row of `W + scale * B A`, `[out]` in float32, without a graph.
pub(super) fn row_norms(weight: &Tensor, Update { a, b, scale }: Update<'_>) -> Result<Tensor> {
    tch::no_grad(|| {
        let (rows, width) = weight.size2()?;
        let step = (PIECE / width.max(1)).max(1);
        let norms = |first: i64| -> Result<Tensor> {
            let count = step.min(rows - first);
            let update = b.f_narrow(0, first, count)?.f_matmul(a)?.f_mul_scalar(scale)?;
            let all = weight.f_narrow(0, first, count)?.f_to_kind(Kind::Float)?.f_add(&update)?;
            Ok(all.f_linalg_norm(2.0, Some([1].as_slice()), false, Kind::Float)?)
        };
        let parts = (0..rows).step_by(step as usize).map(norms).collect::<Result<Vec<_>>>()?;
        Ok(Tensor::f_cat(&parts, 0)?)
    })
}
