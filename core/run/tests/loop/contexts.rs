//! Which description a judge is shown.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use isr_api::records::VerdictRecord;
use isr_api::{ComponentError, FrozenPolicy, Judge, JudgeCase, Verdict, VisualContext, Vote};
use isr_run::store::read_journal;

use crate::bench::{Fakes, Settings, run_with, scratch};

/// Notes whose description it sees for which video, by iteration.
#[derive(Default)]
struct Notes {
    seen: Mutex<BTreeSet<(u32, String, String)>>,
}

#[async_trait]
impl Judge for Notes {
    async fn judge(&self, case: &JudgeCase, _: &FrozenPolicy) -> Result<Verdict, ComponentError> {
        let VisualContext { video, iteration, .. } = case.context.clone().unwrap();
        self.seen.lock().unwrap().insert((iteration, case.scene.key(), video));
        Ok(Verdict::from_votes(vec![Vote { first_shown_first: true, p_first: 0.9 }]))
    }
}

/// Iteration -> video -> whose description was shown.
async fn shown(mismatched_contexts: bool) -> BTreeMap<u32, BTreeMap<String, String>> {
    let (mut settings, notes, dir) = (Settings::default(), Arc::new(Notes::default()), scratch());
    settings.r#loop.mismatched_contexts = mismatched_contexts;
    let mut components = Fakes::new(&Arc::default()).components;
    components.judge = Arc::clone(&notes) as Arc<dyn Judge>;
    run_with(dir.path(), &settings, components).await.unwrap();
    let first: Vec<VerdictRecord> = read_journal(&dir.path().join("iteration-01/verdicts.jsonl")).unwrap();
    assert!(first.iter().all(|record| record.context_of.is_some() == mismatched_contexts));
    let mut by_iteration: BTreeMap<u32, BTreeMap<String, String>> = BTreeMap::new();
    for (iteration, video, of) in notes.seen.lock().unwrap().clone() {
        let shown = by_iteration.entry(iteration).or_default();
        assert_eq!(shown.insert(video, of), None, "one description a video and iteration");
    }
    by_iteration
}

#[tokio::test]
async fn a_judge_sees_the_description_of_its_video() {
    let shown = shown(false).await;
    assert_eq!(shown.len(), 3);
    assert!(shown.values().flatten().all(|(video, of)| video == of));
}

#[tokio::test]
async fn mismatched_contexts_are_another_videos_and_not_the_same_in_each_iteration() {
    let shown = shown(true).await;
    for pairs in shown.values() {
        assert!(pairs.len() > 2);
        assert!(pairs.iter().all(|(video, of)| video != of), "{pairs:?}");
        assert_eq!(pairs.values().collect::<BTreeSet<_>>().len(), pairs.len(), "each is shown once");
    }
    assert_ne!(shown[&1], shown[&2]);
    assert_eq!(shown, self::shown(true).await);
}
