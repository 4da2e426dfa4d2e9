//! The retrospector `self`.

use isr_api::{ComponentError, RetrospectionCase, Sampling};

use crate::config::{MINIATURE_RETROSPECTOR, retrospector};
use crate::fake::{Fake, description, scene, written};

fn case(previous: Option<&str>) -> RetrospectionCase {
    RetrospectionCase { scene: scene(), previous: previous.map(description), seed: 5 }
}

#[tokio::test]
async fn the_description_is_what_the_policy_wrote_without_space_around_it() {
    let fake = Fake::saying(" a red bar.\n");
    let text = retrospector("").describe(&case(None), &fake.frozen()).await.unwrap();
    assert_eq!(text, "a red bar.");
}

#[tokio::test]
async fn the_draw_has_the_cases_seed_and_the_configured_sampling() {
    let fake = Fake::saying("a red bar.");
    let body = "sampling = { temperature = 0.3, max_new_tokens = 40 }";
    retrospector(body).describe(&case(None), &fake.frozen()).await.unwrap();
    let requests = fake.generated.lock().unwrap();
    assert_eq!((requests.len(), requests[0].seed, requests[0].n), (1, 5, 1));
    let expected = Sampling { temperature: 0.3, max_new_tokens: 40, ..Sampling::default() };
    assert_eq!(requests[0].sampling, expected);
}

#[tokio::test]
async fn without_retrospection_the_previous_description_is_not_shown() {
    let fake = Fake::saying("a red bar.");
    let body = format!("{MINIATURE_RETROSPECTOR}use_previous = false\nsystem = \"be brief.\"");
    retrospector(&body).describe(&case(Some("a blue bar.")), &fake.frozen()).await.unwrap();
    let requests = fake.generated.lock().unwrap();
    assert_eq!(written(&requests[0].prompt), "[system] be brief.\n[user] <video>\ndescribe the video.");
}

#[tokio::test]
async fn an_empty_description_quarantines_the_video() {
    let error = retrospector("").describe(&case(None), &Fake::saying(" \n").frozen()).await.unwrap_err();
    assert!(matches!(error, ComponentError::BadInput(_)));
    assert_eq!(error.to_string(), "clips/7.mp4: the policy wrote an empty description");
}
