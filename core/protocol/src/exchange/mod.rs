//! The exchange folder: files of raw arrays that isr and a plugin's process share, where lines would be too long.
//!
//! isr writes videos and features, each named by its content and written once; the plugin writes what it returns. Nothing
//! that a plugin names is trusted: it is a plain name, of a file of its own that is no link and has the expected size.
//! [`SharedFolder`] is the plugin's side.

mod lease;
mod shared;

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Component, Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub(crate) use lease::Lease;
pub use shared::{CallFiles, SharedFolder};
use tempfile::TempDir;

/// A memory file system, where Linux has one.
const MEMORY: &str = "/dev/shm";
/// Bytes that must be free there.
const ROOM: u64 = 1 << 30;
/// Most bytes of files that no open call names.
const BUDGET: u64 = 1 << 30;
/// Largest file that is read.
const LARGEST: usize = 1 << 30;
/// Beginning of a folder's name.
const PREFIX: &str = "isr-exchange-";
/// File in a folder that is locked while its program lives.
const LOCK: &str = ".lock";
/// Age from which a folder without a program is removed.
const STALE: Duration = Duration::from_secs(60);

/// Folders of this program, for the end of a program that drops nothing.
static LIVING: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

fn living() -> MutexGuard<'static, Vec<PathBuf>> {
    LIVING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Removes the folders that this program shares with plugins' processes. For a program that ends without dropping its
/// components; plugins that still work find their files gone.
pub fn remove_exchange_folders() {
    for folder in living().drain(..) {
        // What a plugin writes meanwhile is removed by the next program.
        let _ = fs::remove_dir_all(folder);
    }
}

/// A folder that is removed with the value. Files stay in it within a number of bytes; the least recently used go first.
pub(crate) struct Exchange {
    folder: TempDir,
    budget: u64,
    files: Mutex<Files>,
    /// Says to other programs that this one lives.
    _lock: File,
}

/// The files that isr wrote.
#[derive(Default)]
struct Files {
    by_name: HashMap<String, Known>,
    bytes: u64,
    /// Number of uses so far.
    uses: u64,
}

struct Known {
    bytes: u64,
    /// Open calls that name it.
    users: usize,
    /// Number of its last use.
    last_use: u64,
}

impl Exchange {
    /// Creates a folder in memory where there is room, else in the folder for temporary files. Removes folders of programs
    /// that were killed.
    ///
    /// # Errors
    /// A folder that cannot be created.
    pub(crate) fn create() -> io::Result<Self> {
        let memory = Path::new(MEMORY);
        let in_memory = match free_bytes(memory) {
            Some(free) if free >= ROOM => Self::create_in(memory).ok(),
            _ => None,
        };
        in_memory.map_or_else(|| Self::create_in(&std::env::temp_dir()), Ok)
    }

    fn create_in(parent: &Path) -> io::Result<Self> {
        remove_stale(parent);
        let mut builder = tempfile::Builder::new();
        builder.prefix(PREFIX);
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700));
        let folder = builder.tempdir_in(parent)?;
        let lock = OpenOptions::new().write(true).create_new(true).open(folder.path().join(LOCK))?;
        // On a file system without locks, nothing is removed for others either.
        let _ = lock.try_lock();
        let budget = free_bytes(folder.path()).map_or(BUDGET, |free| BUDGET.min(free / 4));
        living().push(folder.path().to_owned());
        Ok(Self { folder, budget, files: Mutex::default(), _lock: lock })
    }

    /// The folder's path, as the plugin is told it.
    pub(crate) fn path(&self) -> String {
        self.folder.path().to_string_lossy().into_owned()
    }

    /// A lease on the files that one call names.
    pub(crate) fn lease(&self) -> Lease<'_> {
        Lease::new(self)
    }

    fn files(&self) -> MutexGuard<'_, Files> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file unless it is there, for a call that names it.
    fn place(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let (mut files, size) = (self.files(), bytes.len() as u64);
        let is_there = files.by_name.contains_key(name)
            && fs::symlink_metadata(self.at(name)).is_ok_and(|data| data.is_file() && data.len() == size);
        if !is_there {
            self.evict(&mut files, size);
            write_whole(self.folder.path(), name, bytes)?;
        }
        files.uses += 1;
        let last_use = files.uses;
        if let Some(known) = files.by_name.get_mut(name) {
            known.users += 1;
            known.last_use = last_use;
        } else {
            files.by_name.insert(name.to_owned(), Known { bytes: size, users: 1, last_use });
            files.bytes += size;
        }
        Ok(())
    }

    /// Ends a call's use of a file.
    fn release(&self, name: &str) {
        let mut files = self.files();
        if let Some(known) = files.by_name.get_mut(name) {
            known.users = known.users.saturating_sub(1);
        }
        self.evict(&mut files, 0);
    }

    /// Removes files that no call names until there is room for so many bytes more.
    fn evict(&self, files: &mut Files, more: u64) {
        while files.bytes + more > self.budget {
            let unused = files.by_name.iter().filter(|(_, known)| known.users == 0);
            let oldest = unused.min_by_key(|(_, known)| known.last_use).map(|(name, _)| name.clone());
            let Some(name) = oldest else { return };
            if let Some(known) = files.by_name.remove(&name) {
                files.bytes -= known.bytes;
            }
            // A plugin may have removed it.
            let _ = fs::remove_file(self.at(&name));
        }
    }

    /// Reads a file of the plugin's and removes it.
    ///
    /// # Errors
    /// A name with a folder in it or of a file of isr's, a link, and another number of bytes than expected.
    pub(crate) fn take(&self, name: &str, bytes: usize) -> Result<Vec<u8>, String> {
        let shown: String = name.chars().take(80).collect();
        if !is_plain(name) {
            return Err(format!("{shown:?} is no plain name of a file in the exchange folder"));
        }
        if self.files().by_name.contains_key(name) {
            return Err(format!("`{shown}` is a file of isr's; write a file of another name"));
        }
        if bytes > LARGEST {
            return Err(format!("its shape has {bytes} bytes; at most {LARGEST} are read"));
        }
        let path = self.at(name);
        let read = read_own(&path, bytes).map_err(|reason| format!("the file `{shown}` {reason}"));
        // A link is removed, not what it leads to.
        let _ = fs::remove_file(&path);
        read
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        living().retain(|folder| folder != self.folder.path());
    }
}

