//! Checks a merged config against a JSON schema and converts it to JSON.
//!
//! Serde stops at the first error and does not know its file. [`Checker`] walks the whole tree and collects every
//! problem with key path and origin; deserialisation of a checked config cannot fail.

mod choice;
mod problems;
mod schema_view;

use std::collections::BTreeMap;

use config::{Map, Value, ValueKind};
use isr_api::Error;
use serde_json::{Number, Value as Json};

use self::schema_view::{Bounds, SchemaView};
use super::diagnostics::{self, reject};
use super::layer::RawOverride;
use crate::plugin;

/// State of the walk. `'s` is the lifetime of the schema.
pub(super) struct Checker<'s> {
    view: SchemaView<'s>,
    raw_overrides: &'s [RawOverride],
    problems: Vec<String>,
    origins: BTreeMap<String, String>,
    /// Components that are not registered, where they may come from plugins that are not loaded.
    unchecked: Vec<String>,
    has_plugins_left_out: bool,
}

impl<'s> Checker<'s> {
    pub(super) fn new(root: &'s Json, raw_overrides: &'s [RawOverride]) -> Self {
        Self {
            view: SchemaView::new(root),
            raw_overrides,
            problems: Vec::new(),
            origins: BTreeMap::new(),
            unchecked: Vec::new(),
            has_plugins_left_out: false,
        }
    }

    /// Leaves components unchecked that are not registered: they may come from plugins that are not loaded.
    pub(super) fn without_plugins(self) -> Self {
        Self { has_plugins_left_out: true, ..self }
    }

    /// Takes the list of components that were left unchecked.
    pub(super) fn take_unchecked(&mut self) -> Vec<String> {
        std::mem::take(&mut self.unchecked)
    }

    /// Returns the origins of all values, or one error with all problems.
    pub(super) fn finish(self) -> Result<BTreeMap<String, String>, Error> {
        reject(self.problems)?;
        Ok(self.origins)
    }

    /// Checks the value at key path `at` and converts it. The result is meaningful only without problems.
    pub(super) fn value(&mut self, at: &str, value: &Value, schema: &'s Json) -> Json {
        let schema = self.view.resolve(schema);
        if !matches!(value.kind, ValueKind::Table(_)) {
            self.note_origin(at, value);
        }
        match self.view.options(schema) {
            Some(options) => self.choice(at, value, schema, &options),
            None => self.plain(at, value, schema),
        }
    }

    fn plain(&mut self, at: &str, value: &Value, schema: &'s Json) -> Json {
        if let Some(literals) = schema_view::literals(schema) {
            return self.literal(at, value, &literals);
        }
        if let Some(listed) = schema_view::listed(schema) {
            return self.listed(at, value, &listed);
        }
        let types = schema_view::types(schema);
        let reads_text = types.contains(&"string");
        if types.contains(&"null") && !reads_text && problems::is_none(value) {
            return Json::Null;
        }
        match &value.kind {
            ValueKind::Table(table) if types.contains(&"object") => self.table(at, table, schema),
            ValueKind::Array(items) if types.contains(&"array") => {
                self.count(at, value, (items.len(), "items"), ("minItems", "maxItems"), schema);
                let checked = self.items(at, items, schema);
                self.distinct(at, value, &checked, schema);
                checked
            }
            kind if types.is_empty() || types.iter().any(|name| has_type(kind, name)) => {
                self.bounds(at, value, schema);
                if let ValueKind::String(text) = kind {
                    self.text_length(at, value, text, schema);
                }
                self.json(at, value)
            }
            _ => match self.raw_text(at, value).filter(|_| reads_text) {
                Some(text) => {
                    self.text_length(at, value, text, schema);
                    text.into()
                }
                None => self.mismatch(at, value, &diagnostics::expected(&types)),
            },
        }
    }

    fn table(&mut self, at: &str, table: &Map<String, Value>, schema: &'s Json) -> Json {
        let properties = schema.get("properties").and_then(Json::as_object);
        let others = schema.get("additionalProperties").or_else(|| schema.get("unevaluatedProperties"));
        let mut checked = serde_json::Map::new();
        self.key_count(at, table, schema);
        for (key, value) in sorted(table) {
            let path = diagnostics::join(at, key);
            let json = match (properties.and_then(|known| known.get(key)), others) {
                (Some(property), _) => self.value(&path, value, property),
                (None, Some(open @ (Json::Object(_) | Json::Bool(true)))) => self.value(&path, value, open),
                (None, _) => self.unknown_key(&path, key, value, schema),
            };
            checked.insert(key.clone(), json);
        }
        for key in schema_view::required(schema).filter(|key| !table.contains_key(*key)) {
            self.missing_key(at, key, table, schema);
        }
        Json::Object(checked)
    }

    /// Checks a number of items, keys or letters against two keywords.
    fn count(&mut self, at: &str, value: &Value, of: (usize, &str), keys: (&str, &str), schema: &Json) {
        let ((count, what), limit) = (of, |key| schema.get(key).and_then(Json::as_u64));
        let (least, most) = (limit(keys.0).unwrap_or(0), limit(keys.1).unwrap_or(u64::MAX));
        if !(least..=most).contains(&(count as u64)) {
            let allowed = match (least, most) {
                (least, most) if least == most => format!("{least}"),
                (least, u64::MAX) => format!("at least {least}"),
                (least, most) => format!("{least} to {most}"),
            };
            self.problem(at, value, &format!("has {count} {what}; it must have {allowed}"));
        }
    }

