//! The demonstrations `world`, as a component.

use std::sync::Arc;

use async_trait::async_trait;
use isr_api::{BuildContext, Cause, Component, ComponentError, Demonstrations};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{DemonstrationConfig, Demonstrator};
use crate::clip::Split;
use crate::config::WorldConfig;
use crate::source::{World, blocking};

/// Supervised demonstrations of the synthetic world for a warm start: answers, descriptions, refinements and
/// comparisons, with configurable faults.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct WorldDemonstrationsConfig {
    /// World, of which the `warmstart_clips` are used.
    pub world: WorldConfig,
    /// Mixture of demonstrations.
    pub mixture: DemonstrationConfig,
}

impl Component for WorldDemonstrationsConfig {
    type Built = Arc<dyn Demonstrations>;

    fn validate(&self) -> Result<(), String> {
        self.world.check().map_err(|reason| format!("world.{reason}"))?;
        self.mixture.check().map_err(|reason| format!("mixture.{reason}"))?;
        // Templates are checked by rendering them.
        Demonstrator::new(&self.world, &self.mixture).map(drop).map_err(|error| error.to_string())
    }

    fn build(&self, _: &BuildContext) -> Result<Arc<dyn Demonstrations>, Cause> {
        let world = World::new(self.world.clone())?;
        let demonstrator = world.demonstrator(&self.mixture)?;
        Ok(Arc::new(WorldDemonstrations { world, demonstrator, count: self.mixture.count }))
    }
}

isr_config::register!(Demonstrations "world" => WorldDemonstrationsConfig, example = "mixture.count = 20000\n");

struct WorldDemonstrations {
    world: World,
    demonstrator: Demonstrator,
    count: u64,
}

#[async_trait]
impl Demonstrations for WorldDemonstrations {
    async fn prepare(&self) -> Result<(), ComponentError> {
        let world = self.world.clone();
        blocking(move || world.render(&[Split::WarmStart])).await?;
        Ok(())
    }

    async fn count(&self) -> Result<u64, ComponentError> {
        Ok(self.count)
    }

    async fn get(&self, index: u64) -> Result<isr_api::Demonstration, ComponentError> {
        Ok(self.demonstrator.get(index)?)
    }

    async fn corpus(&self) -> Result<Vec<String>, ComponentError> {
        Ok(self.demonstrator.vocabulary_corpus()?)
    }
}