/// Whether a name is that of a visible file, without a folder.
fn is_plain(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    let is_alone =
        matches!((parts.next(), parts.next()), (Some(Component::Normal(only)), None) if only == name);
    is_alone && !name.starts_with('.') && !name.contains(['/', '\\', '\0'])
}

/// Writes a file so that it appears whole.
fn write_whole(folder: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let part = folder.join(format!(".{name}"));
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).open(&part)?;
        file.write_all(bytes)?;
        fs::rename(&part, folder.join(name))
    };
    write().inspect_err(|_| drop(fs::remove_file(&part)))
}

/// Reads a regular file of just this size.
fn read_own(path: &Path, bytes: usize) -> Result<Vec<u8>, String> {
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    {
        use rustix::fs::OFlags;
        use std::os::unix::fs::OpenOptionsExt;
        // A pipe would make the reader wait.
        options.custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32);
    }
    let unreadable = |error: io::Error| format!("cannot be read: {error}");
    if fs::symlink_metadata(path).map_err(unreadable)?.is_symlink() {
        return Err("is a link".to_owned());
    }
    let mut file = options.open(path).map_err(unreadable)?;
    let data = file.metadata().map_err(unreadable)?;
    #[cfg(unix)]
    let links = std::os::unix::fs::MetadataExt::nlink(&data);
    #[cfg(not(unix))]
    let links = 1;
    if !data.is_file() || links != 1 {
        return Err("is no regular file of one name".to_owned());
    }
    if data.len() != bytes as u64 {
        return Err(format!("has {} bytes, and its shape {bytes}", data.len()));
    }
    let mut content = vec![0; bytes];
    file.read_exact(&mut content).map_err(unreadable)?;
    Ok(content)
}

