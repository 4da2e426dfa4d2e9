//! Files of a run directory, opened without following symbolic links: a link in a run directory that somebody else
//! may write to would let a run change files outside it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::path::Path;

use isr_api::Error;

/// Opens or creates a file for reading and writing, and leaves its content alone.
///
/// # Errors
/// A symbolic link, which is named as such.
pub(crate) fn open_here(path: &Path) -> io::Result<File> {
    open(path, OpenOptions::new().read(true).write(true).create(true).truncate(false))
}

/// Opens or creates a file for reading and appending; otherwise as [`open_here`].
pub(super) fn open_to_append(path: &Path) -> io::Result<File> {
    open(path, OpenOptions::new().read(true).append(true).create(true))
}

/// Creates a file that is to be renamed, in place of the remains of an earlier attempt.
///
/// # Errors
/// As [`open_here`].
pub(super) fn create_aside(path: &Path) -> io::Result<File> {
    refuse_link(path)?;
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // `create_new` follows no link, and truncates nothing.
    OpenOptions::new().write(true).create_new(true).open(path)
}

/// Creates a directory of a run, unless it is there.
///
/// # Errors
/// [`Error::Io`] for a parent that does not exist, and for a symbolic link.
pub(crate) fn create_dir_here(path: &Path) -> Result<(), Error> {
    let created = refuse_link(path).and_then(|()| match fs::create_dir(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        outcome => outcome,
    });
    created.map_err(|error| Error::io("create", path, error))
}

/// Rejects a path that is a symbolic link itself.
pub(crate) fn refuse_link(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(data) if data.file_type().is_symlink() => Err(is_link()),
        _ => Ok(()),
    }
}

fn open(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    refuse_link(path)?;
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(options, libc::O_NOFOLLOW);
    options.open(path).map_err(|error| match error.raw_os_error() {
        Some(libc::ELOOP) => is_link(),
        _ => error,
    })
}

fn is_link() -> io::Error {
    io::Error::other("it is a symbolic link, which is not followed here; remove the link")
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_are_refused_by_name_and_what_they_point_to_stays() {
        let dir = tempfile::tempdir().unwrap();
        let (target, link) = (dir.path().join("target"), dir.path().join("link"));
        fs::write(&target, "mine").unwrap();
        symlink(&target, &link).unwrap();
        for error in [open_here(&link), open_to_append(&link), create_aside(&link)] {
            assert!(error.unwrap_err().to_string().contains("symbolic link"));
        }
        assert_eq!(fs::read_to_string(&target).unwrap(), "mine");
        let dangling = dir.path().join("dangling");
        symlink(dir.path().join("nowhere"), &dangling).unwrap();
        assert!(open_here(&dangling).is_err() && create_dir_here(&dangling).is_err());
        assert!(!dir.path().join("nowhere").exists());
    }

    #[test]
    fn the_remains_of_an_earlier_attempt_are_replaced_and_not_written_into() {
        let dir = tempfile::tempdir().unwrap();
        let (mine, aside) = (dir.path().join("mine"), dir.path().join("a.tmp"));
        fs::write(&mine, "mine").unwrap();
        fs::hard_link(&mine, &aside).unwrap();
        create_aside(&aside).unwrap();
        assert_eq!(fs::read_to_string(&mine).unwrap(), "mine");
        assert_eq!(fs::read_to_string(&aside).unwrap(), "");
    }
}
