//! Identity of videos: different spellings of one path, and links, are the same video.

use std::collections::HashSet;
use std::path::{Component, Path, PathBuf};

use isr_api::VideoSpan;

/// Set of videos.
pub(crate) struct Videos(HashSet<PathBuf>);

impl Videos {
    pub(crate) fn new<'a>(paths: impl Iterator<Item = &'a Path>) -> Self {
        Self(paths.map(identity).collect())
    }

    /// Whether it has this video under any path.
    pub(crate) fn has(&self, path: &Path) -> bool {
        self.0.contains(&identity(path))
    }
}

/// The real path of a file, whatever part of it is named; of one that does not exist, the absolute path without `.` and `..`.
fn identity(path: &Path) -> PathBuf {
    let (path, _) = VideoSpan::split(path);
    if let Ok(real) = path.canonicalize() {
        return real;
    }
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut plain = PathBuf::new();
    for part in absolute.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                plain.pop();
            }
            part => plain.push(part),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_and_links_are_one_video() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("a.mp4"), "").unwrap();
        std::fs::create_dir(at("clips")).unwrap();
        let (real, gone) = (at("a.mp4"), at("gone.mp4"));
        let videos = Videos::new([real.as_path(), gone.as_path()].into_iter());
        assert!(videos.has(&at("./a.mp4")) && videos.has(&at("clips/../a.mp4")));
        assert!(videos.has(&at("a.mp4#t=1,2")), "parts of a video are that video");
        assert!(videos.has(&at("clips/./../gone.mp4")) && !videos.has(&at("b.mp4")));
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink(&real, at("link.mp4")).unwrap();
            assert!(videos.has(&at("link.mp4")));
        }
    }
}
