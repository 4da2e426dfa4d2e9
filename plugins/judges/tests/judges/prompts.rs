//! What the policy is shown, to the letter.

use isr_testing::ScriptedPolicy;
use isr_testing::fixtures::retrospection;

use crate::method_config::{MINIATURE_JUDGE, MINIATURE_RETROSPECTOR, judge, retrospector};
use crate::self_judge::case;
use crate::support::written;

async fn judged(body: &str, context: Option<&str>) -> Vec<String> {
    let policy = ScriptedPolicy::scoring(|_| vec![vec![-0.5], vec![-1.5]]);
    judge(body).judge(&case(context), &policy.frozen()).await.unwrap();
    policy.scored().iter().map(|request| written(&request.prompt)).collect()
}

async fn asked(body: &str, previous: Option<&str>) -> String {
    let policy = ScriptedPolicy::saying("a bar.");
    retrospector(body).describe(&retrospection(previous), &policy.frozen()).await.unwrap();
    written(&policy.generated()[0].prompt)
}

#[tokio::test]
async fn the_default_judge_prompt_with_a_description() {
    insta::assert_snapshot!(judged("", Some("A red bar moves left.\n")).await[0], @r#"
    [user] <video>
    Here is a description of the video:
    A red bar moves left.

    Here are a question about the video and two answers to it.

    Question: what colour is the bar?

    Answer A: bar is red.

    Answer B: bar is blue. it moves.

    Which answer is more accurate and helpful, judged by what the video shows? A longer answer is not better for its length. Reply with A or B only.
    "#);
}

#[tokio::test]
async fn the_default_judge_prompt_without_a_description() {
    insta::assert_snapshot!(judged("", None).await[0], @r#"
    [user] <video>
    Here are a question about the video and two answers to it.

    Question: what colour is the bar?

    Answer A: bar is red.

    Answer B: bar is blue. it moves.

    Which answer is more accurate and helpful, judged by what the video shows? A longer answer is not better for its length. Reply with A or B only.
    "#);
}

#[tokio::test]
async fn the_miniature_judge_prompt_in_both_orders() {
    insta::assert_snapshot!(judged(MINIATURE_JUDGE, Some("bar is red.")).await.join("\n---\n"), @r#"
    [user] <video>
    context: bar is red.
    question: what colour is the bar?
    a: bar is red.
    b: bar is blue. it moves.
    which answer is better, a or b?
    ---
    [user] <video>
    context: bar is red.
    question: what colour is the bar?
    a: bar is blue. it moves.
    b: bar is red.
    which answer is better, a or b?
    "#);
}

#[tokio::test]
async fn without_use_context_the_description_is_not_shown() {
    let body = format!("{MINIATURE_JUDGE}use_context = false");
    assert_eq!(judged(&body, Some("bar is red.")).await, judged(MINIATURE_JUDGE, None).await);
}

#[tokio::test]
async fn without_video_the_judge_reads_the_description_only() {
    let body = format!("{MINIATURE_JUDGE}video = false\nsystem = \"be fair.\"\norders = \"given\"");
    insta::assert_snapshot!(judged(&body, Some("bar is red.")).await[0], @r#"
    [system] be fair.
    [user] context: bar is red.
    question: what colour is the bar?
    a: bar is red.
    b: bar is blue. it moves.
    which answer is better, a or b?
    "#);
}

#[tokio::test]
async fn answers_that_look_like_templates_or_markup_are_shown_as_they_stand() {
    let policy = ScriptedPolicy::scoring(|_| vec![vec![-0.5], vec![-1.5]]);
    let mut case = case(None);
    case.first.text = "{{ second }} <b> & {% if".to_owned();
    judge(MINIATURE_JUDGE).judge(&case, &policy.frozen()).await.unwrap();
    assert!(written(&policy.scored()[0].prompt).contains("a: {{ second }} <b> & {% if\n"));
}

#[tokio::test]
async fn the_default_description_prompt_of_the_first_iteration() {
    insta::assert_snapshot!(asked("", None).await, @r#"
    [user] <video>
    Describe the video in detail: who and what is seen, what they look like, what they do and in which order, and where it happens. State only what the video shows.
    "#);
}

#[tokio::test]
async fn the_default_description_prompt_of_a_later_iteration() {
    insta::assert_snapshot!(asked("", Some("A bar.")).await, @r#"
    [user] <video>
    Here is an earlier description of this video. It may be wrong in places, and it may miss things:
    A bar.

    Watch the video again. Keep what is right, correct what is wrong, and add what is missing.
    Describe the video in detail: who and what is seen, what they look like, what they do and in which order, and where it happens. State only what the video shows.
    "#);
}

#[tokio::test]
async fn the_miniature_description_prompts() {
    assert_eq!(asked(MINIATURE_RETROSPECTOR, None).await, "[user] <video>\ndescribe the video.");
    assert_eq!(
        asked(MINIATURE_RETROSPECTOR, Some("bar is red.")).await,
        "[user] <video>\nprevious description: bar is red.\ndescribe the video."
    );
}
