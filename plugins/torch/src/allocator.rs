//! How the C library keeps memory that libtorch gives back.

/// Keeps freed memory for the next tensors. By default glibc maps a large tensor when it is made and unmaps it
/// when it is dropped, so that the kernel zeroes all of its pages each time: a fifth of an
/// iteration on a CPU.
/// Call it first in `main`, before other threads exist. Does nothing on other systems.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[allow(unsafe_code)]
pub fn keep_freed_memory() {
    let settings = [
        // One arena: a thread's own cannot hold a large tensor.
        (libc::M_ARENA_MAX, 1),
        (libc::M_MMAP_MAX, 0),
        (libc::M_TRIM_THRESHOLD, libc::c_int::MAX),
        (libc::M_TOP_PAD, 64 << 20),
    ];
    for (setting, value) in settings {
        // SAFETY: mallopt takes two integers and sets a parameter of malloc. One that it does not know changes
        // nothing.
        let _ = unsafe { libc::mallopt(setting, value) };
    }
}

/// Does nothing here.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub fn keep_freed_memory() {}
