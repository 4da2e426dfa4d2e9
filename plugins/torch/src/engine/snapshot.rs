//! Snapshots of weights and of a training's state.

use std::path::Path;

use isr_api::CheckpointKind;

use super::{Engine, OriginalTower};
use crate::error::Result;
use crate::manifest::{self, Manifest};

impl Engine {
    /// Writes a snapshot. Of several processes that train together, the first writes the weights, each what it alone has of
    /// the optimiser's state; all return when everything is written.
    pub(super) fn save(&mut self, dir: &Path, what: CheckpointKind) -> Result<()> {
        let mut manifest = Manifest::new();
        let written = self.write(dir, what, &mut manifest);
        let processes = self.trainer.processes();
        let written = written.and_then(|()| manifest.to_bytes());
        let manifests = processes.agree(written)?;
        let listed = match processes.rank() {
            0 => manifests
                .iter()
                .skip(1)
                .try_for_each(|other| manifest.add(other))
                .and_then(|()| manifest.write(dir)),
            _ => Ok(()),
        };
        processes.agree(listed.map(|()| Vec::new()))?;
        Ok(())
    }

    fn write(&mut self, dir: &Path, what: CheckpointKind, manifest: &mut Manifest) -> Result<()> {
        if self.trainer.processes().rank() == 0 {
            // Snapshots are of weights that change with the next step; checkpoints are recorded with their fingerprint.
            let wanted = what == CheckpointKind::Model && self.fingerprint.is_none();
            let weights = self.checkpoint.save(dir, &self.model, self.shard_bytes, manifest, wanted)?;
            if let Some(weights) = weights {
                self.fingerprint = Some(self.fingerprint_of(&weights));
            }
        }
        match what {
            CheckpointKind::Model => Ok(()),
            CheckpointKind::TrainerState => self.trainer.save(dir, manifest),
        }
    }

    pub(super) fn load(&mut self, dir: &Path, what: CheckpointKind) -> Result<()> {
        manifest::verify(dir, false)?;
        let optimizer = match what {
            CheckpointKind::Model => None,
            CheckpointKind::TrainerState => Some(self.trainer.read(dir)?),
        };
        if matches!(self.tower, OriginalTower::Own | OriginalTower::Shared(_))
            && self.model.would_change_tower(dir)?
        {
            self.keep_original_tower()?;
        }
        self.model.reload(dir)?;
        self.trainer.restore(optimizer)
    }
}

#[cfg(test)]
mod tests {
    use isr_api::Fingerprint;

    use super::*;
    use crate::lora::LoraConfig;
    use crate::policy::TorchPolicyConfig;
    use crate::train::parallel::objectives::{Loss, Objective};
    use crate::train::parallel::tests::{collectives, model_folder, on_threads, part, step};
    use crate::train::{ParallelConfig, ShardConfig};

    /// Processes, and what they divide.
    type Team = (usize, ShardConfig);

    fn config(lora: Option<&LoraConfig>, shard: ShardConfig) -> TorchPolicyConfig {
        let mut config = TorchPolicyConfig { threads: 1, ..TorchPolicyConfig::new(model_folder()) };
        config.training.lora = lora.cloned();
        config.training.parallel = ParallelConfig { shard };
        config
    }

    /// Takes two steps, from a snapshot on if there is one, and writes snapshot and model. Returns the fingerprint.
    fn train(
        (count, shard): Team,
        lora: Option<&LoraConfig>,
        from: Option<&Path>,
        to: &Path,
    ) -> Fingerprint {
        let start = if from.is_some() { 2 } else { 0 };
        let prints = on_threads(count, |rank, group| {
            let mut engine = config(lora, shard).engine(3, collectives(group.as_ref())).unwrap();
            if let Some(from) = from {
                engine.load(&from.join("state"), CheckpointKind::TrainerState).unwrap();
            }
            for index in start..start + 2 {
                let numbers: Vec<usize> = (0..5).map(|at| index + at).collect();
                let step = step(&part(&numbers, rank, count), index as u64);
                engine.train(&step, &Objective::new(Loss::Dpo)).unwrap();
            }
            for (name, what) in [("state", CheckpointKind::TrainerState), ("model", CheckpointKind::Model)]
            {
                let dir = to.join(name);
                std::fs::create_dir_all(&dir).unwrap();
                engine.save(&dir, what).unwrap();
                // Complete when a process has returned: every file is listed, with its digest.
                manifest::verify(&dir, true).unwrap();
                let listed = std::fs::read_to_string(dir.join("manifest.json")).unwrap();
                for entry in std::fs::read_dir(&dir).unwrap() {
                    let name = entry.unwrap().file_name().into_string().unwrap();
                    assert!(name == "manifest.json" || listed.contains(&name), "{name}");
                }
            }
            engine.fingerprint().unwrap()
        });
        assert!(prints.iter().all(|print| *print == prints[0]), "{count} {shard:?}");
        prints[0].clone()
    }

    /// What a single process loads has the weights that were saved, and any team goes on from it.
    #[test]
    fn snapshots_do_not_depend_on_the_number_of_processes() {
        use ShardConfig::{Full, None as Whole, Optimizer};
        let lora = LoraConfig { rank: 4, ..LoraConfig::default() };
        // Magnitudes, and weights outside and inside of the layers that are divided.
        let modules_to_save = ["lm_head", "embed_tokens", "layers.0.mlp"].map(str::to_owned).into();
        let all = LoraConfig { dora: true, modules_to_save, ..lora.clone() };
        for lora in [None, Some(&lora), Some(&all)] {
            let folder = tempfile::tempdir().unwrap();
            let at = |name: String| folder.path().join(name);
            let teams: [Team; 4] = [(1, Whole), (2, Optimizer), (3, Full), (2, Whole)];
            for (number, first) in teams.into_iter().enumerate() {
                let middle = at(format!("{number}"));
                let print = train(first, lora, None, &middle);
                for (kind, name) in
                    [(CheckpointKind::TrainerState, "state"), (CheckpointKind::Model, "model")]
                {
                    let mut engine = config(lora, Whole).engine(3, None).unwrap();
                    engine.load(&middle.join(name), kind).unwrap();
                    assert_eq!(engine.fingerprint().unwrap(), print, "{first:?} {name}");
                }
                // Two steps further: to the bit where the same team has taken them, whoever took those before.
                let second = teams[(number + 1) % teams.len()];
                let (once, again) = (at(format!("{number} once")), at(format!("{number} again")));
                let print = train(second, lora, Some(&middle), &once);
                assert_eq!(train(second, lora, Some(&middle), &again), print);
            }
        }
    }
}
