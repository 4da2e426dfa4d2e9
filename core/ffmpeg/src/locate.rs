//! Location of the `ffmpeg` program.

use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use crate::FfmpegError;

/// Path of the program within a checkout, as installed by `cargo xtask setup`.
const IN_CHECKOUT: &str = ".ffmpeg/ffmpeg";

/// Locates `ffmpeg`: the path in `ISR_FFMPEG`; else `.ffmpeg/ffmpeg` in an ancestor folder of this executable,
/// then in the current folder or an ancestor; else that of `cargo xtask setup --user` in the user's cache folder; else
/// the program on `PATH`.
///
/// Searches the file system on each call; callers should cache the result.
///
/// # Errors
/// [`FfmpegError::NotExecutable`] for an invalid `ISR_FFMPEG`, which has no fallback;
/// [`FfmpegError::NotFound`].
pub fn locate() -> Result<PathBuf, FfmpegError> {
    if let Some(named) = env::var_os("ISR_FFMPEG").filter(|value| !value.is_empty()) {
        return explicit(PathBuf::from(named));
    }
    let roots = [env::current_exe().ok(), env::current_dir().ok()];
    roots
        .iter()
        .flatten()
        .find_map(|start| in_ancestors(start))
        .or_else(in_user_cache)
        .or_else(|| env::var_os("PATH").and_then(|path| on_path(&path)))
        .ok_or(FfmpegError::NotFound)
}

fn explicit(named: PathBuf) -> Result<PathBuf, FfmpegError> {
    if is_executable(&named) { Ok(named) } else { Err(FfmpegError::NotExecutable(named)) }
}

fn in_ancestors(start: &Path) -> Option<PathBuf> {
    start.ancestors().map(|folder| folder.join(IN_CHECKOUT)).find(|path| is_executable(path))
}

/// Where `cargo xtask setup --user` puts it.
fn in_user_cache() -> Option<PathBuf> {
    let named = env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let cache = named.or_else(|| Some(env::home_dir()?.join(".cache")))?;
    Some(cache.join("isr-dpo").join(IN_CHECKOUT)).filter(|path| is_executable(path))
}

fn on_path(path: &OsStr) -> Option<PathBuf> {
    let program = format!("ffmpeg{}", env::consts::EXE_SUFFIX);
    env::split_paths(path)
        // A relative entry would depend on the working directory.
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join(&program))
        .find(|candidate| is_executable(candidate))
}

#[cfg(unix)]
fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
}

#[cfg(not(unix))]
fn is_executable(path: &Path) -> bool {
    path.is_file()
}

#[cfg(all(test, unix))]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn program(path: &Path, mode: u32) -> PathBuf {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        path.to_owned()
    }

    #[test]
    fn a_named_program_is_used_or_refused_but_never_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let good = program(&folder.path().join("good"), 0o755);
        let plain = program(&folder.path().join("plain"), 0o644);
        assert_eq!(explicit(good.clone()).unwrap(), good);
        let message = explicit(plain.clone()).unwrap_err().to_string();
        assert!(message.contains(plain.to_str().unwrap()) && message.contains("ISR_FFMPEG"), "{message}");
        assert!(explicit(folder.path().to_owned()).is_err(), "a folder is no program");
    }

    #[test]
    fn the_checkouts_program_is_found_from_any_folder_below() {
        let folder = tempfile::tempdir().unwrap();
        let ours = program(&folder.path().join(IN_CHECKOUT), 0o755);
        assert_eq!(in_ancestors(&folder.path().join("target/debug/isr")), Some(ours.clone()));
        assert_eq!(in_ancestors(folder.path()), Some(ours));
    }

    #[test]
    fn path_is_searched_in_order_and_skips_what_cannot_run() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        program(&at("first/ffmpeg"), 0o644);
        let second = program(&at("second/ffmpeg"), 0o755);
        program(&at("third/ffmpeg"), 0o755);
        let path = env::join_paths([at("none"), at("first"), at("second"), at("third")]).unwrap();
        assert_eq!(on_path(&path), Some(second));
        assert_eq!(on_path(OsStr::new("")), None);
    }
}
