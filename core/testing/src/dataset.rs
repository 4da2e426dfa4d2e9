//! Contract tests of datasets: samples, preferences and demonstrations.

use std::collections::HashSet;
use std::fmt::Debug;
use std::sync::Arc;

use isr_api::{Demonstration, Demonstrations, Preference, Preferences, Sample, SampleSource};

use crate::call::call;
use crate::finding::{Failure, Findings};

/// Tests a source of samples against its contract.
///
/// | rule | requirement |
/// |---|---|
/// | `samples` | there is a training sample |
/// | `texts` | ids, videos and instructions are not empty |
/// | `ids` | ids of a split are unique |
/// | `held_out` | the splits for training and evaluation share no video |
/// | `deterministic` | each split is the same when it is read again |
/// | `errors` | no error, and no panic |
pub async fn data(source: Arc<dyn SampleSource>) -> Vec<Failure> {
    let mut findings = Findings::default();
    call(source.prepare()).await.value(&mut findings, "`prepare`");
    let training =
        call(source.training()).await.value(&mut findings, "the training split").unwrap_or_default();
    let again =
        call(source.training()).await.value(&mut findings, "the training split").unwrap_or_default();
    check_again(&mut findings, "the training split", &training, &again);
    findings.require(!training.is_empty() || findings.breaks("errors"), "samples", || {
        "there is no training sample".to_owned()
    });
    check_samples(&mut findings, "training", training.iter());
    let evaluation =
        call(source.evaluation()).await.value(&mut findings, "the held-out split").unwrap_or_default();
    let again =
        call(source.evaluation()).await.value(&mut findings, "the held-out split").unwrap_or_default();
    check_again(&mut findings, "the held-out split", &evaluation, &again);
    check_samples(&mut findings, "evaluation", evaluation.iter().map(|labelled| &labelled.sample));
    let trained_on: HashSet<_> = training.iter().map(|sample| &sample.video).collect();
    for labelled in &evaluation {
        let video = &labelled.sample.video;
        findings.require(!trained_on.contains(video), "held_out", || {
            format!("{} is trained on and held out; take other videos", video.display())
        });
    }
    let audit = call(source.audit()).await.value(&mut findings, "the audit split").unwrap_or_default();
    check_samples(&mut findings, "audit", audit.iter().map(|labelled| &labelled.sample));
    findings.done()
}

fn check_samples<'s>(findings: &mut Findings, split: &str, samples: impl Iterator<Item = &'s Sample>) {
    let mut seen = HashSet::new();
    for (index, Sample { id, video, instruction }) in samples.enumerate() {
        let is_empty = [id.as_str(), instruction].iter().any(|text| text.trim().is_empty());
        findings.require(!is_empty && !video.as_os_str().is_empty(), "texts", || {
            format!("sample {} of {split} has an empty id, video or instruction", index + 1)
        });
        findings.require(seen.insert(id), "ids", || format!("two samples of {split} have the id `{id}`"));
    }
}

fn check_again<T: PartialEq>(findings: &mut Findings, what: &str, once: &[T], again: &[T]) {
    let at = once.iter().zip(again).position(|(once, again)| once != again);
    findings.require(once == again, "deterministic", || {
        let at = at.map_or_else(
            || format!("has {} rows, and then {}", once.len(), again.len()),
            |at| format!("has another row {} when it is read again", at + 1),
        );
        format!("{what} {at}; rows and their order depend on the settings alone")
    });
}

/// Tests preferences against their contract.
///
/// | rule | requirement |
/// |---|---|
/// | `rows` | there is a pair that can be used |
/// | `pairs` | prompts and answers are not empty, `chosen` and `rejected` differ, `p_chosen` is in [0, 1] |
/// | `ids` | ids and origins are unique |
/// | `deterministic` | the rows are the same when they are read again |
/// | `errors` | no error, and no panic |
pub async fn preferences(preferences: Arc<dyn Preferences>) -> Vec<Failure> {
    let mut findings = Findings::default();
    let rows = call(preferences.rows()).await.value(&mut findings, "reading the rows").unwrap_or_default();
    let again = call(preferences.rows()).await.value(&mut findings, "reading the rows").unwrap_or_default();
    check_again(&mut findings, "the set", &rows, &again);
    let reason = rows.iter().find_map(|row| row.as_ref().err()).map(ToString::to_string);
    check_any(&mut findings, rows.iter().any(Result::is_ok), reason);
    let (mut ids, mut origins) = (HashSet::new(), HashSet::new());
    for row in &rows {
        let origin = match row {
            Ok(pair) => &pair.origin,
            Err(row) => &row.origin,
        };
        findings.require(origins.insert(origin), "ids", || format!("two rows have the origin `{origin}`"));
        let Ok(pair) = row else { continue };
        let Preference { id, prompt, chosen, rejected, p_chosen, .. } = pair;
        findings.require(ids.insert(id), "ids", || format!("two rows have the id `{id}`"));
        let is_empty = [prompt, chosen, rejected].iter().any(|text| text.trim().is_empty());
        let holds = !is_empty && chosen != rejected && p_chosen.is_none_or(|p| (0.0..=1.0).contains(&p));
        findings.require(holds, "pairs", || format!("{} is none that can be trained on", shown(pair)));
    }
    findings.done()
}

