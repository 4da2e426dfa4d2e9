//! Location of the `ffmpeg` program.

use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use crate::FfmpegError;

/// Path of the program within a checkout, as installed by `cargo xtask setup`.
const IN_CHECKOUT: &str = ".ffmpeg/ffmpeg";

/// Locates `ffmpeg`: the path in `ISR_FFMPEG`; else `.ffmpeg/ffmpeg` or `ffmpeg` beside this executable;
/// else `.ffmpeg/ffmpeg` of the checkout that it was built in, as installed by `cargo xtask setup`; else that of
/// `cargo xtask setup --user` in the user's cache folder; else the program on `PATH`.
///
/// Links to this executable are followed. The working directory does not matter. A program that is found beside
/// the executable, in the checkout or in the cache is used only if nobody but the user and root can have
/// put it there. Searches the file system on each call; callers should cache the result.
///
/// # Errors
/// [`FfmpegError::NotExecutable`] for an invalid `ISR_FFMPEG`, which has no fallback;
/// [`FfmpegError::Untrusted`]; [`FfmpegError::NotFound`].
pub fn locate() -> Result<PathBuf, FfmpegError> {
    if let Some(named) = env::var_os("ISR_FFMPEG").filter(|value| !value.is_empty()) {
        return explicit(PathBuf::from(named));
    }
    let executable = env::current_exe().and_then(|path| path.canonicalize()).ok();
    let mut places = executable.map(|path| around(&path)).unwrap_or_default();
    places.extend(checkout());
    places.extend(user_cache());
    let (trusted, untrusted) = first_trusted(&places);
    trusted
        .or_else(|| env::var_os("PATH").and_then(|path| on_path(&path)))
        .ok_or_else(|| untrusted.unwrap_or(FfmpegError::NotFound))
}

fn explicit(named: PathBuf) -> Result<PathBuf, FfmpegError> {
    if is_executable(&named) { Ok(named) } else { Err(FfmpegError::NotExecutable(named)) }
}

/// Places beside an executable, and in the project whose `target` folder holds it.
fn around(executable: &Path) -> Vec<PathBuf> {
    let beside = executable.parent().into_iter().flat_map(|folder| {
        [folder.join(IN_CHECKOUT), folder.join(format!("ffmpeg{}", env::consts::EXE_SUFFIX))]
    });
    let targets = executable.ancestors().filter(|folder| folder.file_name() == Some(OsStr::new("target")));
    beside.chain(targets.filter_map(Path::parent).map(|project| project.join(IN_CHECKOUT))).collect()
}

/// The checkout that this crate was compiled in, for builds with a target folder elsewhere.
fn checkout() -> Option<PathBuf> {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR"));
    Some(crates.parent()?.parent()?.join(IN_CHECKOUT))
}

/// Where `cargo xtask setup --user` puts it.
fn user_cache() -> Option<PathBuf> {
    let named = env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let cache = named.or_else(|| Some(env::home_dir()?.join(".cache")))?;
    Some(cache.join("isr-dpo").join(IN_CHECKOUT))
}

/// The first program that is trusted, and the first that is passed over.
fn first_trusted(places: &[PathBuf]) -> (Option<PathBuf>, Option<FfmpegError>) {
    let mut passed_over = None;
    for place in places.iter().filter(|place| is_executable(place)) {
        match distrust(place) {
            None => return (Some(place.clone()), passed_over),
            Some(reason) => {
                passed_over.get_or_insert(FfmpegError::Untrusted { program: place.clone(), reason });
            }
        }
    }
    (None, passed_over)
}

/// Why somebody else could have put a program where it is: it or its folder belongs to another user, or
/// everybody may write to it. Links are followed.
#[cfg(unix)]
fn distrust(program: &Path) -> Option<String> {
    use std::os::unix::fs::MetadataExt;
    let us = rustix::process::geteuid().as_raw();
    let program = program.canonicalize().ok()?;
    program.ancestors().take(2).find_map(|path| {
        let data = path.metadata().ok()?;
        let path = path.display();
        match data.uid() {
            owner if owner != us && owner != 0 => Some(format!("{path} belongs to another user ({owner})")),
            _ if data.mode() & 0o002 != 0 => Some(format!("everybody may write to {path}")),
            _ => None,
        }
    })
}

#[cfg(not(unix))]
fn distrust(_: &Path) -> Option<String> {
    None
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
    fn only_the_executables_own_places_are_searched() {
        let built = around(Path::new("/home/me/isr/target/x86_64-unknown-linux-gnu/release/isr"));
        assert!(built.contains(&PathBuf::from("/home/me/isr/.ffmpeg/ffmpeg")), "{built:?}");
        let installed = around(Path::new("/opt/isr/bin/isr"));
        let beside = ["/opt/isr/bin/.ffmpeg/ffmpeg", "/opt/isr/bin/ffmpeg"].map(PathBuf::from);
        assert_eq!(installed, beside, "and no parent folder");
    }

    #[test]
    fn what_anybody_could_have_put_there_is_not_run() {
        let folder = tempfile::tempdir().unwrap();
        let (open, writable) = (folder.path().join("open/ffmpeg"), folder.path().join("writable/ffmpeg"));
        program(&open, 0o755);
        fs::set_permissions(open.parent().unwrap(), fs::Permissions::from_mode(0o777)).unwrap();
        program(&writable, 0o757);
        let good = program(&folder.path().join("good/ffmpeg"), 0o755);
        let (found, refused) = first_trusted(&[open.clone(), writable.clone(), good.clone()]);
        assert_eq!(found, Some(good));
        let message = refused.unwrap().to_string();
        assert!(message.contains("everybody may write to") && message.contains("open"), "{message}");
        assert_eq!(first_trusted(&[writable]).0, None);
        let root = rustix::process::geteuid().is_root();
        if root && std::os::unix::fs::chown(&open, Some(12345), None).is_ok() {
            let message = first_trusted(&[open]).1.unwrap().to_string();
            assert!(message.contains("belongs to another user (12345)"), "{message}");
        }
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
