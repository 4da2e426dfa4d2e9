//! Operators of libtorch that tch has no binding for (`operators.cpp`).
#![allow(unsafe_code)]

use std::ffi::{CStr, c_char, c_int, c_void};

use tch::{Kind, TchError, Tensor};

use crate::error::Result;

/// Fused attention kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kernel {
    /// `_scaled_dot_product_cudnn_attention`: 16-bit dtypes.
    CuDnn = 0,
    /// `_scaled_dot_product_efficient_attention`: all dtypes.
    Efficient = 1,
    /// `_scaled_dot_product_flash_attention_for_cpu`.
    Cpu = 2,
}

/// `at::Tensor *`.
type RawTensor = *mut c_void;

unsafe extern "C" {
    fn isr_free(text: *mut c_char);
    fn isr_attention(
        kernel: c_int,
        query: *const c_void,
        key: *const c_void,
        value: *const c_void,
        mask: *const c_void,
        scale: f64,
        out: *mut RawTensor,
    ) -> *mut c_char;
    fn isr_ragged_attention(
        query: *const c_void,
        key: *const c_void,
        value: *const c_void,
        query_begin: *const c_void,
        begin: *const c_void,
        used: *const c_void,
        longest: i64,
        scale: f64,
        out: *mut RawTensor,
    ) -> *mut c_char;
    fn isr_decode_nf4(
        codes: *const c_void,
        magnitudes: *const c_void,
        pairs: *const c_void,
        rows: i64,
        columns: i64,
        kind: c_int,
        out: *mut RawTensor,
    ) -> *mut c_char;
    fn isr_nf4_linear(
        x: *const c_void,
        value: *const c_void,
        codes: *const c_void,
        magnitudes: *const c_void,
        pairs: *const c_void,
        rows: i64,
        columns: i64,
        kind: c_int,
        wide: bool,
        out: *mut RawTensor,
    ) -> *mut c_char;
    fn isr_free_memory(device: c_int, free: *mut u64) -> *mut c_char;
    fn isr_storage_bytes(tensor: *const c_void, bytes: *mut u64) -> *mut c_char;
    fn isr_resize_storage(tensor: *const c_void, bytes: u64) -> *mut c_char;
    #[cfg(test)]
    fn isr_count_begin() -> *mut c_char;
    #[cfg(test)]
    fn isr_count_end(names: *mut *mut c_char) -> *mut c_char;
}

/// Computes attention of queries `[batch, heads, queries, dim]` over keys and values `[batch, heads, keys, dim]`, with an
/// additive mask or none. Returns attention in the queries' shape, and the log-sum-exp of scaled scores, float32
/// `[batch, heads, queries]`.
///
/// # Errors
/// A kernel that does not support device, dtype or shapes.
pub(crate) fn attention(
    kernel: Kernel,
    query: &Tensor,
    [key, value]: [&Tensor; 2],
    mask: Option<&Tensor>,
    scale: f64,
) -> Result<[Tensor; 2]> {
    let mut out = [std::ptr::null_mut(); 2];
    let mask = mask.map_or(std::ptr::null(), raw);
    // SAFETY: all pointers are to live tensors, and `out` has room for two.
    let error = unsafe {
        isr_attention(kernel as c_int, raw(query), raw(key), raw(value), mask, scale, out.as_mut_ptr())
    };
    check(error)?;
    let [attended, sums] = out.map(owned);
    // The memory-efficient kernel pads its sums, cuDNN's have one axis more.
    let shape = query.size();
    let sums = match sums.dim() {
        4 => sums.f_squeeze_dim(3)?,
        _ => sums.f_narrow(2, 0, shape[2])?,
    };
    Ok([attended, sums])
}

/// Sequences of [`ragged_attention`].
pub(crate) struct Ragged {
    /// Places of the queries, `[sequences + 1]`, int32: 0, 1, 2, ...
    pub(crate) query_begin: Tensor,
    /// Places of each sequence's first key, `[sequences + 1]`, int32.
    pub(crate) begin: Tensor,
    /// Number of each sequence's keys, `[sequences]`, int32.
    pub(crate) used: Tensor,
    /// Upper bound of `used`.
    pub(crate) longest: i64,
}

/// Computes attention of one query `[sequences, heads, dim]` of each sequence over its part of keys and values
/// `[tokens, kv_heads, dim]`. Returns attention, and log-sum-exp as the kernel has it.
///
/// # Errors
/// A device other than CUDA, a dtype of other than 16 bits, or shapes that the kernel does not support.
pub(crate) fn ragged_attention(
    query: &Tensor,
    [key, value]: [&Tensor; 2],
    sequences: &Ragged,
    scale: f64,
) -> Result<[Tensor; 2]> {
    let mut out = [std::ptr::null_mut(); 2];
    let Ragged { query_begin, begin, used, longest } = sequences;
    // SAFETY: as in `attention`.
    let error = unsafe {
        isr_ragged_attention(
            raw(query),
            raw(key),
            raw(value),
            raw(query_begin),
            raw(begin),
            raw(used),
            *longest,
            scale,
            out.as_mut_ptr(),
        )
    };
    check(error)?;
    Ok(out.map(owned))
}

