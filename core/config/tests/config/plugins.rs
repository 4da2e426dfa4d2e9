//! Plugins from outside, on a loader that reads a manifest from a JSON file.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use isr_api::{BuildContext, Cause, Error, Judge, Kind, Manifest};
use isr_config::plugin::{Plugin, PluginFile, PluginLoader, PluginSettings, Plugins};
use isr_config::{Loader, RunConfig, to_toml};
use isr_run::Components;
use serde_json::{Map, Value, json};
use tempfile::TempDir;

use crate::fakes_runtime::Fake;
use crate::{MINIMAL, loaded, message};

struct JsonLoader;

impl PluginLoader for JsonLoader {
    fn what(&self) -> &'static str {
        "JSON plugin"
    }
    fn extensions(&self) -> &'static [&'static str] {
        &["json", "fake"]
    }
    fn options(&self) -> &'static [&'static str] {
        &["call_s", "restarts"]
    }
    fn load(&self, path: &Path, _: &PluginFile) -> Result<Arc<dyn Plugin>, Cause> {
        Ok(Arc::new(JsonPlugin(serde_json::from_str(&fs::read_to_string(path)?)?)))
    }
}
isr_config::register_loader!(&JsonLoader);

struct JsonPlugin(Vec<Manifest>);

impl Plugin for JsonPlugin {
    fn manifests(&self) -> &[Manifest] {
        &self.0
    }
    fn validate(&self, _: Kind, _: &str, settings: &Map<String, Value>) -> Result<(), String> {
        match settings.get("words").and_then(Value::as_i64) {
            Some(0) => Err("words is 0; it must be at least 1".to_owned()),
            _ => Ok(()),
        }
    }
    fn judge(&self, name: &str, with: &PluginSettings<'_>) -> Result<Arc<dyn Judge>, Cause> {
        match (name, with.settings.get("words").and_then(Value::as_i64)) {
            (_, Some(13)) => Err("thirteen is too many".into()),
            _ => Ok(Arc::new(Fake)),
        }
    }
}

fn manifest(kind: &str, name: &str) -> Value {
    json!({
        "kind": kind,
        "name": name,
        "version": "1.2.0",
        "help": "Prefers brevity. In words.",
        "schema": {
            "type": "object",
            "properties": {
                "words": { "type": "integer", "description": "How many. Default 3.", "minimum": 0 },
                "unit": { "$ref": "#/$defs/Unit" },
            },
            "required": [],
            "$defs": { "Unit": { "type": "string", "enum": ["word", "letter"] } },
        },
        "example": "words = 4\n",
    })
}

/// A folder with a config, and a plugin of these manifests beside it.
fn folder(manifests: &[Value], section: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("brief.json"), Value::from(manifests).to_string()).unwrap();
    let judge = "[judge]\ntype = \"self\"\n";
    let config = format!("plugins = ['brief.json']\n{}", MINIMAL.replace(judge, section));
    fs::write(folder.path().join("run.toml"), config).unwrap();
    folder
}

fn config(folder: &TempDir) -> Loader {
    Loader::new().file(folder.path().join("run.toml"))
}

fn brief() -> Value {
    manifest("judge", "brief")
}

/// What is wrong with a config, with the folder left out.
fn wrong(manifests: &[Value], section: &str) -> String {
    let folder = folder(manifests, section);
    let real = folder.path().canonicalize().unwrap();
    message(&config(&folder))
        .replace(&format!("{}/", real.display()), "")
        .replace(&format!("{}/", folder.path().display()), "")
}

#[test]
fn a_component_of_a_plugin_is_named_checked_and_built_like_any_other() {
    let folder = folder(&[brief()], "[judge]\ntype = 'brief'\nwords = 7\nunit = 'letter'\n");
    let config = loaded(&config(&folder));
    assert_eq!(config.value.judge.name(), "brief");
    assert_eq!(config.settings["judge"], json!({ "type": "brief", "words": 7, "unit": "letter" }));
    assert_eq!(config.plugins.components().count(), 1);
    assert!(config.value.judge.build(&BuildContext::default()).is_ok());
}

