//! Identity of a run's inputs: `fingerprints.json` and `videos.json`, against which a run that goes on is checked.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};

use isr_api::{ComponentError, Error, Fingerprint, Sample};
use serde::{Deserialize, Serialize};

use super::IterativeLoop;
use super::resume::LoopData;
use crate::guard::caught;
use crate::store::{read_json, write_json};
use crate::video_identity::{Identities, identities};

/// Version of `fingerprints.json`. Version 1 had no plugins, no `videos.json` beside it, and fingerprints of video
/// readers that do not cover the version of the decoder.
const SCHEMA: u32 = 2;

/// `fingerprints.json`: what the run's results depend on besides its config.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Fingerprints {
    /// Version of the format.
    #[serde(default = "first_schema")]
    schema: u32,
    /// Video reader: decoding and frame sampling.
    video: Fingerprint,
    /// Video encoder; absent without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    encoder: Option<Fingerprint>,
    /// Initial policy.
    policy: Fingerprint,
    /// Training and evaluation samples.
    data: Fingerprint,
    /// Rows of the datasets of preference pairs; absent without such.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    preferences: Option<Fingerprint>,
    /// Version and digest of the file of each component that comes from a plugin, by kind and name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    plugins: BTreeMap<String, String>,
}

fn first_schema() -> u32 {
    1
}

impl Fingerprints {
    /// What differs from the run's first session, of what both know.
    fn change(&self, old: &Self) -> Option<String> {
        let both_know_reader = old.schema == self.schema;
        let changed = [
            (
                "the video reader (its decoder, or which frames it samples)",
                both_know_reader && old.video != self.video,
            ),
            ("the encoder's weights or preprocessing", old.encoder != self.encoder),
            ("the starting model's weights", old.policy != self.policy),
            ("the samples of `data`", old.data != self.data),
            ("the pairs of `preferences`", old.preferences != self.preferences),
        ];
        let changed = changed.into_iter().find(|(_, differs)| *differs).map(|(what, _)| what.to_owned());
        changed.or_else(|| both_know_reader.then(|| self.changed_plugin(old)).flatten())
    }

    fn changed_plugin(&self, old: &Self) -> Option<String> {
        let names: BTreeSet<&String> = self.plugins.keys().chain(old.plugins.keys()).collect();
        let name = names.into_iter().find(|name| self.plugins.get(*name) != old.plugins.get(*name))?;
        Some(format!("the plugin of {name}"))
    }
}

impl IterativeLoop {
    /// Names the components that come from plugin files, with a text that changes with version and file of each. A run
    /// is not continued with other ones.
    #[must_use]
    pub fn with_plugins(mut self, plugins: BTreeMap<String, String>) -> Self {
        self.plugins = plugins;
        self
    }

    /// Rejects a run whose initial weights, video reader, encoder, plugins, samples or videos have changed.
    pub(super) async fn check_inputs(&self, data: &LoopData) -> Result<(), Error> {
        let run = self.parts.store.path();
        let now = self.fingerprints(data)?;
        self.compare_processes(&now).await?;
        let path = run.join("fingerprints.json");
        let old: Option<Fingerprints> = self.processes.by_leader(async { read_json(&path) }).await?;
        if let Some(what) = old.as_ref().and_then(|old| now.change(old)) {
            return Err(other_run(run, format!("{what} changed since it was started")));
        }
        if old.as_ref().is_some_and(|old| old.schema < SCHEMA) {
            tracing::warn!(
                run = %run.display(),
                "this run was started by an earlier version, which kept no digests of videos, plugins and decoder; \
                 they are taken as they are now"
            );
        }
        self.check_videos(data).await?;
        if self.processes.leads() && old.is_none_or(|old| old != now) {
            write_json(&path, &now)?;
        }
        Ok(())
    }

