//! Files that `file:` URLs may name.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use url::Url;

use crate::openai::error::{ApiError, ServeError};

/// Folders below which files may be read.
pub(crate) struct AllowedFolders {
    /// Canonical paths.
    folders: Vec<PathBuf>,
}

impl AllowedFolders {
    pub(crate) fn new(folders: &[PathBuf]) -> Result<Self, ServeError> {
        let real = |path: &PathBuf| {
            let found = path.canonicalize().and_then(|real| match real.is_dir() {
                true => Ok(real),
                false => Err(std::io::Error::from(std::io::ErrorKind::NotADirectory)),
            });
            found.map_err(|source| ServeError::Folder { path: path.clone(), source })
        };
        Ok(Self { folders: folders.iter().map(real).collect::<Result<_, _>>()? })
    }

    /// Opens the file of a `file:` URL, if it is below an allowed folder. Symbolic links are followed before the check. A
    /// missing file and a forbidden one give the same error, so that clients cannot probe for files.
    pub(crate) async fn file(&self, url: &str, at: &str) -> Result<AllowedFile, ApiError> {
        let path = Url::parse(url).ok().and_then(|url| url.to_file_path().ok());
        let path =
            path.ok_or_else(|| ApiError::bad_value(at, format!("{at}: `{url}` is no URL of a file")))?;
        let (folders, asked) = (self.folders.clone(), path.clone());
        let opened = tokio::task::spawn_blocking(move || AllowedFile::open(&folders, &asked)).await;
        opened.ok().flatten().ok_or_else(|| {
            let message = format!(
                "{at}: {} is not a file in a folder that this server may read (--allow-dir)",
                path.display()
            );
            ApiError::bad_value(at, message)
        })
    }
}

/// An open file below an allowed folder.
#[derive(Debug)]
pub(crate) struct AllowedFile {
    /// Canonical path.
    pub(crate) path: PathBuf,
    pub(crate) file: File,
}

impl AllowedFile {
    fn open(folders: &[PathBuf], path: &Path) -> Option<Self> {
        let allowed = |path: &Path| folders.iter().any(|folder| path.starts_with(folder));
        let path = path.canonicalize().ok().filter(|path| allowed(path))?;
        // A pipe, which has taken the file's place since, must not block.
        let mut how = File::options();
        let file = how.read(true).custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC).open(&path).ok()?;
        let opened = Self { path, file };
        // The path may have become a link in between: what was opened counts.
        let is_file = opened.file.metadata().is_ok_and(|data| data.is_file());
        let real = opened.descriptor().canonicalize().ok()?;
        (is_file && allowed(&real)).then_some(opened)
    }

    /// Path of the open file itself, for this user's other processes too, whatever its name has come to mean.
    #[cfg(target_os = "linux")]
    pub(crate) fn descriptor(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd()).into()
    }

    /// The file's path: only Linux has names for the open files of another process.
    #[cfg(not(target_os = "linux"))]
    pub(crate) fn descriptor(&self) -> PathBuf {
        self.path.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_files_inside_may_be_read_whatever_links_say() {
        let (inside, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let [clip, secret] = [inside.path().join("a clip.mp4"), outside.path().join("secret")];
        std::fs::write(&clip, "x").unwrap();
        std::fs::write(&secret, "x").unwrap();
        std::os::unix::fs::symlink(&secret, inside.path().join("link")).unwrap();
        std::os::unix::fs::symlink(outside.path(), inside.path().join("folder")).unwrap();
        std::os::unix::fs::symlink(&clip, outside.path().join("back")).unwrap();
        let sibling = PathBuf::from(format!("{}-sibling", inside.path().display()));
        std::fs::create_dir(&sibling).unwrap();
        std::fs::write(sibling.join("clip"), "x").unwrap();

        let allowed = AllowedFolders::new(&[inside.path().to_owned()]).unwrap();
        let root = inside.path().display();
        let real = clip.canonicalize().unwrap();
        for url in [format!("file://{root}/a%20clip.mp4"), format!("file://localhost{root}/./a%20clip.mp4")]
        {
            assert_eq!(allowed.file(&url, "here").await.unwrap().path, real);
        }
        let back = format!("file://{}/back", outside.path().display());
        assert_eq!(allowed.file(&back, "here").await.unwrap().path, real, "what counts is where it lies");
        let escape = outside.path().file_name().unwrap().to_string_lossy().into_owned();
        for url in [
            format!("file://{root}/link"),
            format!("file://{root}/folder/secret"),
            format!("file://{root}/../{escape}/secret"),
            format!("file://{root}/%2e%2e/{escape}/secret"),
            format!("file://{root}"),
            format!("file://{root}/no-such-file"),
            format!("file://{root}-sibling/clip"),
            "file:///etc/passwd".to_owned(),
        ] {
            let error = allowed.file(&url, "here").await.unwrap_err();
            assert!(error.message.ends_with("may read (--allow-dir)"), "{url}: {}", error.message);
        }
        for url in ["file://other.host/a", "https://example.com/a.mp4", "clip.mp4"] {
            let error = allowed.file(url, "here").await.unwrap_err();
            assert!(error.message.ends_with("is no URL of a file"), "{url}: {}", error.message);
        }
        std::fs::remove_dir_all(sibling).unwrap();
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn an_open_file_stays_what_it_was_when_its_name_becomes_a_link() {
        let (inside, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let [clip, secret] = [inside.path().join("clip"), outside.path().join("secret")];
        std::fs::write(&clip, "clip").unwrap();
        std::fs::write(&secret, "secret").unwrap();
        let allowed = AllowedFolders::new(&[inside.path().to_owned()]).unwrap();
        let opened = allowed.file(&format!("file://{}", clip.display()), "here").await.unwrap();
        std::fs::remove_file(&clip).unwrap();
        std::os::unix::fs::symlink(&secret, &clip).unwrap();
        assert_eq!(std::fs::read_to_string(opened.descriptor()).unwrap(), "clip");
    }

    #[test]
    fn a_folder_that_is_not_there_is_named() {
        let error = AllowedFolders::new(&["/no/such/folder".into()]).err().unwrap().to_string();
        assert!(error.starts_with("--allow-dir /no/such/folder: "), "{error}");
        assert!(AllowedFolders::new(&["/etc/passwd".into()]).is_err());
    }
}
