//! The [`Collectives`] trait: operations on tensors that the processes of a group take together.

use tch::Tensor;

use crate::error::Result;

/// Collective operations of processes that train one model together.
///
/// # Contract
/// - Each process calls the same operations in the same order, with tensors of the same length and dtype, on its own
///   device. Calls come from one thread at a time.
/// - Tensors are flat (`[count]`), contiguous and without gradient. Sums are of float32 tensors; tensors of other dtypes are
///   moved, bit for bit.
/// - A call returns when its result may be read by operations that this thread starts afterwards.
/// - All processes get the same bytes, whichever order an implementation adds in.
///
/// # Errors
/// A process that is gone or does not answer within the implementation's time limit, with its rank where it is known.
pub(crate) trait Collectives: Send + Sync {
    /// Returns the index of this process, from 0.
    fn rank(&self) -> usize;

    /// Returns the number of processes.
    fn world_size(&self) -> usize;

    /// Replaces a float32 tensor by its sum over processes.
    fn all_reduce(&self, tensor: &mut Tensor) -> Result<()>;

    /// Replaces a tensor by that of process `root`.
    #[allow(dead_code, reason = "training does not need it yet")]
    fn broadcast(&self, tensor: &mut Tensor, root: usize) -> Result<()>;

    /// Returns this process's share `[count / world_size]` of the sum of float32 tensors `[count]` over processes: the
    /// elements from `rank * count / world_size` on. `count` is a multiple of the number of processes.
    fn reduce_scatter(&self, all: &Tensor) -> Result<Tensor>;

    /// Returns the shares `[count]` of all processes one after the other, by rank: `[world_size * count]`.
    fn all_gather(&self, share: &Tensor) -> Result<Tensor>;

    /// Returns the bytes of each process, by rank. Their lengths may differ.
    fn all_gather_bytes(&self, bytes: &[u8]) -> Result<Vec<Vec<u8>>>;
}
