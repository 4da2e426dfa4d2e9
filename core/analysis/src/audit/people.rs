//! Human annotations of a run: `annotations.jsonl`.

use std::collections::HashMap;
use std::path::Path;

use isr_api::records::{Annotation, Choice};
use isr_api::{Error, SampleId};
use isr_run::store::read_journal;

/// Choices of annotators, by iteration and sample.
#[derive(Debug, Default)]
pub(crate) struct People {
    choices: HashMap<(u32, SampleId), Vec<Choice>>,
}

impl People {
    /// Reads a run's annotations; empty without the file. The last choice of an annotator on a sample counts.
    pub(crate) fn read(run: &Path) -> Result<Self, Error> {
        let lines: Vec<Annotation> = read_journal(&run.join("annotations.jsonl"))?;
        let mut last: HashMap<_, Choice> = HashMap::new();
        for Annotation { iteration, sample, choice, annotator, .. } in lines {
            last.insert((iteration, sample, annotator), choice);
        }
        let mut people = Self::default();
        for ((iteration, sample, _), choice) in last {
            people.choices.entry((iteration, sample)).or_default().push(choice);
        }
        Ok(people)
    }

    /// Choices of all annotators of a sample, in no particular order.
    pub(crate) fn of(&self, iteration: u32, sample: &SampleId) -> &[Choice] {
        self.choices.get(&(iteration, sample.clone())).map_or(&[], Vec::as_slice)
    }

    /// Whether any sample of an iteration was annotated.
    pub(crate) fn saw(&self, iteration: u32) -> bool {
        self.choices.keys().any(|(of, _)| *of == iteration)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_persons_last_word_counts_and_absence_is_no_error() {
        let folder = tempfile::tempdir().unwrap();
        assert!(!People::read(folder.path()).unwrap().saw(1));
        let lines = [
            r#"{"iteration":1,"sample":"a","choice":"first","first_shown_first":true,"annotator":"X","seconds":3.2}"#,
            r#"{"iteration":1,"sample":"a","choice":"tie","first_shown_first":false,"annotator":"Y","seconds":1}"#,
            r#"{"iteration":1,"sample":"a","choice":"second","first_shown_first":true,"annotator":"X","seconds":2}"#,
            r#"{"iteration":2,"sample":"a","choice":"first","first_shown_first":true,"annotator":"X","seconds":1}"#,
        ];
        std::fs::write(folder.path().join("annotations.jsonl"), lines.join("\n") + "\n").unwrap();
        let people = People::read(folder.path()).unwrap();
        let mut choices = people.of(1, &"a".into()).to_vec();
        choices.sort_by_key(|choice| *choice as u8);
        assert_eq!(choices, [Choice::Second, Choice::Tie]);
        assert_eq!(people.of(2, &"a".into()), [Choice::First]);
        assert!(people.saw(2) && !people.saw(3) && people.of(1, &"b".into()).is_empty());
    }
}
