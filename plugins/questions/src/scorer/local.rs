//! Scorers that ask no model.

use super::reading::{Reading, Said};

/// Equality of normalised texts.
pub(super) fn exact(answer: &str, prediction: &str) -> Said {
    said(Some(normalised(answer) == normalised(prediction)))
}

/// A text in lower case, without ASCII punctuation, articles and surplus white space (SQuAD 1.1's `normalize_answer`).
fn normalised(text: &str) -> String {
    let bare: String = text.to_lowercase().chars().filter(|c| !c.is_ascii_punctuation()).collect();
    let words = bare.split_whitespace().filter(|word| !matches!(*word, "a" | "an" | "the"));
    words.collect::<Vec<_>>().join(" ")
}

/// The option that an answer names, against the one that the prediction names; a prediction that names none is wrong.
pub(super) fn options(options: &[String], answer: &str, prediction: &str) -> Said {
    let right = reference(options, answer);
    let chosen = letter(prediction, options.len()).or_else(|| named(options, prediction));
    match (right, chosen) {
        (Some(right), Some(chosen)) => said(Some(right == chosen)),
        (Some(_), None) => Said { correct: Some(false), score: None, reading: Reading::Nothing },
        (None, _) => Said { correct: None, score: None, reading: Reading::Nothing },
    }
}

/// Index of the option that a reference answer names: by a letter, its text, or its place from 0.
pub(super) fn reference(options: &[String], answer: &str) -> Option<usize> {
    let same = |option: &String| option.trim().eq_ignore_ascii_case(answer.trim());
    let place = || answer.trim().parse().ok().filter(|place| *place < options.len());
    options.iter().position(same).or_else(|| letter(answer, options.len())).or_else(place)
}

/// Index of the letter that a text begins with, or ends with after `answer is`: `B`, `(B)`, `B.`, `B) red`.
fn letter(text: &str, options: usize) -> Option<usize> {
    let lower = text.to_lowercase();
    let lead = ["answer is", "answer:", "option"]
        .iter()
        .find_map(|lead| lower.rfind(lead).filter(|_| text.is_ascii()).map(|at| &text[at + lead.len()..]));
    [Some(text), lead].into_iter().flatten().find_map(|text| {
        let text = text.trim_start_matches(|c: char| {
            c.is_whitespace() || matches!(c, '(' | '[' | '*' | ':' | '"' | '\'')
        });
        let mut letters = text.chars();
        let first = letters.next()?;
        let ends = match letters.next() {
            None => true,
            Some(next) => {
                matches!(next, '.' | ')' | ']' | ':' | ',' | '*' | '"' | '\'')
                    || (next.is_whitespace() && letters.next().is_none())
            }
        };
        let index = (first.to_ascii_uppercase() as usize).checked_sub('A' as usize)?;
        (ends && first.is_ascii_alphabetic() && index < options).then_some(index)
    })
}

/// The one option whose text a prediction contains.
fn named(options: &[String], prediction: &str) -> Option<usize> {
    let prediction = format!(" {} ", normalised(prediction));
    let contained = |option: &String| prediction.contains(&format!(" {} ", normalised(option)));
    let mut found =
        options.iter().enumerate().filter(|(_, option)| contained(option)).map(|(index, _)| index);
    found.next().filter(|_| found.next().is_none())
}

/// Equality of the prediction's first sentence with the answer, in any case (VideoHallucer's `cal_score`).
pub(super) fn yes_no(answer: &str, prediction: &str) -> Said {
    let first = prediction.split('.').next().unwrap_or_default().trim().to_lowercase();
    let reading = if matches!(first.as_str(), "yes" | "no") { Reading::Stated } else { Reading::Nothing };
    Said { correct: Some(first == answer.to_lowercase()), score: None, reading }
}

fn said(correct: Option<bool>) -> Said {
    Said { correct, score: None, reading: Reading::Stated }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_is_what_differs_in_case_articles_and_punctuation_only() {
        for (answer, prediction, correct) in [
            ("a dog", "The dog.", true),
            ("two men", "Two  men!", true),
            ("dog", "dogs", false),
            ("", "the", true),
        ] {
            assert_eq!(exact(answer, prediction).correct, Some(correct), "{prediction}");
        }
    }

    #[test]
    fn an_option_is_named_by_its_letter_or_its_text() {
        let all: Vec<String> = ["a red ball", "a blue ball", "a dog"].map(str::to_owned).into();
        for (prediction, correct, reading) in [
            ("B", Some(true), Reading::Stated),
            (" (b)", Some(true), Reading::Stated),
            ("B. a blue ball", Some(true), Reading::Stated),
            ("The answer is B", Some(true), Reading::Stated),
            ("**B**", Some(true), Reading::Stated),
            ("A blue ball", Some(true), Reading::Stated),
            ("It is the dog, I think", Some(false), Reading::Stated),
            ("A", Some(false), Reading::Stated),
            ("D", Some(false), Reading::Nothing),
            ("a red ball or a blue ball", Some(false), Reading::Nothing),
            ("Both", Some(false), Reading::Nothing),
        ] {
            let said = options(&all, "B", prediction);
            assert_eq!((said.correct, said.reading), (correct, reading), "{prediction}");
        }
        assert_eq!(reference(&all, "A blue ball"), Some(1));
        assert_eq!(reference(&all, "1"), Some(1));
        assert_eq!(reference(&all, "E"), None);
    }

    #[test]
    fn yes_is_the_whole_first_sentence() {
        for (prediction, correct, reading) in [
            ("Yes.", true, Reading::Stated),
            ("yes. No doubt", true, Reading::Stated),
            ("No", false, Reading::Stated),
            ("Yes, there is", false, Reading::Nothing),
        ] {
            let said = yes_no("yes", prediction);
            assert_eq!((said.correct, said.reading), (Some(correct), reading), "{prediction}");
        }
    }
}
