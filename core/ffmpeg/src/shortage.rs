//! Shortage of the machine's resources, which is no fault of the file that is being decoded.

use std::io;

const MEMORY: &str = "the machine is short of memory: lower `video.processes`, or give the job more memory";
const THREADS: &str = "the limit on processes and threads is reached: lower `video.processes`, or raise \
                       `ulimit -u` (in a container or a Slurm job: its limit on pids)";
const FILES: &str = "too many files are open: raise `ulimit -n`, or lower `video.processes`";
const DISK: &str = "the disk or the quota is full: make room";
const DEVICE: &str = "the disk or the network file system fails: check it, then continue the run";

/// Returns the remedy for an error of the operating system that says something about the machine and nothing
/// about the file; `None` for any other error, such as a missing file.
pub fn remedy_for(error: &io::Error) -> Option<&'static str> {
    match error.kind() {
        io::ErrorKind::OutOfMemory => Some(MEMORY),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Some(DISK),
        io::ErrorKind::StaleNetworkFileHandle => Some(DEVICE),
        _ => of_system(error),
    }
}

#[cfg(unix)]
fn of_system(error: &io::Error) -> Option<&'static str> {
    use rustix::io::Errno;
    let code = Errno::from_raw_os_error(error.raw_os_error()?);
    match code {
        Errno::MFILE | Errno::NFILE => Some(FILES),
        Errno::AGAIN => Some(THREADS),
        Errno::IO | Errno::NOTCONN | Errno::TIMEDOUT => Some(DEVICE),
        _ => None,
    }
}

#[cfg(not(unix))]
fn of_system(_: &io::Error) -> Option<&'static str> {
    None
}

/// Returns the remedy for a message of ffmpeg, of the shell or of the dynamic linker that tells of a shortage.
/// "Cannot allocate memory" is left out: ffmpeg says so as well of a file that asks for too much.
pub fn remedy_for_message(message: &str) -> Option<&'static str> {
    let says = |part: &str| message.contains(part);
    if says("pthread_create") || says("Resource temporarily unavailable") {
        Some(THREADS)
    } else if says("Too many open files") {
        Some(FILES)
    } else if says("No space left on device") || says("Disk quota exceeded") {
        Some(DISK)
    } else {
        None
    }
}

/// Returns whether a new process cannot have `bytes` of address space whatever its own limit: this process has
/// inherited a lower one, or the system commits no more memory (`vm.overcommit_memory = 2`).
pub fn memory_is_short(bytes: u64) -> bool {
    [address_space(), uncommitted()].into_iter().flatten().any(|most| most < bytes)
}

fn uncommitted() -> Option<u64> {
    let mode = std::fs::read_to_string("/proc/sys/vm/overcommit_memory").ok()?;
    if mode.trim() != "2" {
        return None;
    }
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let kib = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().trim_end_matches(" kB").parse::<u64>().ok()
    };
    Some(kib("CommitLimit:")?.saturating_sub(kib("Committed_AS:")?) * 1024)
}

#[cfg(unix)]
fn address_space() -> Option<u64> {
    rustix::process::getrlimit(rustix::process::Resource::As).current
}

#[cfg(not(unix))]
fn address_space() -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_file_is_no_shortage() {
        assert_eq!(remedy_for(&io::ErrorKind::NotFound.into()), None);
        assert_eq!(remedy_for_message("[h264 @ 0x1] [error] no frame!"), None);
    }

    #[cfg(unix)]
    #[test]
    fn shortage_has_a_remedy() {
        use rustix::io::Errno;
        for (code, word) in [
            (Errno::MFILE, "ulimit -n"),
            (Errno::NOMEM, "memory"),
            (Errno::AGAIN, "ulimit -u"),
            (Errno::NOSPC, "make room"),
            (Errno::STALE, "network file system"),
        ] {
            let remedy = remedy_for(&code.into());
            assert!(remedy.is_some_and(|text| text.contains(word)), "{code:?}: {remedy:?}");
        }
        assert!(
            remedy_for_message("pthread_create() failed: x").is_some_and(|it| it.contains("ulimit -u"))
        );
    }
}