/// Removes the folders of programs that were killed.
fn remove_stale(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let is_ours = entry.file_name().to_string_lossy().starts_with(PREFIX);
        let lock = entry.path().join(LOCK);
        let Ok(file) = (if is_ours { OpenOptions::new().write(true).open(&lock) } else { continue }) else {
            continue;
        };
        let age =
            file.metadata().and_then(|data| data.modified()).ok().and_then(|time| time.elapsed().ok());
        if age.is_some_and(|age| age >= STALE) && file.try_lock().is_ok() {
            // Another program may be removing it too.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Bytes that may still be written in a folder; `None` where the system does not say or there is none.
fn free_bytes(folder: &Path) -> Option<u64> {
    #[cfg(unix)]
    let free = rustix::fs::statvfs(folder).ok().map(|stat| stat.f_bavail.saturating_mul(stat.f_frsize));
    #[cfg(not(unix))]
    let free = {
        let _ = folder;
        None
    };
    free
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exchange(budget: u64) -> (TempDir, Exchange) {
        let parent = tempfile::tempdir().unwrap();
        let mut exchange = Exchange::create_in(parent.path()).unwrap();
        exchange.budget = budget;
        (parent, exchange)
    }

    fn names(exchange: &Exchange) -> Vec<String> {
        let entries = fs::read_dir(exchange.folder.path()).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.retain(|name| name != LOCK);
        names.sort();
        names
    }

    #[test]
    fn files_in_use_stay_and_the_least_recently_used_go() {
        let (_parent, exchange) = exchange(25);
        for name in ["a", "b"] {
            exchange.place(name, &[1; 10]).unwrap();
        }
        exchange.release("a");
        exchange.place("a", &[1; 10]).unwrap();
        exchange.release("b");
        exchange.release("a");
        exchange.place("c", &[2; 10]).unwrap();
        assert_eq!(names(&exchange), ["a", "c"], "b was used before a");
        exchange.place("a", &[1; 10]).unwrap();
        exchange.place("d", &[3; 10]).unwrap();
        assert_eq!(names(&exchange), ["a", "c", "d"], "all are in use");
        ["a", "c", "d"].iter().for_each(|name| exchange.release(name));
        assert_eq!(names(&exchange).len(), 2);
        fs::write(exchange.at("d"), "cut").unwrap();
        exchange.place("d", &[3; 10]).unwrap();
        assert_eq!(fs::read(exchange.at("d")).unwrap(), [3; 10], "what a plugin damages is written again");
    }

    #[test]
    fn what_a_plugin_names_is_a_plain_file_of_the_expected_size() {
        let (parent, exchange) = exchange(1000);
        let path = exchange.folder.path().to_owned();
        fs::write(path.join("own"), [7; 12]).unwrap();
        assert_eq!(exchange.take("own", 12), Ok(vec![7; 12]));
        assert!(!path.join("own").exists());
        fs::write(parent.path().join("x"), [7; 12]).unwrap();
        for name in ["../x", "/etc/passwd", "a/b", "a\\b", "", ".", "..", ".lock", "a/", "./a", "a\0"] {
            let said = exchange.take(name, 12).unwrap_err();
            assert!(said.contains("is no plain name"), "{name:?}: {said}");
        }
        assert!(parent.path().join("x").exists());
        exchange.place("ab.rgb", &[0; 12]).unwrap();
        assert!(exchange.take("ab.rgb", 12).unwrap_err().contains("is a file of isr's"));
        fs::write(path.join("short"), [7; 11]).unwrap();
        assert_eq!(
            exchange.take("short", 12),
            Err("the file `short` has 11 bytes, and its shape 12".to_owned())
        );
        assert!(exchange.take("none", 12).unwrap_err().contains("`none` cannot be read"));
        assert!(exchange.take("huge", usize::MAX).unwrap_err().contains("at most"));
        fs::create_dir(path.join("folder")).unwrap();
        assert!(exchange.take("folder", 12).unwrap_err().contains("no regular file"));
    }

    #[cfg(unix)]
    #[test]
    fn links_and_pipes_are_not_followed_and_the_folder_is_ones_own() {
        use std::os::unix::fs::{MetadataExt, symlink};
        let (parent, exchange) = exchange(1000);
        let path = exchange.folder.path().to_owned();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o700);
        let secret = parent.path().join("secret");
        fs::write(&secret, [7; 12]).unwrap();
        symlink(&secret, path.join("link")).unwrap();
        assert_eq!(exchange.take("link", 12), Err("the file `link` is a link".to_owned()));
        fs::hard_link(&secret, path.join("hard")).unwrap();
        assert!(exchange.take("hard", 12).unwrap_err().contains("no regular file of one name"));
        let made = std::process::Command::new("mkfifo").arg(path.join("pipe")).status().unwrap();
        assert!(made.success());
        assert!(exchange.take("pipe", 12).unwrap_err().contains("no regular file"));
        assert_eq!(fs::read(&secret).unwrap(), [7; 12]);
        assert!(living().contains(&path));
        drop(exchange);
        assert!(!path.exists() && !living().contains(&path));
    }

    #[test]
    fn folders_of_programs_that_were_killed_are_removed() {
        let parent = tempfile::tempdir().unwrap();
        let old = std::time::SystemTime::now() - Duration::from_secs(120);
        let killed = parent.path().join("isr-exchange-killed");
        fs::create_dir(&killed).unwrap();
        File::create(killed.join(LOCK)).unwrap().set_modified(old).unwrap();
        let living = Exchange::create_in(parent.path()).unwrap();
        assert!(!killed.exists());
        living._lock.set_modified(old).unwrap();
        let other = Exchange::create_in(parent.path()).unwrap();
        assert!(living.folder.path().exists() && other.folder.path().exists());
    }
}