    /// Rejects processes that were not started with the same config, program, weights and data.
    async fn compare_processes(&self, own: &Fingerprints) -> Result<(), Error> {
        if !self.processes.are_several() {
            return Ok(());
        }
        let config = self.parts.config.to_string();
        let own = Member { program: program(), config, fingerprints: own.clone() };
        let all: Vec<Member> = self.processes.gather(own).await?;
        let leader = &all[0];
        for (rank, other) in all.iter().enumerate() {
            let knows_program = !other.program.is_empty() && !leader.program.is_empty();
            let what = if knows_program && other.program != leader.program {
                Some("the program".to_owned())
            } else if other.config != leader.config {
                Some("the config".to_owned())
            } else {
                other.fingerprints.change(&leader.fingerprints)
            };
            if let Some(what) = what {
                return Err(Error::Config(format!(
                    "process {rank} differs from process 0 in {what}; start all processes with one program, config, \
                     model and data"
                )));
            }
        }
        Ok(())
    }

    fn fingerprints(&self, data: &LoopData) -> Result<Fingerprints, Error> {
        let components = &self.parts.components;
        caught("start", "fingerprints", || {
            Ok(Fingerprints {
                schema: SCHEMA,
                video: components.video.fingerprint(),
                encoder: components.encoder.as_ref().map(|encoder| encoder.fingerprint()),
                policy: components.policy.try_fingerprint()?,
                data: Fingerprint::try_of_json(&(&data.training, &data.evaluation))
                    .map_err(ComponentError::failed)?,
                preferences: match data.preferences.as_slice() {
                    [] => None,
                    rows => Some(Fingerprint::try_of_json(&rows).map_err(ComponentError::failed)?),
                },
                plugins: self.plugins.clone(),
            })
        })
    }

    /// Rejects a run one of whose videos is another one by now, or is gone.
    async fn check_videos(&self, data: &LoopData) -> Result<(), Error> {
        let run = self.parts.store.path();
        let held_out = data.evaluation.iter().map(|labelled| &labelled.sample);
        let pairs = data.preferences.iter().flatten().flatten();
        let videos = data.training.iter().chain(held_out).map(|Sample { video, .. }| video.clone());
        let videos = videos.chain(pairs.filter_map(|pair| pair.video.clone()));
        let digest = self.processes.by_leader(self.check_identities(run, videos.collect())).await?;
        // A loop that runs twice has the same videos, or was refused.
        let _ = self.videos_digest.set(digest);
        Ok(())
    }

    /// Compares the videos with those of `videos.json`; returns a digest of their identities.
    async fn check_identities(&self, run: &Path, videos: BTreeSet<PathBuf>) -> Result<Fingerprint, Error> {
        let now = self.interruptible(identities(videos), "start", "identity of videos").await?;
        let path = run.join("videos.json");
        let old: Option<Identities> = read_json(&path)?;
        if let Some(difference) = old.as_ref().and_then(|old| changed_video(old, &now)) {
            return Err(other_run(run, difference));
        }
        let json = serde_json::to_vec(&now).map_err(|error| Error::io("write", &path, error.into()))?;
        if old.is_none_or(|old| old != now) {
            write_json(&path, &now)?;
        }
        Ok(Fingerprint::of(json))
    }
}

/// What the processes of a group have in common.
#[derive(Serialize, Deserialize)]
struct Member {
    /// Digest of the program's file.
    program: String,
    /// Fingerprint of the config.
    config: String,
    fingerprints: Fingerprints,
}

/// Digest of this program's file; empty where it cannot be read, as after it was built anew.
fn program() -> String {
    let mut hasher = blake3::Hasher::new();
    let file = std::env::current_exe().and_then(File::open);
    match file.and_then(|file| hasher.update_reader(file).map(drop)) {
        Ok(()) => hasher.finalize().to_hex().to_string(),
        Err(_) => String::new(),
    }
}

fn changed_video(old: &Identities, now: &Identities) -> Option<String> {
    let (video, _) = old.iter().find(|(video, identity)| now.get(*video) != Some(identity))?;
    let what = match now.get(video) {
        Some(_) => "is not the file that it was",
        None => "is gone or cannot be read",
    };
    Some(format!("the video {video} {what} when the run was started; put it back"))
}

fn other_run(run: &Path, difference: String) -> Error {
    Error::OtherRun { path: run.to_owned(), difference }
}
