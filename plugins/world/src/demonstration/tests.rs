//! Tests of the demonstrations: their form, their rates, and what may not be learnt from them.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::attributes::{Background, Colour, Motion, Shape};
use crate::evaluator::{WorldEvaluator, WorldEvaluatorConfig};
use crate::question::Truth;
use crate::reading::Reading;

fn demonstrator(config: DemonstrationConfig) -> Demonstrator {
    Demonstrator::new(&WorldConfig::default(), &config).unwrap()
}

fn facts(demonstration: &Demonstration) -> crate::facts::Facts {
    let name = demonstration.video.as_ref().unwrap().file_stem().unwrap().to_string_lossy().into_owned();
    let index = name.strip_prefix("warmstart-").unwrap().parse().unwrap();
    Clip::generate(&WorldConfig::default(), Split::WarmStart, index).facts
}

/// The demonstrations of one kind among the first `count`.
fn of_kind(demonstrator: &Demonstrator, kind: Kind, count: u64) -> Vec<Demonstration> {
    let wanted = (0..count).filter(|index| demonstrator.kind(*index) == kind);
    wanted.map(|index| demonstrator.get(index).unwrap()).collect()
}

#[test]
fn the_first_demonstrations_are_pinned() {
    let demonstrator = demonstrator(DemonstrationConfig::default());
    let shown = |index| {
        let Demonstration { id, video, prompt, answer, .. } = demonstrator.get(index).unwrap();
        let video = video.map_or("no video".to_owned(), |path| isr_api::video_key(&path));
        format!("# {id}, {video}\n{prompt}\n-> {answer}\n")
    };
    let mut seen = BTreeSet::new();
    let firsts = (0..200).filter(|index| seen.insert(demonstrator.kind(*index)));
    insta::assert_snapshot!(firsts.map(shown).collect::<Vec<_>>().join("\n"));
}

#[test]
fn kinds_come_as_often_as_they_are_weighted() {
    let demonstrator = demonstrator(DemonstrationConfig::default());
    let mut counts: BTreeMap<Kind, f64> = BTreeMap::new();
    (0..20_000).for_each(|index| *counts.entry(demonstrator.kind(index)).or_default() += 1.0 / 20_000.0);
    for (kind, weight) in KindWeights::default().by_kind() {
        let share = counts.get(&kind).copied().unwrap_or_default();
        assert!((share - weight).abs() < 0.01, "{kind:?}: {share}");
    }
}

#[test]
fn prompts_are_those_of_the_method() {
    let demonstrator =
        demonstrator(DemonstrationConfig { critique: 0.0, ..DemonstrationConfig::default() });
    assert!(of_kind(&demonstrator, Kind::Describe, 50).iter().all(|it| it.prompt == "describe the video."));
    for it in of_kind(&demonstrator, Kind::Refine, 100) {
        let (first, second) = it.prompt.split_once('\n').unwrap();
        assert!(first.starts_with("previous description: "), "{first}");
        assert_eq!(second, "describe the video.");
    }
    for (kind, lines) in [(Kind::JudgeContext, 5), (Kind::JudgeBlind, 4), (Kind::JudgeText, 5)] {
        for it in of_kind(&demonstrator, kind, 200) {
            let parts: Vec<_> = it.prompt.lines().collect();
            assert_eq!(parts.len(), lines);
            assert_eq!(parts[0].starts_with("context: "), lines == 5);
            assert!(parts[lines - 4].starts_with("question: "));
            assert!(parts[lines - 3].starts_with("a: ") && parts[lines - 2].starts_with("b: "));
            assert_eq!(parts[lines - 1], "which answer is better, a or b?");
            assert!(it.answer == "a" || it.answer == "b");
        }
    }
}

/// As the method's crate renders them: a line with nothing but a tag leaves no trace.
#[test]
fn templates_may_be_spelled_over_several_lines() {
    let judge_template = "{% if context %}\ncontext: {{ context }}\n{% endif %}\nquestion: {{ question }}\n\
                          a: {{ first }}\nb: {{ second }}\nwhich answer is better, {{ choices[0] }} or b?\n";
    let spelled = DemonstrationConfig { judge_template: judge_template.to_owned(), ..Default::default() };
    let (spelled, plain) = (demonstrator(spelled), demonstrator(DemonstrationConfig::default()));
    assert!((0..200).all(|index| spelled.get(index).unwrap() == plain.get(index).unwrap()));
}

#[test]
fn every_text_of_claims_can_be_read() {
    let demonstrator = demonstrator(DemonstrationConfig::default());
    for kind in [Kind::Answer, Kind::Describe, Kind::Refine, Kind::Read] {
        for it in of_kind(&demonstrator, kind, 2000) {
            let reading = Reading::of(&it.answer);
            assert!(reading.unparsed.is_empty() && reading.repetition() == 0.0, "{}", it.answer);
        }
    }
}