#[test]
fn a_config_with_plugins_is_written_and_read_as_the_same() {
    let folder = folder(&[brief()], "[judge]\ntype = 'brief'\nwords = 7\n");
    let config = loaded(&config(&folder));
    let written = to_toml(&config.value).unwrap();
    let again = loaded(&Loader::new().text("config.toml", &written, "/nowhere"));
    assert_eq!(again.settings, config.settings);
    assert_eq!(to_toml(&again.value).unwrap(), written);
}

#[test]
fn components_of_plugins_may_be_nested_in_others() {
    let members = "[judge]\ntype = 'vote'\nmembers = [{ type = 'self' }, { type = 'brief', words = 2 }]\nreferee = { type = 'brief' }\n";
    let config = loaded(&config(&folder(&[brief()], members)));
    assert_eq!(config.settings["judge"]["members"][1], json!({ "type": "brief", "words": 2 }));
    let toml = to_toml(&config.value).unwrap();
    assert!(!toml.contains("(plugin)"), "{toml}");
}

#[test]
fn the_settings_of_a_plugin_are_checked_with_the_messages_of_all_others() {
    let said = |section: &str| wrong(&[brief()], section);
    insta::assert_snapshot!(said("[judge]\ntype = 'brief'\nwrods = 2\n"), @"unknown key `judge.wrods` in run.toml; did you mean `words`?");
    insta::assert_snapshot!(said("[judge]\ntype = 'brief'\nwords = 'two'\n"), @r#"`judge.words` in run.toml: expected an integer, found string "two""#);
    insta::assert_snapshot!(said("[judge]\ntype = 'brief'\nwords = -1\n"), @"`judge.words` in run.toml is -1; it must be at least 0");
    insta::assert_snapshot!(said("[judge]\ntype = 'brief'\nunit = 'wrd'\n"), @r#"`judge.unit` in run.toml is "wrd", which is not among its values; did you mean `word`?"#);
    insta::assert_snapshot!(said("[judge]\ntype = 'breif'\n"), @"unknown judge `breif` in run.toml; did you mean `brief`? known: self, vote, brief");
    insta::assert_snapshot!(said("[judge]\ntype = 'brief'\nwords = 0\n"), @"`judge.words` in run.toml is 0; it must be at least 1");
    insta::assert_snapshot!(said("[judge]\ntype = '(plugin)'\n"), @"unknown judge `(plugin)` in run.toml; known: self, vote, brief");
}

#[test]
fn a_failure_to_build_names_plugin_call_and_cause() {
    let folder = folder(&[brief()], "[judge]\ntype = 'brief'\nwords = 13\n");
    let config = loaded(&config(&folder));
    let error = Components::build(&config.value, &BuildContext::default()).unwrap_err().to_string();
    assert!(
        error.starts_with("cannot build judge `brief`: plugin `brief`, construct: thirteen is too many ("),
        "{error}"
    );
}

#[test]
fn manifests_that_cannot_be_used_are_refused() {
    let said = |change: &dyn Fn(&mut Value)| {
        let mut manifest = brief();
        change(&mut manifest);
        wrong(&[manifest], "[judge]\ntype = 'self'\n")
    };
    insta::assert_snapshot!(said(&|it| it["name"] = "self".into()), @"cannot load plugin brief.json: the name of its judge `self` is taken by a built-in one; rename it in the plugin");
    insta::assert_snapshot!(said(&|it| it["name"] = "A b".into()), @r#"cannot load plugin brief.json: "A b" is no name for a judge; it must be 1 to 64 letters in lower case, digits, `_` and `-`, beginning with a letter"#);
    insta::assert_snapshot!(said(&|it| it["kind"] = "data".into()), @"cannot load plugin brief.json: `brief` is of kind `data`; a plugin may give: encoder, policy, retrospector, judge, objective");
    insta::assert_snapshot!(said(&|it| it["schema"] = json!({ "type": "array" })), @r#"cannot load plugin brief.json: judge `brief`: its config schema does not describe a table: its `type` must be "object""#);
    insta::assert_snapshot!(said(&|it| it["schema"]["properties"]["type"] = json!({})), @"cannot load plugin brief.json: judge `brief`: its config schema has a property `type`, which names the component; call it something else");
    insta::assert_snapshot!(said(&|it| it["schema"]["$defs"] = json!({})), @"cannot load plugin brief.json: judge `brief`: its config schema refers to `#/$defs/Unit`, which it does not define under `$defs`");
    insta::assert_snapshot!(said(&|it| it["schema"]["$defs"]["Unit"] = json!({ "anyOf": [{ "$ref": "#/$defs/Unit" }] })), @"cannot load plugin brief.json: judge `brief`: its config schema has a definition that refers to itself: `#/$defs/Unit`");
    insta::assert_snapshot!(said(&|it| it["example"] = "words =".into()), @"cannot load plugin brief.json: judge `brief`: its example is not TOML: string values must be quoted, expected literal string");
}

#[test]
fn every_keyword_of_a_schema_that_is_accepted_is_enforced() {
    for (schema, good, bad, says) in [
        (json!({ "type": "number", "exclusiveMinimum": 0 }), "0.5", "0", "it must be more than 0"),
        (json!({ "type": "number", "exclusiveMaximum": 1 }), "0.5", "1.0", "it must be less than 1"),
        (json!({ "type": "integer", "multipleOf": 4 }), "8", "9", "it must be a multiple of 4"),
        (json!({ "type": "number", "multipleOf": 0.1 }), "0.3", "0.35", "it must be a multiple of 0.1"),
        (
            json!({ "type": "string", "minLength": 2 }),
            "'\u{e9}\u{e9}'",
            "'\u{e9}'",
            "has 1 letters; it must have at least 2",
        ),
        (
            json!({ "type": "string", "maxLength": 2 }),
            "'ab'",
            "'abc'",
            "has 3 letters; it must have 0 to 2",
        ),
        (json!({ "type": "array", "uniqueItems": true }), "[1, 2]", "[1, 2, 1]", "has 1 twice"),
        (
            json!({ "type": "object", "additionalProperties": true, "minProperties": 1 }),
            "{ a = 1 }",
            "{}",
            "has 0 keys",
        ),
        (
            json!({ "type": "object", "additionalProperties": true, "maxProperties": 1 }),
            "{ a = 1 }",
            "{ a = 1, b = 2 }",
            "has 2 keys",
        ),
        (
            json!({ "enum": [1, 2.5, "x", null] }),
            "2.5",
            "3",
            "which is not among its values: 1, 2.5, \"x\", null",
        ),
        (json!({ "const": 4 }), "4", "5", "which is not among its values: 4"),
        (json!({ "type": "boolean", "enum": [true] }), "true", "false", "not among its values: true"),
    ] {
        let mut plugin = brief();
        plugin["schema"]["properties"]["key"] = schema.clone();
        let section = |value: &str| format!("[judge]\ntype = 'brief'\nkey = {value}\n");
        loaded(&config(&folder(std::slice::from_ref(&plugin), &section(good))));
        let said = wrong(&[plugin], &section(bad));
        assert!(said.starts_with("`judge.key`") && said.contains(says), "{schema}: {said}");
    }
}

#[test]
fn a_manifest_of_endless_texts_or_components_is_refused() {
    let mut long = brief();
    long["help"] = "x".repeat(70_000).into();
    insta::assert_snapshot!(wrong(&[long], ""), @"cannot load plugin brief.json: judge `brief`: its help has 70000 bytes; at most 65536 are allowed");
    insta::assert_snapshot!(wrong(&vec![brief(); 1001], ""), @"cannot load plugin brief.json: it gives 1001 components; at most 1000 are allowed");
}

#[test]
fn a_config_is_checked_without_its_plugins_but_for_what_they_give() {
    let check = |section: &str| {
        let folder = folder(&[], section);
        // Nothing can be loaded from it.
        fs::write(folder.path().join("brief.json"), "nonsense").unwrap();
        config(&folder).without_plugins(true).check::<RunConfig>()
    };
    let vote = "[judge]\ntype = 'vote'\nmembers = [{ type = 'self' }, { type = 'brief', words = 2 }]\n";
    assert_eq!(check("[judge]\ntype = 'brief'\nwords = 7\n").unwrap(), ["judge `brief`"]);
    assert_eq!(check(vote).unwrap(), ["judge `brief` at `judge.members[1]`"]);
    assert!(check("[judge]\ntype = 'self'\n").unwrap().is_empty());
    let said = check("[judge]\ntype = 'brief'\n[loop]\nitrations = 3\n");
    assert!(said.unwrap_err().to_string().contains("unknown key `loop.itrations`"));
}

#[test]
fn two_components_of_one_name_are_refused() {
    insta::assert_snapshot!(wrong(&[brief(), brief()], ""), @"cannot load plugin brief.json: the name of its judge `brief` is taken by another of the same file");
    let folder = folder(&[brief()], "");
    fs::copy(folder.path().join("brief.json"), folder.path().join("other.fake")).unwrap();
    let files = ["brief.json", "other.fake"].map(|name| PluginFile::new(folder.path().join(name)));
    let Err(Error::Config(said)) = Plugins::load(&files, &[]) else { panic!("they were loaded") };
    assert!(said.contains("the name of its judge `brief` is taken by "), "{said}");
    assert!(said.ends_with("brief.json; name one of the two files"), "{said}");
}

#[test]
fn names_are_unique_within_their_kind_only() {
    let folder = folder(&[brief(), manifest("objective", "brief")], "[judge]\ntype = 'brief'\n");
    assert_eq!(loaded(&config(&folder)).plugins.components().count(), 2);
}

#[test]
fn a_bare_name_is_found_in_the_folders_of_the_environment() {
    let folder = folder(&[brief()], "[judge]\ntype = 'brief'\n");
    let named = config(&folder).overrides(["plugins=['brief']"]);
    let there = [("ISR_PLUGIN_PATH", format!("/nowhere:{}", folder.path().display()))];
    let config = loaded(&named.clone().variables(there));
    assert_eq!(config.settings["plugins"], json!(["brief"]));
    insta::assert_snapshot!(message(&named), @"cannot load plugin brief: there is no such file; the environment variable ISR_PLUGIN_PATH, which may name folders of plugins, is not set");
    insta::assert_snapshot!(message(&named.variables([("ISR_PLUGIN_PATH", "/nowhere")])), @"cannot load plugin brief: there is no such file, nor a plugin of that name in ISR_PLUGIN_PATH (/nowhere)");
}

#[test]
fn what_is_no_plugin_file_is_refused_with_the_remedy() {
    let folder = folder(&[brief()], "");
    let said = |value: &str| message(&config(&folder).overrides([format!("plugins={value}")]));
    fs::write(folder.path().join("x.exe"), "").unwrap();
    let path = |name: &str| format!("['{}']", folder.path().join(name).display());
    assert!(
        said(&path("x.exe"))
            .ends_with("no loader takes files that end like this; known endings: .fake, .json")
    );
    assert!(said(&path("breif.json")).contains("; did you mean"), "{}", said(&path("breif.json")));
    assert!(said(&path("")).ends_with("it is a folder; name a file"));
    let table =
        |keys: &str| format!("[{{ path = '{}', {keys} }}]", folder.path().join("brief.json").display());
    assert!(
        said(&table("fuel = 3"))
            .ends_with("`fuel` means nothing to a JSON plugin, which takes call_s, restarts")
    );
    assert!(
        said(&table("call_s = 0")).ends_with("`call_s` is 0; it must be more than 0 and at most 1000000")
    );
    insta::assert_snapshot!(said("[3]"), @"`plugins[0]` in `-s plugins=[3]`: expected a string or a table, found integer 3");
    insta::assert_snapshot!(said("[{ call = 3 }]"), @"unknown key `plugins[0].call` in `-s plugins=[{ call = 3 }]`; did you mean `call_s`?");
    insta::assert_snapshot!(said("[{ call_s = 3 }]"), @"an entry of `plugins` names nothing; give it a `path` or a `module`");
    insta::assert_snapshot!(said("[{ path = 'a.py', module = 'a' }]"), @"an entry of `plugins` names the path a.py and the module a; name one of the two");
    insta::assert_snapshot!(said("[{ module = 'a' }]"), @"cannot load plugin a: this program loads no Python modules");
}

#[test]
fn plugins_of_one_config_are_unknown_to_the_next() {
    let folder = folder(&[brief()], "[judge]\ntype = 'brief'\n");
    loaded(&config(&folder));
    let without = message(&config(&folder).overrides(["plugins=[]"]));
    assert!(without.ends_with("run.toml; known: self, vote"), "{without}");
    assert!(Loader::new().file(folder.path().join("run.toml")).load::<RunConfig>().is_ok());
}
