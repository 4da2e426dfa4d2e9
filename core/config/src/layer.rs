//! One layer of a config: values by key path, each with its origin.

use std::collections::BTreeMap;

use config::{Environment, Map, Source, Value, ValueKind};
use isr_api::Error;

use super::renamed;

/// The raw text of an override, from an environment variable or `-s`, before it is parsed as TOML. Kept for keys
/// of type string, whose value `1e3` is a text.
#[derive(Clone, Debug)]
pub(super) struct RawOverride {
    pub(super) key: String,
    pub(super) origin: String,
    pub(super) text: String,
}

/// Assignments of one source, in order.
#[derive(Clone, Debug, Default)]
pub(super) struct Layer {
    pub(super) assignments: Vec<Assignment>,
    pub(super) raw_overrides: Vec<RawOverride>,
}

/// A value and its key path (`judge.members[0].threshold`).
#[derive(Clone, Debug)]
pub(super) struct Assignment {
    key: String,
    value: Value,
}

impl Assignment {
    /// Under the names of today.
    fn new(key: String, mut value: Value) -> Self {
        let key = renamed::key(&key).unwrap_or(key);
        renamed::value(&key, &mut value);
        Self { key, value }
    }
}

impl Source for Assignment {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, config::ConfigError> {
        Ok(Map::from_iter([(self.key.clone(), self.value.clone())]))
    }
}

impl Layer {
    /// Reads the keys of a TOML file. `origin` is its name in messages.
    pub(super) fn from_table(origin: &str, table: toml::Table) -> Self {
        let assignment = |(key, value): (String, toml::Value)| Assignment::new(key, traced(origin, value));
        Self { assignments: table.into_iter().map(assignment).collect(), raw_overrides: Vec::new() }
    }

    /// Reads the environment variables that begin with `ISR__`; `None` reads those of the process.
    pub(super) fn from_variables(variables: Option<BTreeMap<String, String>>) -> Result<Self, Error> {
        let source = Environment::with_prefix("ISR")
            .prefix_separator("__")
            .separator("__")
            .source(variables.map(|variables| variables.into_iter().collect()));
        let collected = source.collect().map_err(|error| Error::Config(error.to_string()))?;
        let sorted: BTreeMap<String, Value> = collected.into_iter().collect();
        let mut layer = Self::default();
        for (key, value) in sorted {
            let name = format!("ISR__{}", key.replace('.', "__").to_uppercase());
            layer.assign(&key, &value.kind.to_string(), &format!("environment variable `{name}`"))?;
        }
        Ok(layer)
    }

    /// Parses `key=value` texts. Later ones override earlier ones.
    pub(super) fn from_overrides(overrides: &[String]) -> Result<Self, Error> {
        let mut layer = Self::default();
        for text in overrides {
            let Some((key, value)) = text.split_once('=') else {
                return Err(Error::Config(format!("`-s {text}` is not of the form `-s key=value`")));
            };
            layer.assign(key.trim(), value.trim(), &format!("`-s {text}`"))?;
        }
        Ok(layer)
    }

    fn assign(&mut self, key: &str, text: &str, origin: &str) -> Result<(), Error> {
        if !key.split('.').all(is_step) {
            let reason = "a key is a dotted path such as `train.epochs` or `judge.members[0].type`";
            return Err(Error::Config(format!("{origin}: `{key}` is not a key; {reason}")));
        }
        let value = text.parse().unwrap_or_else(|_| toml::Value::String(text.to_owned()));
        let assignment = Assignment::new(key.to_owned(), traced(origin, value));
        let (key, origin, text) = (assignment.key.clone(), origin.to_owned(), text.to_owned());
        self.assignments.push(assignment);
        self.raw_overrides.push(RawOverride { key, origin, text });
        Ok(())
    }
}

/// Whether a text is a step of a key path: a name, optionally with an index of at most four digits.
fn is_step(step: &str) -> bool {
    let (name, index) = match step.split_once('[') {
        Some((name, rest)) => (name, rest.strip_suffix(']').unwrap_or("-")),
        None => (step, "0"),
    };
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    !name.is_empty()
        && name.chars().all(is_name)
        && (1..=4).contains(&index.len())
        && index.chars().all(|c| c.is_ascii_digit())
}

fn traced(origin: &str, value: toml::Value) -> Value {
    let kind = match value {
        toml::Value::String(text) => ValueKind::String(text),
        toml::Value::Integer(number) => ValueKind::I64(number),
        toml::Value::Float(number) => ValueKind::Float(number),
        toml::Value::Boolean(truth) => ValueKind::Boolean(truth),
        toml::Value::Datetime(time) => ValueKind::String(time.to_string()),
        toml::Value::Array(items) => {
            ValueKind::Array(items.into_iter().map(|item| traced(origin, item)).collect())
        }
        toml::Value::Table(table) => {
            ValueKind::Table(table.into_iter().map(|(key, item)| (key, traced(origin, item))).collect())
        }
    };
    Value::new(Some(&origin.to_owned()), kind)
}
