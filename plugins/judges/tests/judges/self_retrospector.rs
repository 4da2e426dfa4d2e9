//! The retrospector `self`.

use isr_api::{ComponentError, Sampling};
use isr_testing::ScriptedPolicy;
use isr_testing::fixtures::retrospection;

use crate::method_config::{MINIATURE_RETROSPECTOR, retrospector};
use crate::support::written;

#[tokio::test]
async fn the_description_is_what_the_policy_wrote_without_space_around_it() {
    let policy = ScriptedPolicy::saying(" a red bar.\n");
    let text = retrospector("").describe(&retrospection(None), &policy.frozen()).await.unwrap();
    assert_eq!(text, "a red bar.");
}

#[tokio::test]
async fn the_draw_has_the_cases_seed_and_the_configured_sampling() {
    let policy = ScriptedPolicy::saying("a red bar.");
    let body = "sampling = { temperature = 0.3, max_new_tokens = 40 }";
    retrospector(body).describe(&retrospection(None), &policy.frozen()).await.unwrap();
    let requests = policy.generated();
    assert_eq!((requests.len(), requests[0].seed, requests[0].n), (1, 11, 1));
    let expected = Sampling { temperature: 0.3, max_new_tokens: 40, ..Sampling::default() };
    assert_eq!(requests[0].sampling, expected);
}

#[tokio::test]
async fn without_retrospection_the_previous_description_is_not_shown() {
    let policy = ScriptedPolicy::saying("a red bar.");
    let body = format!("{MINIATURE_RETROSPECTOR}use_previous = false\nsystem = \"be brief.\"");
    retrospector(&body).describe(&retrospection(Some("a blue bar.")), &policy.frozen()).await.unwrap();
    let requests = policy.generated();
    assert_eq!(written(&requests[0].prompt), "[system] be brief.\n[user] <video>\ndescribe the video.");
}

#[tokio::test]
async fn an_empty_description_quarantines_the_video() {
    let error = retrospector("")
        .describe(&retrospection(None), &ScriptedPolicy::saying(" \n").frozen())
        .await
        .unwrap_err();
    assert!(matches!(error, ComponentError::BadInput(_)));
    assert_eq!(error.to_string(), "clips/7.mp4: the policy wrote an empty description");
}
