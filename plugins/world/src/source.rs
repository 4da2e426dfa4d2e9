//! The sample source `world`.

use std::sync::Arc;

use async_trait::async_trait;
use isr_api::{
    BuildContext, Cause, Component, ComponentError, Demonstration, LabelledSample, Sample, SampleSource,
};

use crate::clip::Split;
use crate::config::WorldConfig;
use crate::demonstration::{DemonstrationConfig, Demonstrator};
use crate::error::WorldError;
use crate::samples::{held_out, samples};
use crate::store;

impl Component for WorldConfig {
    type Built = Arc<dyn SampleSource>;

    fn validate(&self) -> Result<(), String> {
        self.check()
    }

    fn build(&self, _: &BuildContext) -> Result<Arc<dyn SampleSource>, Cause> {
        Ok(Arc::new(World::new(self.clone())?))
    }
}

isr_config::register!(
    Data "world" => WorldConfig,
    example = "dir = \"data/world\"\ntraining_clips = 1000\nevaluation_clips = 500\n"
);

/// The synthetic world as a source of samples, and of demonstrations for a warm start.
///
/// Samples and facts are computed from the config; only videos are read from its folder. The lists in
/// the folder say the same, for other programs and for people.
#[derive(Clone, Debug)]
pub struct World {
    config: WorldConfig,
}

impl World {
    /// A world of a valid config.
    pub fn new(config: WorldConfig) -> Result<Self, WorldError> {
        config.check().map_err(WorldError::Config)?;
        Ok(Self { config })
    }

    /// Its settings.
    pub fn config(&self) -> &WorldConfig {
        &self.config
    }

    /// Renders the clips of these splits that are missing; returns how many were. Takes all cores, and
    /// blocks until it is done.
    pub fn render(&self, splits: &[Split]) -> Result<usize, WorldError> {
        store::claim(&self.config)?;
        splits.iter().map(|split| store::render(&self.config, *split)).sum()
    }

    /// The first `config.count` demonstrations, with their clips rendered; blocks until that is done.
    pub fn demonstrations(&self, config: &DemonstrationConfig) -> Result<Vec<Demonstration>, WorldError> {
        let demonstrator = self.demonstrator(config)?;
        self.render(&[Split::WarmStart])?;
        (0..config.count).map(|index| demonstrator.get(index)).collect()
    }

    /// An endless stream of demonstrations, of whose clips none is rendered: for that,
    /// [`render`](Self::render) the split [`Split::WarmStart`].
    pub fn demonstrator(&self, config: &DemonstrationConfig) -> Result<Demonstrator, WorldError> {
        Demonstrator::new(&self.config, config)
    }

    /// Texts from which a tokenizer learns every word of the world and of the default templates.
    pub fn vocabulary_corpus(&self) -> Result<Vec<String>, WorldError> {
        self.demonstrator(&DemonstrationConfig::default())?.vocabulary_corpus()
    }

    fn prepare_blocking(&self) -> Result<(), WorldError> {
        self.render(&[Split::Training, Split::Evaluation, Split::Shifted])?;
        store::write_lists(&self.config)
    }
}

#[async_trait]
impl SampleSource for World {
    async fn prepare(&self) -> Result<(), ComponentError> {
        let world = self.clone();
        blocking(move || world.prepare_blocking()).await
    }

    async fn training(&self) -> Result<Vec<Sample>, ComponentError> {
        Ok(samples(&self.config, Split::Training).into_iter().map(|it| it.sample).collect())
    }

    async fn evaluation(&self) -> Result<Vec<LabelledSample>, ComponentError> {
        Ok(held_out(&self.config))
    }

    async fn audit(&self) -> Result<Vec<LabelledSample>, ComponentError> {
        Ok(samples(&self.config, Split::Training))
    }
}

/// Runs what blocks on a thread where it may.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, WorldError> + Send + 'static,
) -> Result<T, ComponentError> {
    let result = tokio::task::spawn_blocking(work).await;
    Ok(result.map_err(|error| ComponentError::Panicked(error.to_string()))??)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::fs;
    use std::path::Path;

    use isr_data::{JsonlConfig, Layout};

    use super::*;

    fn world(dir: &Path) -> World {
        World::new(WorldConfig {
            dir: dir.to_owned(),
            training_clips: 4,
            evaluation_clips: 3,
            ..WorldConfig::default()
        })
        .unwrap()
    }

    fn state(dir: &Path) -> Vec<(String, std::time::SystemTime)> {
        let files =
            |dir: &Path| fs::read_dir(dir).unwrap().map(|it| it.unwrap().path()).collect::<Vec<_>>();
        let mut all = files(dir);
        all.extend(files(&dir.join("videos")));
        all.sort();
        let time = |path: &Path| path.metadata().unwrap().modified().unwrap();
        all.iter().filter(|path| path.is_file()).map(|it| (it.display().to_string(), time(it))).collect()
    }

    #[tokio::test]
    async fn preparing_twice_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let world = world(folder.path());
        world.prepare().await.unwrap();
        let before = state(folder.path());
        assert_eq!(before.len(), 4 + 7, "three lists, a manifest, seven clips: {before:?}");
        world.prepare().await.unwrap();
        assert_eq!(state(folder.path()), before);
    }

    #[tokio::test]
    async fn the_lists_say_what_the_source_says_and_keep_answers_from_training() {
        let folder = tempfile::tempdir().unwrap();
        let world = world(folder.path());
        world.prepare().await.unwrap();
        let list = |name: &str| folder.path().join(name);
        let config = JsonlConfig {
            training: list("train.jsonl"),
            evaluation: Some(list("evaluation.jsonl")),
            audit: Some(list("audit.jsonl")),
            video_root: None,
            layout: Layout::Auto,
            columns: None,
        };
        let lists = config.build(&BuildContext::default()).unwrap();
        lists.prepare().await.unwrap();
        assert_eq!(lists.training().await.unwrap(), world.training().await.unwrap());
        assert_eq!(lists.evaluation().await.unwrap(), world.evaluation().await.unwrap());
        assert_eq!(lists.audit().await.unwrap(), world.audit().await.unwrap());
        let text = fs::read_to_string(list("train.jsonl")).unwrap();
        assert!(!text.contains("answer") && !text.contains("facts"), "{text}");
        assert!(world.training().await.unwrap().iter().all(|sample| sample.video.is_file()));
    }

    #[tokio::test]
    async fn training_and_evaluation_share_no_video() {
        let world = World::new(WorldConfig::default()).unwrap();
        let videos = |samples: Vec<Sample>| samples.into_iter().map(|it| it.video).collect::<HashSet<_>>();
        let training = videos(world.training().await.unwrap());
        let held_out = world.evaluation().await.unwrap().into_iter().map(|it| it.sample).collect();
        assert!(training.is_disjoint(&videos(held_out)));
        assert_eq!(training.len(), 1000);
    }

    #[test]
    fn a_config_out_of_range_is_refused() {
        let config = WorldConfig { frames: 1, ..WorldConfig::default() };
        assert_eq!(World::new(config).unwrap_err().to_string(), "frames is 1; it may be 8 to 240");
    }
}
