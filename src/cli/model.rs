//! A checkpoint, and videos to ask it about.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Result, anyhow};
use clap::Args;
use isr_api::{BuildContext, Component, ComponentError, Error, Policy, Prompt, VideoInput, VideoReader};
use isr_dpo::torch::TorchError;
use isr_dpo::{FfmpegConfig, TorchPolicyConfig};

use super::session::for_the_process;

/// Which model, and how it sees videos.
#[derive(Args)]
pub(super) struct ModelArgs {
    /// The model: a checkpoint folder in the Hugging Face layout, the folder of a PEFT adapter that names
    /// its base, or a run directory, of which the newest checkpoint is taken
    #[arg(long, value_name = "DIR")]
    pub(super) model: PathBuf,
    /// Frames that are taken of a video, evenly spaced
    #[arg(long, value_name = "N", default_value_t = 8)]
    pub(super) frames: usize,
    /// System prompt
    #[arg(long, value_name = "TEXT")]
    pub(super) system: Option<String>,
    /// `auto` (a GPU where there is one), `cpu`, `cuda` or `cuda:N`
    #[arg(long, default_value = "auto")]
    pub(super) device: String,
    /// Type of weights and activations; `auto` is on a GPU that of the checkpoint's weights, on a CPU float32
    #[arg(long, default_value = "auto", value_parser = ["auto", "float32", "bfloat16"])]
    pub(super) precision: String,
}

/// A loaded model with a reader of videos.
pub(super) struct Model {
    pub(super) policy: Arc<dyn Policy>,
    pub(super) reader: Arc<dyn VideoReader>,
    pub(super) system: Option<String>,
}

impl ModelArgs {
    /// The model's name for those who see no folders: the last part of its path.
    #[cfg(feature = "serve")]
    pub(super) fn name(&self) -> String {
        let real = self.model.canonicalize().unwrap_or_else(|_| self.model.clone());
        real.file_name().map_or_else(|| "model".to_owned(), |name| name.to_string_lossy().into_owned())
    }

    /// The model's folder: of a run directory, its newest checkpoint.
    fn checkpoint(&self) -> PathBuf {
        checkpoint_of(&self.model)
    }

    /// Context length in tokens, by the model's config.
    #[cfg(feature = "serve")]
    pub(super) fn context(&self) -> Result<usize> {
        let config = isr_dpo::InspectConfig {
            frames: 8,
            size: [224, 224],
            batch: 1,
            tokens: 1,
            precision: isr_dpo::torch::Precision::default(),
            verify: false,
            processes: 1,
            shard: isr_dpo::torch::ShardConfig::None,
            quantization: None,
        };
        let found = isr_dpo::inspect(&self.checkpoint(), &config)
            .map_err(|error| Error::Config(error.to_string()))?;
        Ok(usize::try_from(found.context)?)
    }

    /// Loads the model for the rest of the process; blocks.
    pub(super) fn load(&self) -> Result<&'static Model> {
        Ok(for_the_process(self.open()?))
    }

    /// Loads the model; blocks.
    pub(super) fn open(&self) -> Result<Model> {
        let video = uniform_frames(self.frames)?;
        let model = self.checkpoint();
        if model != self.model {
            tracing::warn!(
                "{} is a run; its newest checkpoint is {}",
                self.model.display(),
                model.display()
            );
        }
        let config = TorchPolicyConfig {
            device: self.device.clone(),
            precision: serde_json::from_value(self.precision.clone().into())?,
            ..TorchPolicyConfig::new(&model)
        };
        config.validate().map_err(|reason| Error::Config(format!("--{reason}")))?;
        let cx = BuildContext::default();
        let reader = video.build(&cx).map_err(|cause| anyhow!("{cause}"))?;
        // The cause names the file; that it is a policy says nothing here. A template that fails is found by its work.
        let policy = config.build(&cx).map_err(|cause| match cause.downcast_ref() {
            Some(TorchError::Template(_) | TorchError::TemplateLimit { .. }) => anyhow!("{cause}"),
            _ => Error::Config(cause.to_string()).into(),
        })?;
        Ok(Model { policy, reader, system: self.system.clone() })
    }
}

/// The folder of a model: of a run directory, its newest checkpoint.
pub(super) fn checkpoint_of(model: &Path) -> PathBuf {
    let is_model = ["config.json", "adapter_config.json"].iter().any(|name| model.join(name).exists());
    match newest_checkpoint(model) {
        Some(checkpoint) if !is_model => checkpoint,
        _ => model.to_owned(),
    }
}

/// A reader of evenly spaced frames. One frame is enough for a question, though not for a training sample.
pub(super) fn uniform_frames(frames: usize) -> Result<FfmpegConfig> {
    let video = serde_json::json!({ "sampling": { "rule": "uniform", "frames": frames }, "min_frames": 1 });
    let video: FfmpegConfig = serde_json::from_value(video)?;
    let flag = |reason: String| reason.replace("sampling.frames", "--frames");
    video.validate().map_err(|reason| Error::Config(flag(reason)))?;
    Ok(video)
}

/// The newest complete checkpoint of a run directory: that of its last iteration, or of supervised training.
fn newest_checkpoint(run: &Path) -> Option<PathBuf> {
    let entries = std::fs::read_dir(run).ok()?;
    let iteration = |entry: std::fs::DirEntry| -> Option<(u32, PathBuf)> {
        let number = entry.file_name().to_str()?.strip_prefix("iteration-")?.parse().ok()?;
        Some((number, entry.path().join("checkpoint")))
    };
    let iterations = entries.flatten().filter_map(iteration).filter(|(_, path)| path.is_dir());
    let of_training = Some(run.join("checkpoint")).filter(|path| path.is_dir());
    iterations.max_by_key(|(number, _)| *number).map(|(_, path)| path).or(of_training)
}

impl Model {
    /// A user's question about a video.
    pub(super) async fn prompt(&self, video: &Path, text: &str) -> Result<Prompt, ComponentError> {
        let frames = Arc::new(self.reader.read(video).await?);
        let scene = VideoInput { video: video.to_owned(), frames, features: None };
        let prompt = Prompt::about(&scene, text);
        Ok(match &self.system {
            Some(system) => prompt.with_system(system),
            None => prompt,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_checkpoint_of_a_run_is_that_of_its_last_trained_iteration() {
        let run = tempfile::tempdir().unwrap();
        let path = run.path();
        assert_eq!(newest_checkpoint(path), None);
        std::fs::create_dir_all(path.join("checkpoint")).unwrap();
        assert_eq!(newest_checkpoint(path), Some(path.join("checkpoint")));
        for name in [
            "iteration-02/checkpoint",
            "iteration-10/checkpoint",
            "iteration-11",
            "iteration-xx/checkpoint",
        ] {
            std::fs::create_dir_all(path.join(name)).unwrap();
        }
        assert_eq!(newest_checkpoint(path), Some(path.join("iteration-10/checkpoint")));
    }
}
