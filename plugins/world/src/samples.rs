//! The samples of a split: its clips, each with some of the questions that it allows.

use isr_api::{LabelledSample, Sample, SampleId, Streams};
use rand::seq::IndexedRandom;

use crate::claim::text;
use crate::clip::{Clip, Split};
use crate::config::WorldConfig;
use crate::question::{Question, Truth};

/// All samples of a split with their answers and facts: the first question about each clip in turn, then the
/// second about each, so that some of the samples are of as many clips as can be.
pub(crate) fn samples(config: &WorldConfig, split: Split) -> Vec<LabelledSample> {
    let by_clip = (0..split.clips(config)).map(|index| Clip::generate(config, split, index));
    let mut all: Vec<(usize, LabelledSample)> =
        by_clip.flat_map(|clip| of_clip(config, &clip).into_iter().enumerate()).collect();
    all.sort_by_key(|(number, _)| *number);
    all.into_iter().map(|(_, sample)| sample).collect()
}

/// The held-out samples: those of the split [`Split::Evaluation`], then the shifted ones.
pub(crate) fn held_out(config: &WorldConfig) -> Vec<LabelledSample> {
    [Split::Evaluation, Split::Shifted].into_iter().flat_map(|split| samples(config, split)).collect()
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
        let truth = Truth { clip: clip.facts.clone(), question, shifted: clip.split == Split::Shifted };
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
        for clip in 0..200 {
            let of_clip = all.iter().skip(clip).step_by(200);
            let questions: BTreeSet<_> =
                of_clip.clone().map(|it| it.facts["question"].to_string()).collect();
            let videos: BTreeSet<_> = of_clip.map(|it| &it.sample.video).collect();
            assert_eq!((questions.len(), videos.len()), (5, 1));
        }
    }
}