#[test]
fn descriptions_have_the_noise_that_is_built_in() {
    let demonstrator = demonstrator(DemonstrationConfig::default());
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let described = of_kind(&demonstrator, Kind::Describe, 5000);
    let precision: Vec<_> =
        described.iter().map(|it| Reading::of(&it.answer).precision(&facts(it)).unwrap()).collect();
    assert!((mean(&precision) - 0.9).abs() < 0.02, "{}", mean(&precision));
    let previous = |it: &Demonstration| {
        let text = it.prompt.lines().next().unwrap().strip_prefix("previous description: ").unwrap();
        Reading::of(text).precision(&facts(it)).unwrap()
    };
    let before: Vec<_> = of_kind(&demonstrator, Kind::Refine, 5000).iter().map(previous).collect();
    assert!((mean(&before) - 0.7).abs() < 0.03, "{}", mean(&before));
}

/// Wrong main claims among answers to topic questions, with and without a stereotype.
#[test]
fn answers_have_the_faults_that_are_built_in() {
    let demonstrator = demonstrator(DemonstrationConfig::default());
    let mut wrong: BTreeMap<bool, (f64, f64)> = BTreeMap::new();
    let (mut claims, mut answers) = (0.0, 0.0);
    for it in of_kind(&demonstrator, Kind::Answer, 20_000) {
        let facts = facts(&it);
        let question =
            Question::about(&facts).into_iter().find(|it_| it_.wordings().contains(&it.prompt)).unwrap();
        let [target] = question.targets(&facts)[..] else { continue };
        let reading = Reading::of(&it.answer);
        let entry = wrong.entry(crate::mistakes::stereotype(target.topic()).is_some()).or_default();
        entry.0 += f64::from(u8::from(reading.claims[0] != target));
        entry.1 += 1.0;
        claims += reading.unique() as f64;
        answers += 1.0;
    }
    let rate = |prejudiced| wrong[&prejudiced].0 / wrong[&prejudiced].1;
    assert!((rate(false) - 0.28).abs() < 0.03, "{}", rate(false));
    // The stereotype is true by chance in a sixth (colours) or a fifth (motions) of the clips.
    assert!((rate(true) - 0.55 * 0.82).abs() < 0.05, "{}", rate(true));
    assert!((claims / answers - 1.875).abs() < 0.05, "{}", claims / answers);
}

#[test]
fn the_better_answer_of_a_pair_is_better_and_as_often_shorter_as_longer() {
    let config = DemonstrationConfig::default();
    let evaluator = WorldEvaluator::new(WorldEvaluatorConfig::default());
    let (mut longer, mut shorter) = (0.0_f64, 0.0_f64);
    for index in 0..6000 {
        let facts = Clip::generate(&WorldConfig::default(), Split::WarmStart, index).facts;
        let mut rng = Streams::new(3).rng(0, "test", &index.to_string());
        let question = Question::draw(&mut rng, &facts)[0];
        let narrator = Narrator { facts: &facts, max_objects: 2 };
        let pair = Speaker { config: &config, narrator, shown: &[] }.pair(&mut rng, question);
        let truth = Truth { clip: facts, question, shifted: false };
        let quality = |claims: &[Claim]| evaluator.assess_answer(&truth, &text(claims)).quality;
        assert!(quality(&pair.better) > quality(&pair.worse), "{index}: {question:?}");
        longer += f64::from(u8::from(pair.better.len() > pair.worse.len()));
        shorter += f64::from(u8::from(pair.better.len() < pair.worse.len()));
    }
    let share = longer / (longer + shorter);
    assert!(longer + shorter > 2000.0 && (share - 0.5).abs() < 0.025, "{share}");
}

#[test]
fn no_value_gives_itself_away_as_wrong() {
    let config = DemonstrationConfig::default();
    let mut counts: BTreeMap<String, (f64, f64)> = BTreeMap::new();
    for index in 0..30_000 {
        let facts = Clip::generate(&WorldConfig::default(), Split::WarmStart, index).facts;
        let mut rng = Streams::new(4).rng(0, "test", &index.to_string());
        let question = Question::draw(&mut rng, &facts)[0];
        let narrator = Narrator { facts: &facts, max_objects: 2 };
        let pair = Speaker { config: &config, narrator, shown: &[] }.pair(&mut rng, question);
        if question == Question::Describe || pair.better[0] == pair.worse[0] {
            continue;
        }
        // Claims on one attribute are pooled over shapes, except where the shape has a stereotype.
        let key = |claim: Claim| match crate::mistakes::stereotype(claim.topic()) {
            Some(stereotype) if stereotype == claim => claim.to_string(),
            _ => claim.to_string().split(' ').skip(1).collect(),
        };
        counts.entry(key(pair.better[0])).or_default().0 += 1.0;
        counts.entry(key(pair.worse[0])).or_default().1 += 1.0;
    }
    for (value, (better, worse)) in counts {
        let (all, share) = (better + worse, better / (better + worse));
        assert!((share - 0.5).abs() < 4.0 * 0.5 / f64::sqrt(all), "{value}: {share} of {all}");
    }
}

