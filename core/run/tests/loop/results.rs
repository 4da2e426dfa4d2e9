//! What an undisturbed run leaves, and what is seen of it.

use std::sync::Arc;

use isr_api::records::{
    AnswerRecord, EvaluationRecord, PairRecord, QuarantineRecord, ResponseRecord, Summary, TrainRecord,
    VerdictRecord,
};
use isr_api::{Policy, VisualContext};
use isr_run::store::{read_journal, read_json};

use crate::bench::{Fakes, Log, Settings, run, run_under, run_with, scratch, tree};
use crate::control::{Act, Control};

#[tokio::test]
async fn three_iterations_leave_a_summary_with_three_rows() {
    let dir = scratch();
    let summary = run(dir.path(), &Settings::default()).await.unwrap();
    let written: Summary = read_json(&dir.path().join("summary.json")).unwrap().unwrap();
    assert_eq!(summary, written);
    assert_eq!((summary.schema, summary.run.as_str()), (1, "test"));
    let iterations: Vec<u32> = summary.iterations.iter().map(|row| row.iteration).collect();
    assert_eq!(iterations, [1, 2, 3]);

    let base = summary.base.unwrap();
    assert_eq!((base.samples, base.quarantined), (3, 0));
    let mut before = base;
    for row in &summary.iterations {
        // The policy that sampled is the one that the iteration before left.
        assert_eq!(row.policy, before.policy);
        assert_eq!((row.samples, row.quarantined.len()), (8, 0));
        assert!(row.training.steps > 0 && row.pairs.kept > 0 && row.judge.verdicts >= row.pairs.kept);
        assert!(row.contexts.contains_key("accuracy") && row.response_tokens > 0.0);
        before = row.evaluation.clone().unwrap();
    }
    // It learns: all answers are red in the end.
    assert_eq!(before.greedy["accuracy"], 1.0);
    assert!(
        before.sampled["accuracy"] > summary.iterations[0].evaluation.as_ref().unwrap().sampled["accuracy"]
    );
}

#[tokio::test]
async fn a_curve_may_be_measured_on_fewer_samples_than_its_ends() {
    let (dir, mut settings) = (scratch(), Settings::default());
    settings.evaluation.intermediate_samples = Some(1);
    let summary = run(dir.path(), &settings).await.unwrap();
    let measured = summary.iterations.iter().map(|row| row.evaluation.as_ref());
    let samples: Vec<_> =
        [summary.base.as_ref()].into_iter().chain(measured).map(|it| it.unwrap().samples).collect();
    assert_eq!(samples, [3, 1, 1, 3]);
}

