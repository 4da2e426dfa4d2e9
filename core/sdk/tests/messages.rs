//! Messages of another version of the SDK: keys that are not known are ignored, and those that were added have
//! defaults.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

use isr_plugin::wire::{Described, RemoteError, RequirementsMessage, VerdictMessage, VideoMessage};
use isr_plugin::{ComponentError, Granularity, Requirements, View};

#[test]
fn what_a_newer_side_adds_is_ignored() {
    let text = r#"{"p_first": 0.25, "votes": [], "consistent": true, "reason": "it is shorter"}"#;
    assert_eq!(serde_json::from_str::<VerdictMessage>(text).unwrap().p_first.unwrap().0, 0.25);
    let text = r#"{"video": "a.mp4", "sound": 3,
        "frames": {"width": 1, "height": 1, "timestamps": [0.0], "rgb": 0, "depth": 1}}"#;
    assert!(serde_json::from_str::<VideoMessage>(text).unwrap().features.is_none());
}

#[test]
fn what_an_older_side_leaves_out_has_a_default() {
    let text = r#"{"p_first": "NaN", "consistent": false}"#;
    let verdict = serde_json::from_str::<VerdictMessage>(text).unwrap();
    assert!(verdict.p_first.unwrap().0.is_nan() && verdict.votes.is_empty());
    let text = r#"{"sdk": "0.1.0", "components": [{"kind": "judge", "name": "old", "help": "Old."}]}"#;
    let described = serde_json::from_str::<Described>(text).unwrap();
    assert!(described.components[0].features.is_empty());
}

#[test]
fn a_view_that_is_not_known_is_an_error() {
    let text = r#"{"views": ["chosen", "third"], "per_token": false, "reference": true}"#;
    let message = serde_json::from_str::<RequirementsMessage>(text).unwrap();
    let error = Requirements::try_from(message).unwrap_err();
    assert!(error.to_string().starts_with("there is no view `third`; there are `chosen`"), "{error}");
}

#[test]
fn every_view_crosses_by_its_name() {
    let (views, granularity) = (View::ALL.to_vec(), Granularity::PerToken);
    let wanted = Requirements { views, granularity, reference: true, across_batch: false };
    let message = RequirementsMessage::from(&wanted).with_per_token();
    let text = serde_json::to_string(&message).unwrap();
    assert!(text.contains(r#""per_token":true"#), "{text}");
    assert!(text.contains(r#"["chosen","rejected","chosen_corrupted","mismatched"]"#), "{text}");
    let message = serde_json::from_str::<RequirementsMessage>(&text).unwrap();
    assert_eq!(Requirements::try_from(message).unwrap(), wanted);
}

/// Plugins of earlier versions do not know the key, and compare nothing across a batch.
#[test]
fn an_objective_that_compares_across_the_batch_says_so_and_others_need_not() {
    let plain = Requirements::new([View::Chosen]);
    let text = serde_json::to_string(&RequirementsMessage::from(&plain)).unwrap();
    assert!(!text.contains("across_batch"), "{text}");
    for wanted in [plain.clone(), plain.across_batch()] {
        let text = serde_json::to_string(&RequirementsMessage::from(&wanted)).unwrap();
        let message = serde_json::from_str::<RequirementsMessage>(&text).unwrap();
        assert_eq!(Requirements::try_from(message).unwrap(), wanted);
    }
}

#[test]
fn errors_keep_code_message_and_causes() {
    let source = std::fs::read("/nowhere/at/all").unwrap_err();
    let error = RemoteError::from_component(&ComponentError::bad_input(source));
    assert_eq!(error.code, "bad_input");
    assert!(error.message.starts_with("No such file"), "{error}");
    assert!(matches!(error.into_component(), ComponentError::BadInput(_)));
    assert!(matches!(RemoteError::new("of tomorrow", "x").into_component(), ComponentError::Failed(_)));
}
