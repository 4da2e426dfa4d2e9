//! The judges `verdict`, `pointwise` and `rubric`.

use isr_api::{ComponentError, Part};

use isr_testing::ScriptedPolicy;
use isr_testing::fixtures::case;

use crate::support::{judge, judged};

/// Whether the red answer stands before the blue one in a prompt.
fn red_first(text: &str) -> bool {
    text.find("red.").unwrap() < text.find("blue.").unwrap()
}

#[tokio::test]
async fn both_orders_are_asked_and_the_answer_wins_and_not_the_place() {
    let fake = ScriptedPolicy::replying(|request| {
        let red_is_first = red_first(&request.prompt.transcript());
        if red_is_first { "A".to_owned() } else { "B.".to_owned() }
    });
    let verdict =
        judged(&fake, &judge("type = 'verdict'"), &case("it is red.", "it is blue.")).await.unwrap();
    assert_eq!((verdict.p_first, verdict.consistent, verdict.votes.len()), (1.0, true, 2));
    let orders: Vec<_> = fake.prompts().iter().map(|text| red_first(text)).collect();
    assert_eq!(orders, [true, false]);
    assert_ne!(fake.generated()[0].seed, fake.generated()[1].seed, "each order has its own draw");
    assert!(verdict.votes[0].first_shown_first && !verdict.votes[1].first_shown_first);
}

#[tokio::test]
async fn a_position_bias_shows_as_an_inconsistent_half() {
    let verdict =
        judged(&ScriptedPolicy::saying("A"), &judge("type = 'verdict'"), &case("a", "b")).await.unwrap();
    assert_eq!((verdict.p_first, verdict.consistent), (0.5, false));
    let given = judge("type = 'verdict'\norders = 'given'");
    let verdict = judged(&ScriptedPolicy::saying("A"), &given, &case("a", "b")).await.unwrap();
    assert_eq!((verdict.p_first, verdict.votes.len()), (1.0, 1));
}

#[tokio::test]
async fn what_is_shown_is_what_the_config_says() {
    let fake = ScriptedPolicy::saying("A");
    judged(&fake, &judge("type = 'verdict'\nsystem = 'Be fair.'"), &case("x1", "x2")).await.unwrap();
    insta::assert_snapshot!(fake.prompts()[0]);
    let request = &fake.generated()[0];
    assert_eq!((request.sampling.temperature, request.sampling.max_new_tokens), (0.0, 32));
    assert!(matches!(request.prompt.messages[1].parts[0], Part::Video(_)));

    let blind = ScriptedPolicy::saying("A");
    let section = "type = 'verdict'\nvideo = false\nuse_context = false";
    judged(&blind, &judge(section), &case("x1", "x2")).await.unwrap();
    assert!(!blind.prompts()[0].contains("a red bar moves") && !blind.prompts()[0].contains("<video>"));
}

#[tokio::test]
async fn an_unreadable_reply_is_asked_again_with_another_seed_and_some_heat() {
    let fake = ScriptedPolicy::replying(|request| {
        if request.sampling.temperature == 0.0 { "Hm.".to_owned() } else { "B".to_owned() }
    });
    let section = "type = 'verdict'\norders = 'given'\nreply = { retry_temperature = 0.5 }";
    let verdict = judged(&fake, &judge(section), &case("a", "b")).await.unwrap();
    assert_eq!(verdict.p_first, 0.0);
    let asked = fake.generated();
    let temperatures: Vec<_> = asked.iter().map(|request| request.sampling.temperature).collect();
    assert_eq!(temperatures, [0.0, 0.5]);
    assert_ne!(asked[0].seed, asked[1].seed);
}

#[tokio::test]
async fn after_the_last_attempt_the_case_is_bad_input_and_shows_the_reply() {
    let fake = ScriptedPolicy::saying(
        "A dog runs, and I like both answers about equally well, if you would like to know.",
    );
    let section = "type = 'verdict'\norders = 'given'\nreply = { attempts = 4 }";
    let error = judged(&fake, &judge(section), &case("a", "b")).await.unwrap_err();
    assert!(matches!(error, ComponentError::BadInput(_)));
    insta::assert_snapshot!(error);
    assert_eq!(fake.generated().len(), 4);
}

#[tokio::test]
async fn scores_of_each_answer_alone_are_compared() {
    let fake = ScriptedPolicy::replying(|request| {
        let text = request.prompt.transcript();
        assert!(!(text.contains("red.") && text.contains("blue.")), "answers are seen alone");
        if text.contains("red.") { "Score: 4/5".to_owned() } else { "2.5".to_owned() }
    });
    let section = "type = 'pointwise'\nslope = 2.0";
    let verdict = judged(&fake, &judge(section), &case("it is red.", "it is blue.")).await.unwrap();
    assert!((verdict.p_first - 1.0 / (1.0 + (-3.0_f64).exp())).abs() < 1e-12, "{verdict:?}");
    assert!(verdict.consistent && verdict.votes.is_empty());
    assert!(fake.prompts()[0].contains("from 1 (wrong) to 5 (right"), "{}", fake.prompts()[0]);
}

#[tokio::test]
async fn a_score_beyond_the_scale_cannot_be_read() {
    for reply in ["7", "-1", "0", "no idea"] {
        let error = judged(&ScriptedPolicy::saying(reply), &judge("type = 'pointwise'"), &case("a", "b"))
            .await
            .unwrap_err();
        assert!(matches!(error, ComponentError::BadInput(_)), "{reply}");
        assert!(error.to_string().contains("a score from 1 to 5"), "{error}");
    }
    let wide = judge("type = 'pointwise'\nscale = [0, 10]");
    assert_eq!(judged(&ScriptedPolicy::saying("7"), &wide, &case("a", "b")).await.unwrap().p_first, 0.5);
}

#[tokio::test]
async fn a_score_after_reasoning_is_the_last_match() {
    let section = "type = 'pointwise'\npattern = 'Score: (\\d)'\ntake = 'last'";
    let fake = ScriptedPolicy::replying(|request| {
        let score = if request.prompt.transcript().contains("red.") { 5 } else { 4 };
        format!("Score: 1 would be harsh for 3 errors. Score: {score}")
    });
    let verdict = judged(&fake, &judge(section), &case("it is red.", "it is blue.")).await.unwrap();
    assert!((verdict.p_first - 1.0 / (1.0 + (-1.0_f64).exp())).abs() < 1e-12, "{verdict:?}");
}

#[tokio::test]
async fn a_rubric_weighs_its_criteria() {
    let section = "type = 'rubric'\nslope = 1.0\ncriteria = [{ name = 'truth', weight = 3.0 }, \
                   { name = 'style', description = 'Is it plain?' }]";
    let fake = ScriptedPolicy::replying(|request| {
        let text = request.prompt.transcript();
        let score = match (text.contains("red."), text.contains("Criterion: truth.")) {
            (true, true) => 5,
            (true, false) => 1,
            (false, _) => 3,
        };
        score.to_string()
    });
    let verdict = judged(&fake, &judge(section), &case("it is red.", "it is blue.")).await.unwrap();
    // (3 * 5 + 1) / 4 - 3 = 1.
    assert!((verdict.p_first - 1.0 / (1.0 + (-1.0_f64).exp())).abs() < 1e-12, "{verdict:?}");
    let mut seeds: Vec<_> = fake.generated().iter().map(|request| request.seed).collect();
    seeds.sort_unstable();
    seeds.dedup();
    assert_eq!(seeds.len(), 4, "each score has its own draw");
    assert!(fake.prompts().iter().any(|text| text.contains("Criterion: style. Is it plain?")));
}
