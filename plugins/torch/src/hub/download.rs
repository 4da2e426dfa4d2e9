//! Downloads into the cache.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use serde::Deserialize;

use super::client::{Client, FileInfo};
use super::error::{FetchError, HubError};
use super::model_id::ModelId;
use super::partial::{Attempt, Partial, lock};
use super::progress::DownloadProgress;
use super::settings::Hub;
use super::snapshot::{INDEX, is_small_part, shards, weights_without_index};

/// What is got first.
const LIST: &str = "the list of files";

/// Bytes that an attempt must have got to count as progress: attempts are counted anew after it.
const PROGRESS: u64 = 1 << 20;

/// Longest pause between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// A download of one repository at the commit that its revision currently points to.
struct Session<'h> {
    hub: &'h Hub,
    id: &'h ModelId,
    client: Client,
    /// The commit, so that a branch that moves meanwhile does not mix two.
    commit: String,
    /// Cache folder of the repository.
    folder: PathBuf,
    /// Checkpoint folder of the commit.
    snapshot: PathBuf,
    /// Every file of the repository.
    names: Vec<String>,
}

/// The hub's description of a repository.
#[derive(Deserialize)]
struct Listing {
    sha: String,
    siblings: Vec<Listed>,
}

#[derive(Deserialize)]
struct Listed {
    rfilename: String,
}

impl Hub {
    /// Downloads the missing files of a model and returns its snapshot folder.
    pub(crate) fn fetch(&self, id: &ModelId) -> Result<PathBuf, HubError> {
        let session = Session::start(self, id)?;
        let names = session.names.iter();
        for name in names.filter(|name| is_small_part(name)) {
            session.get(name)?;
        }
        for name in session.weights()? {
            session.get(&name)?;
        }
        let reference = session.folder.join("refs").join(&id.revision);
        let parent = reference.parent().unwrap_or(&session.folder);
        let written = fs::create_dir_all(parent).and_then(|()| fs::write(&reference, &session.commit));
        written.map_err(HubError::io("write", reference))?;
        Ok(session.snapshot)
    }

    fn pause(&self, attempt: u32) -> Duration {
        self.pause.saturating_mul(2_u32.saturating_pow(attempt.saturating_sub(1))).min(LONGEST_PAUSE)
    }

    fn listing(&self, client: &Client, id: &ModelId) -> Result<Listing, FetchError> {
        let revision = id.revision.replace('/', "%2F");
        let url = format!("{}/api/models/{}/revision/{revision}", self.endpoint, id.repository);
        let mut attempt = 1;
        loop {
            let text = client.text(&url);
            match text.and_then(|text| serde_json::from_str(&text).map_err(FetchError::Listing)) {
                Err(error) if attempt < self.attempts && error.may_pass() => {
                    tracing::warn!(%error, attempt, "the hub did not answer; it is asked again");
                    sleep(self.pause(attempt));
                    attempt += 1;
                }
                outcome => return outcome,
            }
        }
    }
}

impl<'h> Session<'h> {
    fn start(hub: &'h Hub, id: &'h ModelId) -> Result<Self, HubError> {
        let folder = hub.folder(id)?;
        let failed = |error| failed(hub, id, LIST, error);
        let client = Client::new(&hub.endpoint, hub.token.clone()).map_err(failed)?;
        let Listing { sha, siblings } = hub.listing(&client, id).map_err(failed)?;
        let names: Vec<String> = siblings.into_iter().map(|listed| listed.rfilename).collect();
        let is_hostile = |name: &&String| !is_inside(name);
        if let Some(name) = names.iter().chain([&sha]).find(is_hostile) {
            return Err(HubError::Hostile { id: id.clone(), name: name.clone() });
        }
        let snapshot = folder.join("snapshots").join(&sha);
        Ok(Self { hub, id, client, commit: sha, folder, snapshot, names })
    }

    /// Returns the weight files: the shards of the index (already cached), or the single file.
    fn weights(&self) -> Result<Vec<String>, HubError> {
        if self.names.iter().any(|name| name == INDEX) {
            let shards = shards(&self.snapshot.join(INDEX))?;
            return match shards.iter().find(|shard| !self.names.contains(shard)) {
                Some(missing) => {
                    Err(HubError::Incomplete { id: self.id.clone(), missing: missing.clone() })
                }
                None => Ok(shards),
            };
        }
        let found = weights_without_index(&self.names);
        if found.is_empty() {
            let other = self.names.iter().find(|name| name.ends_with(".bin") || name.ends_with(".gguf"));
            let found = other.map_or("no weights".to_owned(), Clone::clone);
            return Err(HubError::NoWeights { id: self.id.clone(), found });
        }
        Ok(found)
    }