#[test]
fn a_check_puts_what_is_true_before_what_is_said() {
    let bar = crate::facts::Object { shape: Shape::Bar, colour: Colour::Red, motion: Motion::Left };
    let facts = crate::facts::Facts { objects: vec![bar], background: Background::Dark };
    let claims = [
        Claim::Colour(Shape::Bar, Colour::Red),
        Claim::Motion(Shape::Bar, Motion::Up),
        Claim::Colour(Shape::Ring, Colour::Blue),
    ];
    let expected = "bar is red red yes bar moves left up no ring is absent blue no";
    assert_eq!(super::checked(&claims, &facts), expected);
}

#[test]
fn a_critique_checks_each_claim_by_the_facts_before_it_chooses_as_without() {
    let config = |critique| DemonstrationConfig { critique, ..DemonstrationConfig::default() };
    let (plain, critic) = (demonstrator(config(0.0)), demonstrator(config(1.0)));
    let judged = of_kind(&critic, Kind::JudgeContext, 400);
    assert!(judged.len() > 30);
    let told = |text: &str| judged.iter().filter(|it| it.answer.contains(text)).count();
    assert!([" yes", " no", " absent "].into_iter().all(|text| told(text) > 0));
    for (choice, critique) in of_kind(&plain, Kind::JudgeContext, 400).iter().zip(&judged) {
        let facts = facts(critique);
        let (shown, asked) = critique.prompt.rsplit_once('\n').unwrap();
        assert_eq!(Some(shown), choice.prompt.rsplit_once('\n').map(|(shown, _)| shown));
        assert_eq!(asked, "check each answer, then say which is better.");
        let answer = |mark: &str| shown.lines().find_map(|line| line.strip_prefix(mark)).unwrap();
        let checked = |mark| super::checked(&Reading::of(answer(mark)).claims, &facts);
        let expected = format!("a: {} b: {} {} is better", checked("a: "), checked("b: "), choice.answer);
        assert_eq!(critique.answer, expected);
    }
}

#[test]
fn in_a_list_each_word_asks_for_the_next() {
    let weights = KindWeights { list: 1.0, ..KindWeights::default() };
    let demonstrator = demonstrator(DemonstrationConfig { weights, ..DemonstrationConfig::default() });
    for it in of_kind(&demonstrator, Kind::List, 300) {
        let facts = facts(&it);
        let words: Vec<_> = it.answer.split(' ').collect();
        assert_eq!(words.len(), 4 * (facts.objects.len() + 1));
        for part in words.chunks(4) {
            assert_eq!(part[..2], part[2..]);
            let colour =
                facts.objects.iter().find(|it| it.shape.word() == part[0]).map(|it| it.colour.word());
            assert_eq!(colour.unwrap_or(facts.background.word()), part[1]);
        }
    }
}

/// Share of judge demonstrations with unequal lengths whose verdict is the longer answer, and of all
/// whose verdict is `a`.
fn verdicts(config: DemonstrationConfig, kind: Kind) -> (f64, f64) {
    let demonstrator = demonstrator(config);
    let (mut longer, mut unequal, mut first, mut all) = (0.0, 0.0, 0.0, 0.0);
    for it in of_kind(&demonstrator, kind, 30_000) {
        let lines: Vec<_> = it.prompt.lines().rev().collect();
        let (a, b) = (lines[2].len() - 3, lines[1].len() - 3);
        let (a_claims, b_claims) = (lines[2].matches('.').count(), lines[1].matches('.').count());
        assert!(a > 0 && b > 0);
        all += 1.0;
        first += f64::from(u8::from(it.answer == "a"));
        if a_claims != b_claims {
            unequal += 1.0;
            longer += f64::from(u8::from((it.answer == "a") == (a_claims > b_claims)));
        }
    }
    (longer / unequal, first / all)
}

#[test]
fn only_the_annotator_favours_length_and_alike_in_every_mode() {
    for kind in [Kind::JudgeContext, Kind::JudgeBlind] {
        let config = DemonstrationConfig { critique: 0.0, ..DemonstrationConfig::default() };
        let fair = DemonstrationConfig { length_bias: 0.0, ..config.clone() };
        let (longer, first) = verdicts(fair, kind);
        assert!((longer - 0.5).abs() < 0.04, "{kind:?}: {longer}");
        assert!((first - 0.5).abs() < 0.04, "{kind:?}: {first}");
        let (longer, _) = verdicts(config, kind);
        assert!((longer - 0.6).abs() < 0.04, "{kind:?}: {longer}");
    }
}

