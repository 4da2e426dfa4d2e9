//! From the hub into the cache.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use hf_hub::api::sync::{Api, ApiBuilder, ApiError, Metadata};
use hf_hub::{Cache, Repo, RepoType};

use crate::error::{HubError, status};
use crate::model_id::ModelId;
use crate::progress::Line;
use crate::settings::Hub;
use crate::snapshot::{INDEX, is_small_part, shards, weights_without_index};

/// A model at the commit that its revision stands for now, and what asks for it.
struct Session<'h> {
    hub: &'h Hub,
    id: &'h ModelId,
    api: Api,
    /// The repository at that commit, so that a branch that moves meanwhile does not mix two.
    repo: Repo,
    /// The repository's folder in the cache.
    folder: PathBuf,
    /// The folder of that commit.
    snapshot: PathBuf,
    /// All files of the repository.
    names: Vec<String>,
}

impl Hub {
    /// Downloads what of a model is not in the cache; returns its folder.
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
        // A file that fails is tried again here: hf-hub 0.5 would append it to itself.
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

    /// The files of the weights: those of the index, which is in the cache by now, or the only one.
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

    /// Makes sure that a file is in the snapshot.
    fn get(&self, name: &str) -> Result<(), HubError> {
        let mut attempt = 1;
        while !self.snapshot.join(name).exists() {
            let error = match self.try_get(name) {
                Ok(()) => continue,
                Err(error) => error,
            };
            match error {
                // Another process is at it.
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
            let line = Line::new(self.hub.progress, format!("{name} of {}", self.id));
            repo.download_with_progress(name, line).map_err(Attempt::Hub)?;
        }
        if !has_size(&blob, &metadata) {
            // A second attempt starts anew.
            remove(&blob).and_then(|()| remove(&file)).map_err(Attempt::Own)?;
            return Err(Attempt::Hub(ApiError::InvalidResume));
        }
        link(&blob, &file).map_err(Attempt::Own)
    }

    /// Removes what hf-hub would stumble over: a link whose blob is gone, and a part that is longer than
    /// the file. A part that is whole, since its process died before renaming it, becomes the blob.
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

/// Why an attempt at a file failed.
enum Attempt {
    Hub(ApiError),
    Own(HubError),
}

/// Whether the name stays in the folder that it is put into.
fn is_inside(name: &str) -> bool {
    let parts = Path::new(name).components();
    !name.is_empty()
        && !name.contains('\\')
        && parts.into_iter().all(|part| matches!(part, std::path::Component::Normal(_)))
}

fn has_size(path: &Path, metadata: &Metadata) -> bool {
    fs::metadata(path).is_ok_and(|data| data.len() == metadata.size() as u64)
}

/// Lets the snapshot's file be that blob.
fn link(blob: &Path, file: &Path) -> Result<(), HubError> {
    if file.exists() {
        return Ok(());
    }
    let parent = file.parent().unwrap_or(Path::new(""));
    fs::create_dir_all(parent).map_err(HubError::io("create", parent))?;
    #[cfg(unix)]
    let linked = {
        // Files of the top folder alone are taken, so that blobs lie two folders up.
        let up = Path::new("../../blobs").join(blob.file_name().unwrap_or_default());
        std::os::unix::fs::symlink(up, file)
    };
    #[cfg(not(unix))]
    let linked = fs::hard_link(blob, file).or_else(|_| fs::copy(blob, file).map(|_| ()));
    match linked {
        // Another process was faster.
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

/// Whether the same request may do better.
fn may_pass(error: &ApiError) -> bool {
    status(error).is_none_or(|code| code >= 500 || code == 429 || code == 408)
}

/// What an answer of the hub means.
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