    /// Downloads a file unless the snapshot has it. Attempts that fail in passing are repeated after a pause, until several
    /// in a row have brought nothing.
    fn get(&self, name: &str) -> Result<(), HubError> {
        let mut attempt = 1;
        while !self.snapshot.join(name).exists() {
            let error = match self.try_get(name) {
                Ok(()) => return Ok(()),
                Err((Attempt::Own(error), _)) => return Err(*error),
                Err((Attempt::Hub(error), got)) => {
                    if got >= PROGRESS && error.is_cut() {
                        attempt = 1;
                    }
                    error
                }
            };
            if attempt >= self.hub.attempts || !error.may_pass() {
                return Err(failed(self.hub, self.id, name, error));
            }
            tracing::warn!(file = name, %error, attempt, "the download was cut; it goes on");
            sleep(self.hub.pause(attempt));
            attempt += 1;
        }
        Ok(())
    }

    /// One attempt. With its error comes the number of bytes that it got.
    fn try_get(&self, name: &str) -> Result<(), (Attempt, u64)> {
        let own = |error| (Attempt::Own(Box::new(error)), 0);
        let Hub { endpoint, .. } = self.hub;
        let url = format!("{endpoint}/{}/resolve/{}/{name}", self.id.repository, self.commit);
        let info = self.client.info(&url).map_err(|error| (Attempt::Hub(error), 0))?;
        if !is_inside(&info.etag) || info.etag.contains('/') {
            return Err(own(HubError::Hostile { id: self.id.clone(), name: info.etag }));
        }
        let (blobs, file) = (self.folder.join("blobs"), self.snapshot.join(name));
        fs::create_dir_all(&blobs).map_err(HubError::io("create", &blobs)).map_err(own)?;
        let blob = blobs.join(&info.etag);
        let _lock = lock(&blob).map_err(own)?;
        if !is_whole(&blob, &info) {
            let partial = Partial::new(&blob, &info);
            let before = partial.len();
            let progress = DownloadProgress::new(self.hub.progress, format!("{name} of {}", self.id));
            let outcome = partial.complete(&self.client, &url, progress);
            outcome.map_err(|error| (error, partial.len().saturating_sub(before)))?;
        }
        link(&blob, &file).map_err(own)
    }
}

/// Returns whether a relative name stays inside the folder it is joined to.
fn is_inside(name: &str) -> bool {
    let parts = Path::new(name).components();
    !name.is_empty()
        && !name.contains('\\')
        && parts.into_iter().all(|part| matches!(part, std::path::Component::Normal(_)))
}

/// Whether a blob, which is named when its digest is right, is there in its length.
fn is_whole(blob: &Path, info: &FileInfo) -> bool {
    fs::metadata(blob).is_ok_and(|data| info.size.is_none_or(|size| data.len() == size))
}

/// Links the snapshot's file to the blob.
fn link(blob: &Path, file: &Path) -> Result<(), HubError> {
    if file.exists() {
        return Ok(());
    }
    // A link to a blob that is gone.
    remove(file)?;
    let parent = file.parent().unwrap_or(Path::new(""));
    fs::create_dir_all(parent).map_err(HubError::io("create", parent))?;
    #[cfg(unix)]
    let linked = {
        // Only top-level files are downloaded, so blobs are two folders up.
        let up = Path::new("../../blobs").join(blob.file_name().unwrap_or_default());
        std::os::unix::fs::symlink(up, file)
    };
    #[cfg(not(unix))]
    let linked = fs::hard_link(blob, file).or_else(|_| fs::copy(blob, file).map(|_| ()));
    match linked {
        // Another process has created it.
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            Err(HubError::io("write", file)(error))
        }
        _ => Ok(()),
    }
}

fn remove(path: &Path) -> Result<(), HubError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(HubError::io("remove", path)(error))
        }
        _ => Ok(()),
    }
}

/// Maps a client error to a [`HubError`] by its HTTP status.
fn failed(hub: &Hub, id: &ModelId, file: &str, error: FetchError) -> HubError {
    let page = format!("{}/{}", hub.endpoint, id.repository);
    match error.status() {
        Some(401 | 403) => HubError::Refused { id: id.clone(), page, with_token: hub.token.is_some() },
        Some(404) => HubError::NotFound { id: id.clone(), page },
        _ => HubError::Download {
            hint: if file == LIST {
                " (there is no folder of this name, so the hub was asked)"
            } else {
                ""
            },
            id: id.clone(),
            file: file.to_owned(),
            endpoint: hub.endpoint.as_str().into(),
            source: Box::new(error),
        },
    }
}
