//! The judges `random`, `length` and `rule`.

use isr_testing::ScriptedPolicy;
use isr_testing::fixtures::case;

use crate::support::{judge, judged};

async fn probability(section: &str, first: &str, second: &str) -> f64 {
    let verdict = judged(&ScriptedPolicy::saying(""), &judge(section), &case(first, second)).await.unwrap();
    assert!(verdict.votes.is_empty() && verdict.consistent);
    verdict.p_first
}

#[tokio::test]
async fn a_coin_falls_either_way_about_as_often() {
    let (coin, fake) = (judge("type = 'random'"), ScriptedPolicy::saying(""));
    let mut heads = 0;
    for seed in 0..400 {
        let mut case = case("a", "b");
        case.seed = seed;
        let p = judged(&fake, &coin, &case).await.unwrap().p_first;
        assert!(p == 0.0 || p == 1.0);
        heads += usize::from(p == 1.0);
    }
    // 200 +- 4 standard deviations.
    assert!((160..=240).contains(&heads), "{heads}");
    assert!(fake.generated().is_empty());
}

#[tokio::test]
async fn a_uniform_draw_has_margins_to_rank_by() {
    let uniform = "type = 'random'\ndistribution = 'uniform'";
    let p = probability(uniform, "a", "b").await;
    assert!(p > 0.0 && p < 1.0 && p != 0.5);
    assert_eq!(probability(uniform, "a", "a").await, 0.5);
}

#[tokio::test]
async fn length_counts_words_and_a_tie_is_one_half() {
    assert_eq!(probability("type = 'length'", "one", "one two").await, 1.0);
    assert_eq!(probability("type = 'length'", "one two", "extraordinarily").await, 0.0);
    assert_eq!(probability("type = 'length'\nprefer = 'longer'", "one", "one two").await, 0.0);
    assert_eq!(probability("type = 'length'", "one  two", "three four").await, 0.5);
    let graded = probability("type = 'length'\nslope = 0.5", "one", "one two three").await;
    assert!((graded - 1.0 / (1.0 + (-1.0_f64).exp())).abs() < 1e-12, "{graded}");
}

#[tokio::test]
async fn rules_compare_points() {
    let section =
        "type = 'rule'\nslope = 2.0\nrules = [{ keywords = ['red'] }, { max_words = 2, points = 0.5 }]";
    let p = probability(section, "it is red.", "it is.").await;
    assert!((p - 1.0 / (1.0 + (-1.0_f64).exp())).abs() < 1e-12, "{p}");
    assert_eq!(probability(section, "a b c", "d e f").await, 0.5);
}
