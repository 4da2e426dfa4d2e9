//! The samples of a split: its clips, each with some of the questions that it allows.

use isr_core::{LabelledSample, Sample, SampleId, Streams};
use rand::seq::IndexedRandom;

use crate::claim::text;
use crate::clip::{Clip, Split};
use crate::config::WorldConfig;
use crate::question::{Question, Truth};

/// All samples of a split with their answers and facts, in clip order.
pub(crate) fn samples(config: &WorldConfig, split: Split) -> Vec<LabelledSample> {
    (0..split.clips(config))
        .flat_map(|index| of_clip(config, &Clip::generate(config, split, index)))
        .collect()
}

/// Questions of different kinds about a clip, each in one of its wordings.
fn of_clip(config: &WorldConfig, clip: &Clip) -> Vec<LabelledSample> {
    let mut rng = Streams::new(config.seed).rng(0, "world/questions", &clip.name());
    let mut questions = Question::draw(&mut rng, &clip.facts);
    questions.truncate(config.questions_per_clip as usize);
    let sample = |(number, question): (usize, Question)| {
        let instruction = question.wordings().choose(&mut rng).cloned().unwrap_or_default();
        let sample = Sample {
            id: SampleId(format!("{}-{number}", clip.name())),
            video: config.dir.join(clip.file()),
            instruction,
        };
        let reference = text(&question.targets(&clip.facts));
        let truth = Truth { clip: clip.facts.clone(), question };
        // A plain data structure always has a JSON form; null would only leave the sample unmeasured.
        LabelledSample { sample, reference, facts: serde_json::to_value(&truth).unwrap_or_default() }
    };
    questions.into_iter().enumerate().map(sample).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn samples_are_pinned() {
        let config = WorldConfig { training_clips: 3, ..WorldConfig::default() };
        let lines: Vec<_> = samples(&config, Split::Training)
            .iter()
            .map(|it| format!("{}: {} -> {}", it.sample.id, it.sample.instruction, it.reference))
            .collect();
        insta::assert_snapshot!(lines.join("\n"));
    }

    #[test]
    fn ids_are_unique_and_a_clips_questions_differ() {
        let config = WorldConfig { training_clips: 200, questions_per_clip: 5, ..WorldConfig::default() };
        let all = samples(&config, Split::Training);
        assert_eq!(all.len(), 1000);
        let ids: BTreeSet<_> = all.iter().map(|it| &it.sample.id).collect();
        assert_eq!(ids.len(), all.len());
        for clip in all.chunks(5) {
            let questions: BTreeSet<_> = clip.iter().map(|it| it.facts["question"].to_string()).collect();
            assert_eq!(questions.len(), 5);
        }
    }
}
