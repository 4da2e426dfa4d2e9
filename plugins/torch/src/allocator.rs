//! Tuning of the C library's allocator.

/// Makes glibc's allocator keep freed memory for reuse. By default it maps each large tensor on allocation and
/// unmaps it on drop, so that the kernel zeroes its pages every time, which takes a fifth of an iteration on a CPU.
/// To be called first in `main`, before other threads exist. No effect on other systems.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[allow(unsafe_code)]
pub fn keep_freed_memory() {
    let settings = [
        // One arena: per-thread arenas cannot hold large tensors.
        (libc::M_ARENA_MAX, 1),
        (libc::M_MMAP_MAX, 0),
        (libc::M_TRIM_THRESHOLD, libc::c_int::MAX),
        (libc::M_TOP_PAD, 64 << 20),
    ];
    for (setting, value) in settings {
        // SAFETY: mallopt takes two integers and sets a parameter of malloc; unknown parameters are ignored.
        let _ = unsafe { libc::mallopt(setting, value) };
    }
}

/// No effect on this system.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub fn keep_freed_memory() {}