#[tokio::test]
async fn every_stage_leaves_its_journal() {
    let dir = scratch();
    let summary = run(dir.path(), &Settings::default()).await.unwrap();
    for row in &summary.iterations {
        let folder = dir.path().join(format!("iteration-{:02}", row.iteration));
        let responses: Vec<ResponseRecord> = read_journal(&folder.join("responses.jsonl")).unwrap();
        let ids: Vec<_> = responses.iter().map(|record| record.sample.as_str()).collect();
        assert_eq!(ids, ["s0", "s1", "s2", "s3", "s4", "s5", "s6", "s7"]);
        let verdicts: Vec<VerdictRecord> = read_journal(&folder.join("verdicts.jsonl")).unwrap();
        assert!(verdicts.iter().all(|record| record.context == Some(row.iteration)));
        let pairs: Vec<PairRecord> = read_journal(&folder.join("pairs.jsonl")).unwrap();
        assert_eq!(pairs.len(), row.pairs.kept);
        assert!(pairs.iter().all(|pair| pair.p_chosen > 0.5 && pair.chosen != pair.rejected));
        let steps: Vec<TrainRecord> = read_journal(&folder.join("metrics.jsonl")).unwrap();
        assert_eq!(steps.len() as u64, row.training.steps);
        let answers: Vec<AnswerRecord> = read_journal(&folder.join("evaluation.jsonl")).unwrap();
        assert_eq!(answers.len(), 3);
        let evaluation: Option<EvaluationRecord> = read_json(&folder.join("evaluation.json")).unwrap();
        assert_eq!(evaluation, row.evaluation);
        let quarantine: Vec<QuarantineRecord> = read_journal(&folder.join("quarantine.jsonl")).unwrap();
        assert!(quarantine.is_empty() && folder.join("checkpoint/weights.json").exists());
    }
    let left: Vec<_> = tree(dir.path()).into_keys().filter(|name| name.contains("tmp")).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn of_several_answers_the_best_is_trained_on_against_the_worst() {
    let dir = scratch();
    let mut settings = Settings::default();
    (settings.r#loop.responses, settings.r#loop.iterations) = (4, 1);
    run(dir.path(), &settings).await.unwrap();
    let folder = dir.path().join("iteration-01");
    let responses: Vec<ResponseRecord> = read_journal(&folder.join("responses.jsonl")).unwrap();
    let verdicts: Vec<VerdictRecord> = read_journal(&folder.join("verdicts.jsonl")).unwrap();
    assert!(verdicts.iter().any(|record| record.comparisons.len() == 6), "all four differ now and then");
    let mut ranked = 0;
    for record in &verdicts {
        let answers = responses.iter().find(|it| it.sample == record.sample).unwrap();
        let text = |place: usize| answers.responses[place].text.as_str();
        let rounds = &record.comparisons;
        assert!(rounds.iter().all(|round| text(round.compared[0]) != text(round.compared[1])));
        if rounds.is_empty() {
            continue;
        }
        ranked += 1;
        // Each has a seed of its own, and the verdict is one of them, with its seed.
        let own = rounds.iter().find(|round| round.compared == record.compared).unwrap();
        assert_eq!((own.seed, own.verdict.p_first), (record.seed, record.verdict.p_first));
        let seeds: std::collections::HashSet<_> = rounds.iter().map(|round| round.seed).collect();
        assert_eq!(seeds.len(), rounds.len());
        // No answer has more than the winner of the comparison, and none less than the loser.
        let points = |place: usize| -> f64 {
            let of = |round: &isr_api::records::ComparisonRecord| match round.compared {
                [one, _] if one == place => round.verdict.p_first,
                [_, other] if other == place => 1.0 - round.verdict.p_first,
                _ => 0.0,
            };
            rounds.iter().map(of).sum()
        };
        let all: Vec<f64> = rounds.iter().flat_map(|round| round.compared).map(points).collect();
        let [one, other] = record.compared.map(points);
        assert_eq!(all.iter().copied().fold(f64::MIN, f64::max), one.max(other));
        assert_eq!(all.iter().copied().fold(f64::MAX, f64::min), one.min(other));
    }
    assert!(ranked > 2, "{ranked}");
    let pairs: Vec<PairRecord> = read_journal(&folder.join("pairs.jsonl")).unwrap();
    for pair in &pairs {
        let verdict = verdicts.iter().find(|record| record.sample == pair.id).unwrap();
        let mut places = [pair.chosen_index, pair.rejected_index];
        places.sort_unstable();
        assert_eq!(places, verdict.compared);
    }
}

#[tokio::test]
async fn an_oracle_is_named_in_every_record_of_its_verdicts_and_no_other_judge_is() {
    let (plain, marked) = (scratch(), scratch());
    run(plain.path(), &Settings::default()).await.unwrap();
    let summary = run(marked.path(), &Settings { oracle: true, ..Settings::default() }).await.unwrap();
    assert!(summary.iterations.iter().all(|row| row.judge.oracle));
    let read = |dir: &std::path::Path, name: &str| {
        std::fs::read_to_string(dir.join("iteration-01").join(name)).unwrap()
    };
    for name in ["verdicts.jsonl", "pairs.jsonl"] {
        assert!(
            read(marked.path(), name).lines().all(|line| line.ends_with(",\"oracle\":true}")),
            "{name}"
        );
        // Records of two answers and an ordinary judge are what they were before there were others.
        let text = read(plain.path(), name);
        assert!(!text.contains("oracle") && !text.contains("rounds"), "{name}");
        assert_eq!(read(marked.path(), name).replace(",\"oracle\":true}", "}"), text);
    }
}

#[tokio::test]
async fn contexts_are_conditioned_on_those_of_the_iteration_before() {
    let dir = scratch();
    run(dir.path(), &Settings::default()).await.unwrap();
    let read = |t: u32| -> Vec<VisualContext> {
        read_journal(&dir.path().join(format!("iteration-{t:02}/contexts.jsonl"))).unwrap()
    };
    assert!(read(1).iter().all(|context| context.parent.is_none() && context.text.ends_with("nothing)")));
    for t in 2..=3 {
        for (context, before) in read(t).iter().zip(read(t - 1)) {
            assert_eq!(
                (&context.video, context.iteration, context.parent),
                (&before.video, t, Some(t - 1))
            );
            assert!(context.text.ends_with(&format!("(before: {})", before.text)));
        }
    }
}

#[tokio::test]
async fn a_video_that_an_iteration_leaves_out_keeps_its_older_context() {
    let dir = scratch();
    let mut settings = Settings::default();
    settings.r#loop.samples = Some(3);
    settings.r#loop.iterations = 6;
    run(dir.path(), &settings).await.unwrap();
    let mut newest = std::collections::HashMap::new();
    for t in 1..=6 {
        let path = dir.path().join(format!("iteration-{t:02}/contexts.jsonl"));
        for context in read_journal::<VisualContext>(&path).unwrap() {
            assert_eq!(context.parent, newest.insert(context.video, t));
        }
    }
    assert_eq!(newest.len(), 4, "some video was never drawn");
}

#[tokio::test]
async fn a_run_needs_neither_retrospector_nor_evaluator() {
    let dir = scratch();
    let mut components = Fakes::new(&Arc::default()).components;
    (components.retrospector, components.evaluator) = (None, None);
    let summary = run_with(dir.path(), &Settings::default(), components).await.unwrap();
    assert!(summary.base.is_none() && !dir.path().join("iteration-00").exists());
    assert!(summary.iterations.iter().all(|row| row.evaluation.is_none() && row.contexts.is_empty()));
    assert!(summary.iterations.iter().all(|row| row.judge.agreement.is_none()));
    assert!(!dir.path().join("iteration-01/contexts.jsonl").exists());
}

#[tokio::test]
async fn a_run_may_skip_the_base_evaluation() {
    let dir = scratch();
    let mut settings = Settings::default();
    settings.evaluation.base = false;
    let summary = run(dir.path(), &settings).await.unwrap();
    assert!(summary.base.is_none() && summary.iterations[0].evaluation.is_some());
}

#[tokio::test]
async fn a_video_is_read_once_while_it_fits_in_memory() {
    let dir = scratch();
    let control = Arc::<Control>::default();
    run_under(dir.path(), &Settings::default(), &control).await.unwrap();
    let counts = control.counts();
    assert!((0..4).all(|clip| counts[&format!("read clips/s{clip}.mp4")] == 1), "{counts:?}");
    assert_eq!(counts["encode"], 6);
}

#[tokio::test]
async fn evaluation_uses_the_same_draws_in_all_iterations() {
    let dir = scratch();
    let control = Arc::<Control>::default();
    run_under(dir.path(), &Settings::default(), &control).await.unwrap();
    let counts = control.counts();
    let generations: Vec<_> = counts.iter().filter(|(call, _)| call.starts_with("generate")).collect();
    // Greedy and sampled, for the base model and after each of three iterations.
    assert_eq!(generations.iter().filter(|(_, count)| **count == 8).count(), 3);
    // Eight samples and four videos in three iterations, each with a seed of its own.
    assert_eq!(generations.iter().filter(|(_, count)| **count == 1).count(), 36);
    assert_eq!(generations.len(), 39);
}

#[tokio::test]
async fn the_policy_holds_the_last_checkpoint_after_the_run() {
    let dir = scratch();
    let fakes = Fakes::new(&Arc::default());
    let summary = run_with(dir.path(), &Settings::default(), fakes.components.clone()).await.unwrap();
    let last = summary.iterations[2].evaluation.as_ref().unwrap();
    assert_eq!(fakes.policy.fingerprint(), last.policy);
}

#[tokio::test]
async fn a_run_can_be_a_task_of_its_own() {
    let dir = scratch();
    let path = dir.path().to_owned();
    let task = tokio::spawn(async move { run(&path, &Settings::default()).await });
    assert_eq!(task.await.unwrap().unwrap().iterations.len(), 3);
}

#[tokio::test]
async fn observers_see_what_happens_in_order() {
    let dir = scratch();
    let log = Arc::new(Log::default());
    let mut settings = Settings { observers: vec![log.clone()], ..Settings::default() };
    settings.r#loop.iterations = 1;
    settings.r#loop.samples = Some(4);
    settings.evaluation.samples = Some(1);
    let rule = |call: &crate::control::Call<'_>| match call.name {
        "read clips/s3.mp4" => Act::BadInput("no such clip"),
        _ => Act::Work,
    };
    let control = Arc::new(Control::with(rule).delayed(3));
    run_under(dir.path(), &settings, &control).await.unwrap();
    insta::assert_snapshot!(log.lines().join("\n"), @r"
    run test: 1/1
    0 evaluate: 0/1
      evaluate item
    0 evaluate: done
    base evaluated
    1 respond: 0/4
      respond item
      respond item
      respond quarantined s6: no such clip
      respond quarantined s7: no such clip
    1 respond: done
    1 retrospect: 0/2
      retrospect item
      retrospect item
    1 retrospect: done
    1 judge: 0/2
      judge item
      judge item
    1 judge: done
    1 train: 0/2
      train step 0
      train step 1
    1 train: done
    1 evaluate: 0/1
      evaluate item
    1 evaluate: done
    iteration 1 finished
    run finished
    ");
}

#[tokio::test]
async fn observers_of_a_resumed_run_see_what_was_done_before() {
    let dir = scratch();
    let mut settings = Settings::default();
    settings.r#loop.iterations = 2;
    settings.r#loop.concurrency = 1;
    settings.r#loop.samples = Some(4);
    settings.evaluation.samples = Some(1);
    settings.train.snapshot_every = Some(1);
    let cut = |call: &crate::control::Call<'_>| match call.name {
        "train 2" => Act::Cancelled,
        _ => Act::Work,
    };
    run_under(dir.path(), &settings, &Arc::new(Control::with(cut))).await.unwrap_err();
    let log = Arc::new(Log::default());
    settings.observers = vec![log.clone()];
    run(dir.path(), &settings).await.unwrap();
    let first_iteration = log.lines().into_iter().take_while(|line| !line.starts_with("2 "));
    insta::assert_snapshot!(first_iteration.collect::<Vec<_>>().join("\n"), @r"
    run test: 1/2
    1 respond: 4/4
    1 respond: done
    1 retrospect: 3/3
    1 retrospect: done
    1 judge: 4/4
    1 judge: done
    1 train: 2/4
      train step 2
      train step 3
    1 train: done
    1 evaluate: 0/1
      evaluate item
    1 evaluate: done
    iteration 1 finished
    ");
}
