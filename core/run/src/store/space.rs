//! Free space, and errors of a full disk.

use std::error::Error as StdError;
use std::io::{self, ErrorKind};
use std::path::Path;

use isr_api::Error;

/// Returns the bytes that an ordinary user may still write in a directory, or in the first one above it that exists;
/// `None` where the system does not say.
pub fn free_bytes(dir: &Path) -> Option<u64> {
    let dir = std::path::absolute(dir).ok()?;
    let existing = dir.ancestors().find(|path| path.is_dir())?;
    #[cfg(unix)]
    let free = rustix::fs::statvfs(existing).ok().map(|stat| stat.f_bavail.saturating_mul(stat.f_frsize));
    #[cfg(not(unix))]
    let free = None;
    free
}

/// Returns a number of bytes in MiB or GiB.
pub fn shown_bytes(bytes: u64) -> String {
    const GIB: f64 = (1_u64 << 30) as f64;
    match bytes as f64 {
        bytes if bytes >= GIB => format!("{:.1} GiB", bytes / GIB),
        bytes if bytes >= GIB / 1024.0 => format!("{:.1} MiB", bytes * 1024.0 / GIB),
        bytes => format!("{bytes} bytes"),
    }
}

/// Returns the error of a write that failed; a full disk is named as such, with the bytes that were to be written.
pub(crate) fn write_error(path: &Path, needed: u64, source: io::Error) -> Error {
    if is_full(&source) { no_space(path, needed, &source) } else { Error::io("write", path, source) }
}

/// Names a full disk as the cause where an error has it as one. `needed` is what a checkpoint at `path` takes.
pub(crate) fn explained(error: Error, path: &Path, needed: u64) -> Error {
    match cause(&error) {
        Some(source) => no_space(path, needed, source),
        None => error,
    }
}

fn no_space(path: &Path, needed: u64, source: &io::Error) -> Error {
    let folder = path.parent().unwrap_or(path);
    let free = free_bytes(folder).map_or("an unknown number of bytes".to_owned(), shown_bytes);
    let reason = format!(
        "{source}; it takes {} or more, and {free} are free in {}{}",
        shown_bytes(needed),
        folder.display(),
        limit(source)
    );
    Error::NoSpace { path: path.to_owned(), reason }
}

fn limit(source: &io::Error) -> &'static str {
    match source.kind() {
        ErrorKind::FileTooLarge => " (a limit of this process or file system holds: see `ulimit -f`)",
        ErrorKind::QuotaExceeded => " (a quota holds)",
        _ => "",
    }
}

/// The first cause that is a full disk.
fn cause<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a io::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        match error.downcast_ref::<io::Error>() {
            Some(source) if is_full(source) => return Some(source),
            _ => next = error.source(),
        }
    }
    None
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge)
}

#[cfg(test)]
mod tests {
    use isr_api::ComponentError;

    use super::*;

    #[test]
    fn a_full_disk_is_found_behind_a_component_and_named_with_folder_and_bytes() {
        let full = ComponentError::failed(io::Error::from_raw_os_error(libc::ENOSPC));
        let (stage, subject) = ("save".to_owned(), "checkpoint".to_owned());
        let error = Error::Component { stage, subject, source: full };
        let text = explained(error, Path::new("/tmp/run/checkpoint"), 3 << 20).to_string();
        for part in
            ["/tmp/run/checkpoint", "No space left", "3.0 MiB or more", "are free in /tmp/run", "make room"]
        {
            assert!(text.contains(part), "{part}: {text}");
        }
        let other = explained(Error::Cancelled, Path::new("x"), 1);
        assert!(matches!(other, Error::Cancelled));
        assert!(free_bytes(Path::new("/tmp/none/of/this")).unwrap() > 0);
    }
}
