//! Which description a judge is shown.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use isr_api::records::VerdictRecord;
use isr_api::{ComponentError, FrozenPolicy, Judge, JudgeCase, Verdict, VisualContext, Vote};
use isr_config::PreviousContext;
use isr_run::store::read_journal;

use crate::bench::{Fakes, Settings, run_under, run_with, scratch};

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

/// Iteration -> video -> whose description the retrospector was shown, `None` for no description.
async fn written(settings: &Settings) -> BTreeMap<u32, BTreeMap<String, Option<String>>> {
    let dir = scratch();
    run_under(dir.path(), settings, &Arc::default()).await.unwrap();
    let contexts = |t: u32| -> BTreeMap<String, VisualContext> {
        let path = dir.path().join(format!("iteration-0{t}/contexts.jsonl"));
        let all: Vec<VisualContext> = read_journal(&path).unwrap();
        all.into_iter().map(|context| (context.video.clone(), context)).collect()
    };
    let mut by_iteration = BTreeMap::new();
    for t in 1..=settings.r#loop.iterations {
        let mut shown = BTreeMap::new();
        for (video, context) in contexts(t) {
            let of = context.parent.map(|_| context.parent_of.clone().unwrap_or_else(|| video.clone()));
            if let Some((parent, of)) = context.parent.zip(of.as_ref()) {
                // The fake retrospector quotes what it is shown.
                let quoted = format!("(before: {})", contexts(parent)[of].text);
                assert!(context.text.ends_with(&quoted), "{} | {quoted}", context.text);
            }
            shown.insert(video, of);
        }
        by_iteration.insert(t, shown);
    }
    by_iteration
}

#[tokio::test]
async fn a_retrospector_sees_its_own_description_or_in_a_control_anothers() {
    let mut settings = Settings::default();
    let own = written(&settings).await;
    assert!(own[&1].values().all(Option::is_none));
    assert!(own[&2].iter().all(|(video, of)| of.as_ref() == Some(video)));
    settings.r#loop.previous_context = PreviousContext::Other;
    let others = written(&settings).await;
    assert!(others[&1].values().all(Option::is_none), "there is none yet");
    for t in [2, 3] {
        assert_eq!(others[&t].len(), 4);
        assert!(others[&t].iter().all(|(video, of)| of.as_ref().is_some_and(|of| of != video)));
        assert_eq!(others[&t].values().collect::<BTreeSet<_>>().len(), 4, "each is shown once");
    }
    assert_eq!(others, written(&settings).await);
    // A single video has no other.
    settings.r#loop.samples = Some(1);
    settings.r#loop.iterations = 1;
    assert!(written(&settings).await[&1].values().all(Option::is_none));
}

#[test]
fn the_control_is_left_out_of_a_config_that_does_not_set_it() {
    let text = isr_config::to_toml(&Settings::default().r#loop).unwrap();
    assert!(!text.contains("previous_context"), "{text}");
}