/// Tests demonstrations against their contract.
///
/// | rule | requirement |
/// |---|---|
/// | `rows` | there is a demonstration |
/// | `texts` | prompts and answers are not empty |
/// | `ids` | ids are unique |
/// | `deterministic` | an index has the same demonstration when it is read again |
/// | `errors` | no error, and no panic |
pub async fn demonstrations(demonstrations: Arc<dyn Demonstrations>) -> Vec<Failure> {
    let mut findings = Findings::default();
    call(demonstrations.prepare()).await.value(&mut findings, "`prepare`");
    let count = call(demonstrations.count()).await.value(&mut findings, "`count`").unwrap_or_default();
    let unusable =
        call(demonstrations.unusable()).await.value(&mut findings, "`unusable`").unwrap_or_default();
    check_any(&mut findings, count > 0, unusable.first().map(ToString::to_string));
    let mut ids = HashSet::new();
    // A set may be generated without end.
    for index in 0..count.min(1000) {
        let once = call(demonstrations.get(index)).await.value(&mut findings, "a demonstration");
        let again = call(demonstrations.get(index)).await.value(&mut findings, "a demonstration");
        findings.require(once == again, "deterministic", || {
            format!("demonstration {index} is another one when it is read again")
        });
        let Some(row) = once else { break };
        let Demonstration { id, prompt, answer, .. } = &row;
        let is_empty = [prompt, answer].iter().any(|text| text.trim().is_empty());
        findings.require(!is_empty, "texts", || format!("{} has an empty prompt or answer", shown(&row)));
        findings.require(ids.insert(id.clone()), "ids", || format!("two have the id `{id}`"));
    }
    call(demonstrations.corpus()).await.value(&mut findings, "`corpus`");
    findings.done()
}

fn check_any(findings: &mut Findings, any: bool, reason: Option<String>) {
    findings.require(any || findings.breaks("errors"), "rows", || match reason {
        Some(reason) => format!("no row can be used; the first: {reason}"),
        None => "there is no row".to_owned(),
    });
}

fn shown(row: &impl Debug) -> String {
    format!("{row:?}").chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use async_trait::async_trait;
    use isr_api::{ComponentError, LabelledSample, UnusableRow};

    use super::*;

    fn rules(found: &[Failure]) -> Vec<&'static str> {
        found.iter().map(|failure| failure.rule).collect()
    }

    /// Training samples of these ids, all of one video, and a held-out sample of another.
    struct Ids(Vec<&'static str>, &'static str);

    #[async_trait]
    impl SampleSource for Ids {
        async fn training(&self) -> Result<Vec<Sample>, ComponentError> {
            let sample = |id: &&str| Sample {
                id: (*id).into(),
                video: "a.mp4".into(),
                instruction: "what?".to_owned(),
            };
            Ok(self.0.iter().map(sample).collect())
        }

        async fn evaluation(&self) -> Result<Vec<LabelledSample>, ComponentError> {
            let sample = Sample { id: "e".into(), video: self.1.into(), instruction: "what?".to_owned() };
            Ok(vec![LabelledSample {
                sample,
                reference: "a dog".to_owned(),
                facts: serde_json::Value::Null,
            }])
        }
    }

    #[tokio::test]
    async fn what_is_wrong_with_samples_is_found() {
        assert!(data(Arc::new(Ids(vec!["a", "b"], "b.mp4"))).await.is_empty());
        assert_eq!(rules(&data(Arc::new(Ids(vec!["a", "a"], "b.mp4"))).await), ["ids"]);
        assert_eq!(rules(&data(Arc::new(Ids(vec!["a", " "], "a.mp4"))).await), ["texts", "held_out"]);
        assert_eq!(rules(&data(Arc::new(Ids(Vec::new(), "b.mp4"))).await), ["samples"]);
    }

    /// Preferences that are a function of how often they were read.
    struct Pairs<F>(F, AtomicUsize);

    #[async_trait]
    impl<F: Fn(usize) -> Vec<Result<Preference, UnusableRow>> + Send + Sync> Preferences for Pairs<F> {
        async fn rows(&self) -> Result<Vec<Result<Preference, UnusableRow>>, ComponentError> {
            Ok((self.0)(self.1.fetch_add(1, Ordering::Relaxed)))
        }
    }

    fn pair(id: &str, chosen: &str) -> Result<Preference, UnusableRow> {
        Ok(Preference {
            id: id.to_owned(),
            origin: id.to_owned(),
            video: None,
            turns: Vec::new(),
            prompt: "what?".to_owned(),
            chosen: chosen.to_owned(),
            rejected: "a cat".to_owned(),
            p_chosen: None,
        })
    }

    #[tokio::test]
    async fn what_is_wrong_with_preferences_is_found() {
        async fn broken(
            rows: impl Fn(usize) -> Vec<Result<Preference, UnusableRow>> + Send + Sync + 'static,
        ) -> Vec<&'static str> {
            rules(&preferences(Arc::new(Pairs(rows, AtomicUsize::new(0)))).await)
        }
        let unusable = || Err(UnusableRow { origin: "x".to_owned(), reason: "empty".to_owned() });
        assert!(broken(move |_| vec![pair("a", "a dog"), unusable()]).await.is_empty());
        assert_eq!(broken(|_| vec![pair("a", "a dog"), pair("a", "a fox")]).await, ["ids"]);
        assert_eq!(broken(|_| vec![pair("a", "a cat")]).await, ["pairs"]);
        assert_eq!(broken(move |_| vec![unusable()]).await, ["rows"]);
        assert_eq!(broken(|read| vec![pair(&read.to_string(), "a dog")]).await, ["deterministic"]);
    }
}