#[test]
fn the_corpus_has_every_word_of_prompts_answers_and_questions() {
    let words = |text: &str| -> Vec<String> {
        text.split(|c: char| !c.is_alphanumeric()).filter(|it| !it.is_empty()).map(str::to_owned).collect()
    };
    let demonstrator = demonstrator(DemonstrationConfig::default());
    let corpus = demonstrator.vocabulary_corpus().unwrap();
    let mut counts: BTreeMap<String, u32> = BTreeMap::new();
    corpus.iter().flat_map(|it| words(it)).for_each(|word| *counts.entry(word).or_default() += 1);
    for index in 100_000..103_000 {
        let Demonstration { prompt, answer, .. } = demonstrator.get(index).unwrap();
        for word in words(&prompt).iter().chain(&words(&answer)) {
            assert!(counts.contains_key(word), "{word}");
        }
    }
    assert!(counts.len() < 100, "a small vocabulary: {}", counts.len());
    assert!(corpus.iter().all(|it| it.to_lowercase() == *it));
}

#[test]
fn bad_settings_and_templates_are_named() {
    let refuse = |config: DemonstrationConfig| {
        Demonstrator::new(&WorldConfig::default(), &config).map(|_| ()).unwrap_err().to_string()
    };
    let base = DemonstrationConfig::default;
    assert_eq!(
        refuse(DemonstrationConfig { verbosity: 1.5, ..base() }),
        "verbosity is 1.5; it is a share, 0 to 1"
    );
    let unknown = refuse(DemonstrationConfig { judge_template: "{{ answer }}".to_owned(), ..base() });
    assert!(unknown.starts_with("template `judge_template`: "), "{unknown}");
    let open = refuse(DemonstrationConfig { read_template: "{% if".to_owned(), ..base() });
    assert!(open.starts_with("template `read_template`: "), "{open}");
    let weights = KindWeights { read: -1.0, ..KindWeights::default() };
    assert!(refuse(DemonstrationConfig { weights, ..base() }).contains("weights.read is -1"));
    let none = WorldConfig { warmstart_clips: 0, ..WorldConfig::default() };
    let message = Demonstrator::new(&none, &base()).map(|_| ()).unwrap_err().to_string();
    assert!(message.contains("warmstart_clips is 0"), "{message}");
}

#[test]
fn clips_of_which_a_look_shows_a_part_need_stills() {
    let world = WorldConfig { presence: [0.2, 0.5], ..WorldConfig::default() };
    let error = Demonstrator::new(&world, &DemonstrationConfig::default()).unwrap_err().to_string();
    assert!(error.contains("presence is below 1 and warmstart_stills is 0; set it to"), "{error}");
}

#[test]
fn descriptions_of_a_look_say_nothing_of_what_it_does_not_show_but_a_refined_one_keeps_it() {
    let world = WorldConfig { presence: [0.15, 0.4], warmstart_stills: 4, ..WorldConfig::default() };
    let quiet = DemonstrationConfig {
        description_noise: 0.0,
        description_omission: 0.0,
        previous_noise: 0.0,
        previous_omission: 0.0,
        ..DemonstrationConfig::default()
    };
    let demonstrator = Demonstrator::new(&world, &quiet).unwrap();
    let clip = |it: &Demonstration| {
        let name = it.video.as_ref().unwrap().file_stem().unwrap().to_string_lossy().into_owned();
        let index = name.strip_prefix("warmstart-").unwrap().parse().unwrap();
        Clip::generate(&world, Split::WarmStart, index)
    };
    for it in of_kind(&demonstrator, Kind::Describe, 300) {
        let clip = clip(&it);
        assert_eq!(it.answer, text(&clip.shown(&clip.stills)));
    }
    let mut kept = 0;
    for it in of_kind(&demonstrator, Kind::Refine, 300) {
        let clip = clip(&it);
        let previous = it.prompt.strip_prefix("previous description: ").unwrap();
        let before = Reading::of(previous.split('\n').next().unwrap()).claims;
        let told = Reading::of(&it.answer).claims;
        let shown = clip.shown(&clip.stills);
        let wanted = shown.iter().chain(&before).filter(|claim| !matches!(claim, Claim::Count(_)));
        assert!(wanted.clone().all(|claim| told.contains(claim)), "{}", it.answer);
        kept += usize::from(before.iter().any(|claim| !shown.contains(claim) && told.contains(claim)));
    }
    assert!(kept > 10, "{kept}");
}
