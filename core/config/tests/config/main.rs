//! Configs as a user writes them: layers, messages, round trips, schema.

// A test that cannot go on should panic where it stands.
#![allow(clippy::unwrap_used)]

mod fakes;
mod fakes_runtime;
mod layers;
mod messages;
mod output;
mod overrides;
mod plugins;
mod schedules;

use isr_api::Error;
use isr_config::{LoadedConfig, Loader, RunConfig};

/// A config with every required section and nothing else.
const MINIMAL: &str = r#"
[data]
type = "list"
path = "samples.jsonl"

[video]
type = "frames"

[encoder]
type = "follows"

[policy]
type = "tiny"
model = "weights"

[judge]
type = "self"

[objective]
type = "dpo"

[selection]
type = "all"
"#;

fn text(name: &str, toml: &str) -> Loader {
    Loader::new().text(name, toml, "")
}

fn minimal_with(toml: &str) -> Loader {
    text("base.toml", MINIMAL).text("run.toml", toml, "")
}

fn loaded(loader: &Loader) -> LoadedConfig<RunConfig> {
    match loader.load() {
        Ok(config) => config,
        Err(error) => panic!("{error}"),
    }
}

fn message(loader: &Loader) -> String {
    match loader.load::<RunConfig>() {
        Ok(config) => panic!("loaded: {}", config.settings),
        Err(Error::Config(message)) => message,
        Err(other) => panic!("another error: {other:?}"),
    }
}
