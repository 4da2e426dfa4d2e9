//! `isr sft`: the warm start, from demonstrations to a checkpoint that `isr run` begins with.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use isr_api::{BuildContext, Demonstrations, Error, Fingerprint, Kind, Observer};
use isr_config::plugin::PluginFile;
use isr_config::registry::{
    DemonstrationsConfig, EncoderConfig, ObjectiveConfig, PolicyConfig, VideoConfig,
};
use isr_config::{Invalid, LoadedConfig, SupervisedConfig, Validate, to_toml};
use isr_run::store::{FileLock, PendingDir, RunDir};
use isr_run::{SupervisedParts, SupervisedTraining};
use isr_torch::NewModelConfig;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::components::{built, invalid_part};
use crate::preflight::warn_of_space;
use crate::provenance;
use crate::timings::TimingsObserver;

/// Config of one supervised training.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SftConfig {
    /// Name of the training and of its directory. Default "sft".
    #[serde(default = "default_name")]
    pub name: String,
    /// A new model's weights derive from this. Default 0.
    #[serde(default)]
    pub seed: u64,
    /// Plugin files: paths, or tables of a `path` and limits. What they give can then be named like what is
    /// built in. Default none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub plugins: Vec<PluginFile>,
    /// What is learned from.
    pub demonstrations: Box<dyn DemonstrationsConfig>,
    /// How videos are decoded, and which frames are kept.
    pub video: Box<dyn VideoConfig>,
    /// What turns frames into visual features. Default none: the policy's own tower does, as it must
    /// where it is trained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoder: Option<Box<dyn EncoderConfig>>,
    /// The model that is trained.
    pub policy: Box<dyn PolicyConfig>,
    /// A loss on chosen answers alone, such as `sft`.
    pub objective: Box<dyn ObjectiveConfig>,
    /// The training.
    #[serde(default)]
    pub training: SupervisedConfig,
    /// Shape of a model to begin with, created in the folder `policy.model` where that holds none: random
    /// weights, and a tokenizer trained on the demonstrations. Default none: there must be a model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new_model: Option<NewModelConfig>,
}

fn default_name() -> String {
    "sft".to_owned()
}

impl Validate for SftConfig {
    fn invalid(&self) -> Vec<Invalid> {
        let mut checks = vec![
            ("demonstrations", self.demonstrations.validate()),
            ("video", self.video.validate()),
            ("objective", self.objective.validate()),
            ("training", self.training.validate()),
        ];
        // A model that is yet to be created is looked at when it is there.
        match &self.new_model {
            Some(_) if self.model().is_none() => {
                let reason = "is set, but `policy` has no key `model` to say where".to_owned();
                checks.push(("new_model", Err(reason)));
            }
            Some(_) if !self.has_model() => {}
            _ => checks.push(("policy", self.policy.validate())),
        }
        if let Some(encoder) = &self.encoder {
            checks.push(("encoder", encoder.validate()));
        }
        let failed = checks.into_iter().filter_map(|(key, result)| Some((key, result.err()?)));
        failed.map(|(key, reason)| invalid_part(key, &reason)).collect()
    }
}

impl SftConfig {
    /// `policy.model`, where the policy has such a key.
    fn model(&self) -> Option<PathBuf> {
        let policy = serde_json::to_value(&self.policy).ok()?;
        policy.get("model")?.as_str().map(PathBuf::from)
    }

    fn has_model(&self) -> bool {
        self.model().is_some_and(|folder| {
            ["config.json", "adapter_config.json"].iter().any(|name| folder.join(name).exists())
        })
    }

    /// Creates the model to begin with, where one is wanted and there is none.
    async fn create_model(&self, demonstrations: &dyn Demonstrations) -> Result<(), Error> {
        let (Some(shape), Some(folder)) = (&self.new_model, self.model()) else { return Ok(()) };
        if self.has_model() {
            return Ok(());
        }
        let _lock = lock_beside(&folder).await?;
        if self.has_model() {
            // Another process has created it meanwhile.
            return Ok(());
        }
        let occupied = std::fs::read_dir(&folder).is_ok_and(|mut entries| entries.next().is_some());
        if occupied {
            let folder = folder.display();
            return Err(Error::Config(format!(
                "`policy.model` is {folder}, which holds files, but no config.json; name a new folder"
            )));
        }
        let corpus = demonstrations.corpus().await.map_err(|source| Error::Component {
            stage: "new model".to_owned(),
            subject: "corpus of the demonstrations".to_owned(),
            source,
        })?;
        tracing::info!(folder = %folder.display(), "creating a model");
        let pending = PendingDir::create(&folder)?;
        let created = shape.create(pending.dir(), &corpus, self.seed);
        built(Kind::Policy, self.policy.name(), created.map_err(Into::into))?;
        pending.publish()
    }
}

/// Locks the name of a folder that does not exist yet, and waits while another process does: of two that create one
/// model, the second takes the first one's.
async fn lock_beside(folder: &Path) -> Result<BesideLock, Error> {
    let mut name = folder.as_os_str().to_owned();
    name.push(".lock");
    let path = PathBuf::from(name);
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(|error| Error::io("create", parent, error))?;
    }
    loop {
        match FileLock::try_take(&path).map_err(|error| Error::io("lock", &path, error))? {
            Some(lock) => return Ok(BesideLock { path, _lock: lock }),
            None => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

/// A lock whose file goes with it.
struct BesideLock {
    path: PathBuf,
    _lock: FileLock,
}

impl Drop for BesideLock {
    fn drop(&mut self) {
        // Whoever waits for it looks again whether there is a model.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Creates the model where the config says so, builds what it names, and opens the directory `out`,
/// which is continued where it holds a part of the same training.
///
/// # Errors
/// [`Error::Build`] for what cannot be created or built; [`Error::OtherRun`] where `out` holds a
/// training with another config.
pub async fn open_sft(
    config: LoadedConfig<SftConfig>,
    out: &Path,
    mut observers: Vec<Arc<dyn Observer>>,
    cancel: CancellationToken,
) -> Result<SupervisedTraining, Error> {
    let LoadedConfig { value, settings, plugins, .. } = config;
    let toml = to_toml(&value)?;
    let cx = BuildContext { config: settings };
    let demonstrations =
        built(Kind::Demonstrations, value.demonstrations.name(), value.demonstrations.build(&cx))?;
    value.create_model(demonstrations.as_ref()).await?;
    let video = built(Kind::Video, value.video.name(), value.video.build(&cx))?;
    let encoder = value.encoder.as_ref();
    let encoder = encoder.map(|it| built(Kind::Encoder, it.name(), it.build(&cx))).transpose()?;
    let policy = built(Kind::Policy, value.policy.name(), value.policy.build(&cx))?;
    let objective = built(Kind::Objective, value.objective.name(), value.objective.build(&cx))?;
    let store = RunDir::open(out, &cx.config, &toml)?;
    provenance::record(store.path(), &Fingerprint::of(cx.config.to_string()), value.seed, &plugins);
    warn_of_space(out, &cx.config, 1, true);
    observers.push(Arc::new(TimingsObserver::open(store.path())));
    Ok(SupervisedTraining::new(SupervisedParts {
        name: value.name,
        seed: value.seed,
        settings: value.training,
        demonstrations,
        video,
        encoder,
        policy,
        objective,
        store,
        observers,
        cancel,
    }))
}
