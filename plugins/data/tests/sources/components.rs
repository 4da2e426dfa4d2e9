//! The crate as a config sees it.

use isr_api::{BuildContext, Kind};
use isr_config::registry::{DataConfig, entries, find};
use serde_json::{Value, json};

#[test]
fn every_example_is_a_valid_config() {
    for name in ["jsonl", "parquet", "folder", "mixture"] {
        let entry = find(Kind::Data, name).unwrap();
        let mut table: Value = toml::from_str(entry.example).unwrap();
        table["type"] = json!(name);
        let config: Box<dyn DataConfig> = serde_json::from_value(table).unwrap();
        // Whose files these would be, nobody knows.
        let message = config.validate().unwrap_err();
        assert!(message.contains(" is data/") && message.ends_with(", which does not exist"), "{message}");
        config.build(&BuildContext::default()).unwrap();
    }
}

#[test]
fn every_setting_is_documented() {
    for entry in entries() {
        let schema = serde_json::to_value((entry.schema)()).unwrap();
        let columns = schema.pointer("/$defs/Columns/properties").cloned().unwrap_or(json!({}));
        for properties in [&schema["properties"], &columns] {
            for (key, property) in properties.as_object().unwrap() {
                assert!(property["description"].is_string(), "{}: `{key}` has no help", entry.name);
            }
        }
    }
}

#[test]
fn the_listing_is_short_and_complete() {
    let listed: Vec<_> = entries().iter().map(|it| format!("{}: {}", it.name, it.help())).collect();
    insta::assert_snapshot!(listed.join("\n"), @r"
    folder: Folder of videos, with one instruction for each.
    jsonl: JSONL lists of videos and instructions, in LLaVA-Hound's layouts or with any keys by a column map.
    mixture: Several sources of samples, mixed by weight.
    parquet: Parquet lists of videos and instructions, such as those of Hugging Face `datasets`, in LLaVA-Hound's layouts or with any columns by a column map.
    files: Demonstrations in JSONL, JSON or Parquet files: conversations of LLaVA, ms-swift or TRL, or any keys by a column map.
    files: Preference pairs in JSONL, JSON or Parquet files, in the layouts of LLaVA-Hound, TRL, ms-swift, LLaMA-Factory, VistaDPO, RRPO and RLAIF-V, or with any keys by a column map.
    ");
}
