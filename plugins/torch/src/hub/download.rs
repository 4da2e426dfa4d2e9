//! Downloads into the cache.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use hf_hub::api::sync::{Api, ApiBuilder, ApiError, Metadata};
use hf_hub::{Cache, Repo, RepoType};

use super::error::{HubError, status};
use super::model_id::ModelId;
use super::progress::DownloadProgress;
use super::settings::Hub;
use super::snapshot::{INDEX, is_small_part, shards, weights_without_index};

/// A download of one repository at the commit that its revision currently points to.
struct Session<'h> {
    hub: &'h Hub,
    id: &'h ModelId,
    api: Api,
    /// The repository pinned to that commit, so that a branch that moves meanwhile does not mix two.
    repo: Repo,
    /// Cache folder of the repository.
    folder: PathBuf,
    /// CheckpointKind folder of the commit.
    snapshot: PathBuf,
    /// Every file of the repository.
    names: Vec<String>,
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
        let branch = Repo::with_revision(id.repository.clone(), RepoType::Model, id.revision.clone());
        let cache = Cache::new(self.cache.clone().ok_or(HubError::NoCache)?);
        let created = cache.repo(branch).create_ref(session.repo.revision());
        created.map_err(HubError::io("write", session.folder.join("refs").join(&id.revision)))?;
        Ok(session.snapshot)
    }

    fn api(&self) -> Result<Api, ApiError> {
        let cache = Cache::new(self.cache.clone().unwrap_or_default());
        let builder = ApiBuilder::from_cache(cache).with_endpoint(self.endpoint.clone());
        // Retries are done in `get`: hf-hub 0.5 would append a retried file to itself.
        builder.with_token(self.token.clone()).with_retries(0).with_progress(false).build()
    }
}

impl<'h> Session<'h> {
    fn start(hub: &'h Hub, id: &'h ModelId) -> Result<Self, HubError> {
        let folder = hub.folder(id)?;
        let failed = |error| failed(hub, id, "the list of files", error);
        let api = hub.api().map_err(failed)?;
        let named = Repo::with_revision(id.repository.clone(), RepoType::Model, id.revision.clone());
        let info = api.repo(named).info().map_err(failed)?;
        let names: Vec<String> = info.siblings.into_iter().map(|it| it.rfilename).collect();
        let is_hostile = |name: &&String| !is_inside(name);
        if let Some(name) = names.iter().chain([&info.sha]).find(is_hostile) {
            return Err(HubError::Hostile { id: id.clone(), name: name.clone() });
        }
        let snapshot = folder.join("snapshots").join(&info.sha);
        let repo = Repo::with_revision(id.repository.clone(), RepoType::Model, info.sha);
        Ok(Self { hub, id, api, repo, folder, snapshot, names })
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

    /// Downloads a file unless the snapshot has it; retries on transient errors.
    fn get(&self, name: &str) -> Result<(), HubError> {
        let mut attempt = 1;
        while !self.snapshot.join(name).exists() {
            let error = match self.try_get(name) {
                Ok(()) => continue,
                Err(error) => error,
            };
            match error {
                // Another process holds the lock of this file.
                Attempt::Hub(ApiError::LockAcquisition(_)) => {
                    tracing::info!(file = name, "another process downloads it");
                }
                Attempt::Hub(error) if attempt < self.hub.attempts && may_pass(&error) => {
                    tracing::warn!(file = name, %error, attempt, "the download was cut; it goes on");
                    sleep(Duration::from_millis(250 << attempt));
                    attempt += 1;
                }
                Attempt::Hub(error) => return Err(failed(self.hub, self.id, name, error)),
                Attempt::Own(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn try_get(&self, name: &str) -> Result<(), Attempt> {
        let repo = self.api.repo(self.repo.clone());
        let metadata = self.api.metadata(&repo.url(name)).map_err(Attempt::Hub)?;
        if !is_inside(metadata.etag()) || metadata.etag().contains('/') {
            let name = metadata.etag().to_owned();
            return Err(Attempt::Own(HubError::Hostile { id: self.id.clone(), name }));
        }
        let (blob, file) = (self.folder.join("blobs").join(metadata.etag()), self.snapshot.join(name));
        self.clear_for(&blob, &file, &metadata).map_err(Attempt::Own)?;
        if !has_size(&blob, &metadata) {
            let line = DownloadProgress::new(self.hub.progress, format!("{name} of {}", self.id));
            repo.download_with_progress(name, line).map_err(Attempt::Hub)?;
        }
        if !has_size(&blob, &metadata) {
            // The next attempt starts from zero.
            remove(&blob).and_then(|()| remove(&file)).map_err(Attempt::Own)?;
            return Err(Attempt::Hub(ApiError::InvalidResume));
        }
        link(&blob, &file).map_err(Attempt::Own)
    }

    /// Repairs leftovers of earlier processes: removes a dangling link and a partial file longer than the file,
    /// and turns a complete partial file (its process died before the rename) into the blob.
    fn clear_for(&self, blob: &Path, file: &Path, metadata: &Metadata) -> Result<(), HubError> {
        if !file.exists() {
            remove(file)?;
        }
        let part = blob.with_extension("part");
        if has_size(&part, metadata) {
            return fs::rename(&part, blob).map_err(HubError::io("rename", part));
        }
        match fs::metadata(&part) {
            Ok(data) if data.len() > metadata.size() as u64 => remove(&part),
            _ => Ok(()),
        }
    }
}

/// Failure of one attempt: of the request, or of the local cache.
enum Attempt {
    Hub(ApiError),
    Own(HubError),
}

/// Returns whether a relative name stays inside the folder it is joined to.
fn is_inside(name: &str) -> bool {
    let parts = Path::new(name).components();
    !name.is_empty()
        && !name.contains('\\')
        && parts.into_iter().all(|part| matches!(part, std::path::Component::Normal(_)))
}

fn has_size(path: &Path, metadata: &Metadata) -> bool {
    fs::metadata(path).is_ok_and(|data| data.len() == metadata.size() as u64)
}

/// Links the snapshot's file to the blob.
fn link(blob: &Path, file: &Path) -> Result<(), HubError> {
    if file.exists() {
        return Ok(());
    }
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

/// Returns whether an error is transient (no status, 5xx, 408, 429).
fn may_pass(error: &ApiError) -> bool {
    status(error).is_none_or(|code| code >= 500 || code == 429 || code == 408)
}

/// Maps a client error to a [`HubError`] by its HTTP status.
fn failed(hub: &Hub, id: &ModelId, file: &str, error: ApiError) -> HubError {
    let page = format!("{}/{}", hub.endpoint, id.repository);
    match status(&error) {
        Some(401 | 403) => HubError::Refused { id: id.clone(), page, with_token: hub.token.is_some() },
        Some(404) => HubError::NotFound { id: id.clone(), page },
        _ => HubError::Download {
            id: id.clone(),
            file: file.to_owned(),
            endpoint: hub.endpoint.clone(),
            source: Box::new(error),
        },
    }
}
