//! The config as a user meets it: names, defaults, mistakes, and the fingerprint of the contract.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

use isr_api::Kind;
use isr_config::registry::{VideoConfig, find};
use isr_video::{FfmpegConfig, FrameSampling, Offsets};

fn config(text: &str) -> Result<FfmpegConfig, toml::de::Error> {
    toml::from_str(text)
}

fn fingerprint(text: &str) -> String {
    config(text).unwrap().fingerprint().to_string()
}

#[test]
fn it_is_registered_with_an_example_that_is_the_default() {
    let entry = find(Kind::Video, "ffmpeg").unwrap();
    let section = format!("type = \"ffmpeg\"\n{}", entry.example);
    let parsed: Box<dyn VideoConfig> = toml::from_str(&section).unwrap();
    parsed.validate().unwrap();
    assert_eq!(config(entry.example).unwrap(), FfmpegConfig::default());
    assert_eq!(
        entry.help(),
        "Video reader that decodes files with the `ffmpeg` program, and folders of PNG or JPEG frames."
    );
}

#[test]
fn every_key_is_documented() {
    let schema = serde_json::to_value((find(Kind::Video, "ffmpeg").unwrap().schema)()).unwrap();
    let keys = schema["properties"].as_object().unwrap();
    assert_eq!(keys.len(), 11);
    for (key, value) in keys {
        assert!(value["description"].as_str().is_some_and(|text| text.len() > 20), "{key}: {value}");
    }
    assert_eq!(schema["additionalProperties"], false);
}

#[test]
fn rules_have_defaults() {
    let rule = |text: &str| config(&format!("sampling = {{ {text} }}")).unwrap().sampling;
    assert_eq!(rule("rule = \"uniform\""), FrameSampling::Uniform { frames: 8 });
    assert_eq!(rule("rule = \"first_seconds\""), FrameSampling::FirstSeconds { seconds: 10.0, frames: 8 });
    assert_eq!(rule("rule = \"fps\""), FrameSampling::Fps { fps: 1.0, max_frames: 64 });
    let jittered = FrameSampling::Jittered { frames: None, fps: None, offsets: Offsets::Shared };
    assert_eq!(rule("rule = \"jittered\""), jittered);
    let written =
        serde_json::to_value(rule("rule = \"jittered\", frames = 4, offsets = \"shared\"")).unwrap();
    assert_eq!(written, serde_json::json!({ "rule": "jittered", "frames": 4 }));
}

#[test]
fn mistakes_are_named() {
    let message = |text: &str| config(text).unwrap_err().to_string();
    assert!(message("frames = 8").contains("unknown field `frames`"));
    assert!(message("sampling = { rule = \"uniform\", fps = 1.0 }").contains("unknown field `fps`"));
    assert!(message("sampling = { rule = \"random\" }").contains("unknown variant `random`"));
    let invalid = |text: &str| {
        let section = format!("type = \"ffmpeg\"\n{text}");
        toml::from_str::<Box<dyn VideoConfig>>(&section).unwrap().validate().unwrap_err()
    };
    assert_eq!(invalid("min_frames = 0"), "min_frames must be at least 1");
    assert_eq!(invalid("timeout_seconds = nan"), "timeout_seconds must be more than 0");
    assert_eq!(invalid("memory_mib = 10"), "memory_mib must be from 512 to 1048576");
    assert_eq!(invalid("folder_fps = inf"), "folder_fps must be more than 0");
    assert!(invalid("sampling = { rule = \"fps\", fps = 0 }").starts_with("sampling.fps is 0"));
}

/// Caches of features live by these: a change here must come with a new `Contract::version`.
#[test]
fn fingerprints_are_pinned() {
    let pins = [
        ("", "486ce0e1f61e8996b755951783ae3983"),
        ("sampling = { rule = \"first_seconds\" }", "bf5a001cf8523c96d29323e81c5f41a9"),
        ("sampling = { rule = \"fps\" }\nmax_short_side = 224", "dde65053bfbc6326e5b438b9807d7bef"),
    ];
    for (section, pin) in pins {
        assert_eq!(fingerprint(section), pin, "{section}");
    }
}

#[test]
fn the_fingerprint_follows_the_frames_and_not_the_limits() {
    let default = fingerprint("");
    for same in [
        "min_frames = 5",
        "timeout_seconds = 1",
        "timeout_per_frame = 1.0",
        "memory_mib = 4096",
        "max_pixels = 9",
        "processes = 1",
    ] {
        assert_eq!(fingerprint(same), default, "{same}");
    }
    for other in [
        "sampling = { rule = \"uniform\", frames = 9 }",
        "sampling = { rule = \"first_seconds\" }",
        "sampling = { rule = \"fps\" }",
        "max_short_side = 224",
        "folder_fps = 3.0",
        "allow_damaged = true",
    ] {
        assert_ne!(fingerprint(other), default, "{other}");
    }
}