    fn key_count(&mut self, at: &str, table: &Map<String, Value>, schema: &Json) {
        // The name of a plugin's component is none of its settings.
        let name = schema.get(plugin::MARK).is_some() && table.contains_key("type");
        let origin = table.values().find_map(Value::origin).map(str::to_owned);
        let whole = Value::new(origin.as_ref(), ValueKind::Nil);
        let count = table.len() - usize::from(name);
        self.count(at, &whole, (count, "keys"), ("minProperties", "maxProperties"), schema);
    }

    fn text_length(&mut self, at: &str, value: &Value, text: &str, schema: &Json) {
        let letters = text.chars().count();
        self.count(at, value, (letters, "letters"), ("minLength", "maxLength"), schema);
    }

    /// Checks that a list has no item twice, where the schema wants that.
    fn distinct(&mut self, at: &str, value: &Value, checked: &Json, schema: &Json) {
        let unique = schema.get("uniqueItems").and_then(Json::as_bool).unwrap_or(false);
        let items = checked.as_array().filter(|_| unique);
        let mut seen = std::collections::HashSet::new();
        let twice = items.into_iter().flatten().find(|item| !seen.insert(item.to_string()));
        if let Some(item) = twice {
            self.problem(at, value, &format!("has {item} twice"));
        }
    }

    /// Checks that a value is one of those that the schema lists.
    fn listed(&mut self, at: &str, value: &Value, allowed: &[&Json]) -> Json {
        let checked = self.json(at, value);
        let is = |it: &&&Json| match (it.as_f64(), checked.as_f64()) {
            (Some(one), Some(other)) => one == other,
            _ => ***it == checked || it.is_null() && problems::is_none(value),
        };
        match allowed.iter().find(is) {
            Some(found) => (**found).clone(),
            None => {
                let all = allowed.iter().map(|it| it.to_string()).collect::<Vec<_>>().join(", ");
                self.problem(at, value, &format!("is {checked}, which is not among its values: {all}"))
            }
        }
    }

    fn items(&mut self, at: &str, items: &[Value], schema: &'s Json) -> Json {
        let fixed = schema.get("prefixItems").and_then(Json::as_array);
        let item_schema = |index| fixed.and_then(|fixed| fixed.get(index)).or_else(|| schema.get("items"));
        let check = |(index, item)| {
            let path = format!("{at}[{index}]");
            match item_schema(index) {
                Some(schema) => self.value(&path, item, schema),
                None => self.json(&path, item),
            }
        };
        Json::Array(items.iter().enumerate().map(check).collect())
    }

    /// Converts a value without a schema.
    fn json(&mut self, at: &str, value: &Value) -> Json {
        match &value.kind {
            ValueKind::Nil => Json::Null,
            ValueKind::Boolean(truth) => Json::Bool(*truth),
            ValueKind::I64(number) => Json::from(*number),
            ValueKind::U64(number) => Json::from(*number),
            ValueKind::I128(_) | ValueKind::U128(_) => self.mismatch(at, value, "a 64-bit integer"),
            ValueKind::Float(number) => match Number::from_f64(*number) {
                Some(number) => Json::Number(number),
                None => self.mismatch(at, value, "a finite number"),
            },
            ValueKind::String(text) => Json::from(text.as_str()),
            ValueKind::Array(items) => {
                let item = |(index, item)| self.json(&format!("{at}[{index}]"), item);
                Json::Array(items.iter().enumerate().map(item).collect())
            }
            ValueKind::Table(table) => {
                let entries = sorted(table).into_iter();
                let entry = |(key, value): (&String, &Value)| {
                    (key.clone(), self.json(&diagnostics::join(at, key), value))
                };
                Json::Object(entries.map(entry).collect())
            }
        }
    }

    fn bounds(&mut self, at: &str, value: &Value, schema: &Json) {
        let number = match value.kind {
            ValueKind::I64(number) => number as f64,
            ValueKind::U64(number) => number as f64,
            ValueKind::Float(number) => number,
            _ => return,
        };
        if let Some(broken) = Bounds::of(schema).broken(number) {
            self.problem(at, value, &format!("is {}; it must be {broken}", value.kind));
        }
    }

    /// The raw text of an override for a key of type string, whose value parsed as another type.
    fn raw_text(&self, at: &str, value: &Value) -> Option<&'s str> {
        let is_this = |raw_overrides: &&RawOverride| {
            raw_overrides.key == at && Some(raw_overrides.origin.as_str()) == value.origin()
        };
        let scalar = !matches!(value.kind, ValueKind::Table(_) | ValueKind::Array(_));
        self.raw_overrides.iter().rev().find(is_this).filter(|_| scalar).map(|raw| raw.text.as_str())
    }

    fn note_origin(&mut self, at: &str, value: &Value) {
        if let Some(origin) = value.origin() {
            self.origins.insert(at.to_owned(), origin.to_owned());
        }
    }
}

fn has_type(kind: &ValueKind, name: &str) -> bool {
    match kind {
        ValueKind::Boolean(_) => name == "boolean",
        ValueKind::String(_) => name == "string",
        ValueKind::Float(_) => name == "number",
        ValueKind::Nil => name == "null",
        ValueKind::Table(_) => name == "object",
        ValueKind::Array(_) => name == "array",
        _ => name == "integer" || name == "number",
    }
}

/// Entries sorted by key, for a deterministic order of messages.
fn sorted(table: &Map<String, Value>) -> BTreeMap<&String, &Value> {
    table.iter().collect()
}