/// Weight in blocks of NF4 codes.
#[derive(Clone, Copy)]
pub(crate) struct Blocks<'b> {
    /// Two indices a byte, `[ceil(out * in / 2)]`.
    pub(crate) codes: &'b Tensor,
    /// Largest magnitude of each block of 64, float32.
    pub(crate) magnitudes: &'b Tensor,
    /// Values of pairs of indices, two float32 in an int64, `[256]`.
    pub(crate) pairs: &'b Tensor,
    /// `[out, in]`.
    pub(crate) shape: [i64; 2],
    /// Dtype of the decoded weight.
    pub(crate) kind: Kind,
}

/// Returns libtorch's number of a dtype, which tch keeps to itself.
fn scalar_type(kind: Kind) -> Result<c_int> {
    match kind {
        Kind::Half => Ok(5),
        Kind::Float => Ok(6),
        Kind::Double => Ok(7),
        Kind::BFloat16 => Ok(15),
        other => Err(TchError::Kind(format!("weights are not of type {other:?}")).into()),
    }
}

/// Decodes a weight `[out, in]`.
pub(crate) fn decode_nf4(blocks: &Blocks<'_>) -> Result<Tensor> {
    let Blocks { codes, magnitudes, pairs, shape: [rows, columns], kind } = *blocks;
    let mut out = std::ptr::null_mut();
    // SAFETY: all pointers are to live tensors, and `out` to a live pointer.
    check(unsafe {
        isr_decode_nf4(
            raw(codes),
            raw(magnitudes),
            raw(pairs),
            rows,
            columns,
            scalar_type(kind)?,
            &raw mut out,
        )
    })?;
    Ok(owned(out))
}

/// Gives `value`, the product of `x` `[.., in]` with a weight in blocks, the graph of that product. The backward pass decodes
/// the weight anew; its product is in float32 if `wide`.
pub(crate) fn nf4_linear(x: &Tensor, value: &Tensor, blocks: &Blocks<'_>, wide: bool) -> Result<Tensor> {
    let Blocks { codes, magnitudes, pairs, shape: [rows, columns], kind } = *blocks;
    let mut out = std::ptr::null_mut();
    // SAFETY: as in `decode_nf4`.
    check(unsafe {
        isr_nf4_linear(
            raw(x),
            raw(value),
            raw(codes),
            raw(magnitudes),
            raw(pairs),
            rows,
            columns,
            scalar_type(kind)?,
            wide,
            &raw mut out,
        )
    })?;
    Ok(owned(out))
}

/// Returns the free bytes of CUDA device `index`.
pub(crate) fn free_memory(index: usize) -> Result<u64> {
    let mut free = 0;
    // SAFETY: the pointer is to a live integer.
    check(unsafe { isr_free_memory(index as c_int, &raw mut free) })?;
    Ok(free)
}

/// Returns the bytes of the memory that a tensor is in; of a view, of all the memory that it is a part of.
pub(crate) fn storage_bytes(tensor: &Tensor) -> Result<u64> {
    let mut bytes = 0;
    // SAFETY: the pointers are to a live tensor and a live integer.
    check(unsafe { isr_storage_bytes(raw(tensor), &raw mut bytes) })?;
    Ok(bytes)
}

/// Gives the memory of a tensor back (0 bytes), or allocates it anew with the bytes that it had, for the tensor and all views
/// of that memory. New memory has no values yet. libtorch does not check for memory in each operation: nothing may compute
/// with the tensor before it has memory again.
///
/// # Errors
/// No memory, or memory that libtorch has not allocated.
pub(crate) fn resize_storage(tensor: &Tensor, bytes: u64) -> Result<()> {
    // SAFETY: the pointer is to a live tensor, whose memory libtorch's allocator replaces; callers keep to the rule above.
    check(unsafe { isr_resize_storage(raw(tensor), bytes) })
}

/// Returns the names of the operations that `work` dispatches on this thread: outermost ones, views left out.
#[cfg(test)]
pub(crate) fn dispatched(work: impl FnOnce()) -> Vec<String> {
    // SAFETY: no preconditions.
    check(unsafe { isr_count_begin() }).unwrap();
    work();
    let mut names = std::ptr::null_mut();
    // SAFETY: the pointer is to a live pointer.
    check(unsafe { isr_count_end(&raw mut names) }).unwrap();
    text(names).lines().map(str::to_owned).collect()
}

fn raw(tensor: &Tensor) -> *const c_void {
    tensor.as_ptr().cast()
}

fn owned(tensor: RawTensor) -> Tensor {
    // SAFETY: the pointer is to a tensor that a call has created, and that nothing else owns.
    unsafe { Tensor::from_ptr(tensor.cast()) }
}

/// Turns what a C++ function of this crate returned into a result.
pub(crate) fn check(error: *mut c_char) -> Result<()> {
    if error.is_null() { Ok(()) } else { Err(TchError::Torch(text(error)).into()) }
}

/// Takes over a text of the C library's allocator.
fn text(text: *mut c_char) -> String {
    // SAFETY: the pointer is to a text that a call has allocated, which is read and freed once.
    unsafe {
        let read = CStr::from_ptr(text).to_string_lossy().into_owned();
        isr_free(text);
        read
    }
}
