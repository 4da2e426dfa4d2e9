//! Files that `file:` URLs may name.

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

    /// Resolves a `file:` URL to a canonical path below an allowed folder. Symbolic links are followed before the check. A
    /// missing file and a forbidden one give the same error, so that clients cannot probe for files.
    pub(crate) async fn file(&self, url: &str, at: &str) -> Result<PathBuf, ApiError> {
        let path = Url::parse(url).ok().and_then(|url| url.to_file_path().ok());
        let path =
            path.ok_or_else(|| ApiError::bad_value(at, format!("{at}: `{url}` is no URL of a file")))?;
        match self.real(&path).await {
            Some(real) => Ok(real),
            None => {
                let message = format!(
                    "{at}: {} is not a file in a folder that this server may read (--allow-dir)",
                    path.display()
                );
                Err(ApiError::bad_value(at, message))
            }
        }
    }

    async fn real(&self, path: &Path) -> Option<PathBuf> {
        let real = tokio::fs::canonicalize(path).await.ok()?;
        let allowed = self.folders.iter().any(|folder| real.starts_with(folder));
        let is_file = tokio::fs::metadata(&real).await.is_ok_and(|data| data.is_file());
        (allowed && is_file).then_some(real)
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
            assert_eq!(allowed.file(&url, "here").await.unwrap(), real);
        }
        let back = format!("file://{}/back", outside.path().display());
        assert_eq!(allowed.file(&back, "here").await.unwrap(), real, "what counts is where it lies");
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

    #[test]
    fn a_folder_that_is_not_there_is_named() {
        let error = AllowedFolders::new(&["/no/such/folder".into()]).err().unwrap().to_string();
        assert!(error.starts_with("--allow-dir /no/such/folder: "), "{error}");
        assert!(AllowedFolders::new(&["/etc/passwd".into()]).is_err());
    }
}
