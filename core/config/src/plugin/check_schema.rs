//! Validation of a plugin's schema before it is used to check a config.
//!
//! The schema may come from a plugin that nobody trusts, so its size, its depth and what it
//! expands to are bounded before anything walks it without limits. What the checker of configs does not enforce is
//! refused here: a keyword is never silently ignored.

use std::collections::HashMap;

use serde_json::{Map, Value};

/// Maximum nesting, of the JSON itself and with references followed.
const DEEPEST: usize = 64;
/// Most JSON values.
const VALUES: usize = 20_000;
/// Most bytes of its texts and keys.
const BYTES: usize = 1 << 20;
/// Most schemas that it expands to, each definition counted wherever it is referred to.
const SCHEMAS: u64 = 10_000;

/// Keywords that say nothing about which values are valid.
const ANNOTATIONS: [&str; 14] = [
    "$schema",
    "$id",
    "$comment",
    "title",
    "description",
    "default",
    "example",
    "examples",
    "deprecated",
    "readOnly",
    "writeOnly",
    "format",
    "discriminator",
    "contentMediaType",
];

/// Types of JSON schema.
const TYPES: [&str; 7] = ["null", "boolean", "integer", "number", "string", "array", "object"];

/// Keywords that are refused, with what to write instead.
const INSTEAD: [(&str, &str); 6] = [
    ("allOf", "write its parts into one schema"),
    ("definitions", "call it `$defs`"),
    ("dependencies", "check it when the component is built"),
    ("not", "check it when the component is built"),
    ("pattern", "check it when the component is built, or list the values as `enum`"),
    ("patternProperties", "use `additionalProperties`"),
];

/// Checks that the schema describes a table, that its references resolve without cycles, that it is small enough,
/// and that a config can be checked against all of it.
pub(super) fn check(root: &Value) -> Result<(), String> {
    let Some(object) = root.as_object() else {
        return Err("is not an object".to_owned());
    };
    measure(root, 0, &mut Size::default())?;
    if object.get("type").and_then(Value::as_str) != Some("object") {
        return Err("does not describe a table: its `type` must be \"object\"".to_owned());
    }
    if object.get("properties").and_then(|all| all.get("type")).is_some() {
        return Err("has a property `type`, which names the component; call it something else".to_owned());
    }
    if let Some(combined) = ["$ref", "oneOf", "anyOf"].into_iter().find(|key| object.contains_key(*key)) {
        return Err(format!("has `{combined}` at its root, which must list its `properties`"));
    }
    let mut walk = Walk { root, known: HashMap::new() };
    walk.schema(root, "", 0)?;
    let definitions = object.get("$defs").and_then(Value::as_object);
    for (name, definition) in definitions.into_iter().flatten() {
        walk.schema(definition, &below("$defs", name), 0)?;
    }
    Ok(())
}

#[derive(Default)]
struct Size {
    values: usize,
    bytes: usize,
}

/// Bounds depth and size. Everything after this may recurse over the JSON.
fn measure(value: &Value, depth: usize, size: &mut Size) -> Result<(), String> {
    size.values += 1;
    if depth > DEEPEST {
        return Err(format!("is nested more than {DEEPEST} deep"));
    }
    if size.values > VALUES {
        return Err(format!("has more than {VALUES} values"));
    }
    match value {
        Value::String(text) => size.bytes += text.len(),
        Value::Array(items) => items.iter().try_for_each(|item| measure(item, depth + 1, size))?,
        Value::Object(object) => {
            for (key, value) in object {
                size.bytes += key.len();
                measure(value, depth + 1, size)?;
            }
        }
        _ => {}
    }
    if size.bytes > BYTES { Err(format!("has more than {BYTES} bytes of text")) } else { Ok(()) }
}

/// What a schema expands to when its references are followed.
#[derive(Clone, Copy)]
struct Expanded {
    /// Number of schemas, those below properties, items and alternatives included.
    schemas: u64,
    /// Longest way down.
    height: usize,
}

struct Walk<'s> {
    root: &'s Value,
    /// Definitions by reference; `None` while one is being expanded.
    known: HashMap<&'s str, Option<Expanded>>,
}

impl<'s> Walk<'s> {
    /// Checks a schema and all schemas in it. `at` is its place, for messages.
    fn schema(&mut self, schema: &'s Value, at: &str, depth: usize) -> Result<Expanded, String> {
        let object = match schema {
            Value::Bool(true) => return Ok(Expanded { schemas: 1, height: 0 }),
            Value::Object(object) => object,
            _ => return Err(format!("has what is no schema{}: it must be an object", place(at))),
        };
        let deep =
            || Err(format!("has references, tables or alternatives nested more than {DEEPEST} deep"));
        if depth > DEEPEST {
            return deep();
        }
        keywords(object, at)?;
        let mut all = Expanded { schemas: 1, height: 0 };
        for (inner, at) in inner(object, at) {
            let part = match inner {
                Inner::Schema(schema) => self.schema(schema, &at, depth + 1)?,
                Inner::Reference(target) => self.referred(target, &at, depth + 1)?,
            };
            all.schemas = all.schemas.saturating_add(part.schemas);
            all.height = all.height.max(part.height + 1);
        }
        if all.schemas > SCHEMAS {
            return Err(format!("expands to more than {SCHEMAS} keys and alternatives{}", place(at)));
        }
        if depth + all.height > DEEPEST { deep() } else { Ok(all) }
    }

    /// Checks the definition that a reference names, once.
    fn referred(&mut self, target: &'s str, at: &str, depth: usize) -> Result<Expanded, String> {
        let found = target.strip_prefix('#').filter(|it| it.starts_with("/$defs/"));
        let Some(next) = found.and_then(|pointer| self.root.pointer(pointer)) else {
            return Err(format!("refers to `{}`, which it does not define under `$defs`", short(target)));
        };
        match self.known.get(target) {
            Some(Some(known)) => return Ok(*known),
            Some(None) => {
                return Err(format!("has a definition that refers to itself: `{}`", short(target)));
            }
            None => {}
        }
        self.known.insert(target, None);
        let expanded = self.schema(next, at, depth)?;
        self.known.insert(target, Some(expanded));
        Ok(expanded)
    }
}

/// A schema in another.
enum Inner<'s> {
    Schema(&'s Value),
    Reference(&'s str),
}

/// The schemas that the keywords of another hold, with their places.
fn inner<'s>(schema: &'s Map<String, Value>, at: &str) -> Vec<(Inner<'s>, String)> {
    let mut all = Vec::new();
    for (key, value) in schema {
        match (key.as_str(), value) {
            ("$ref", Value::String(target)) => all.push((Inner::Reference(target), at.to_owned())),
            ("properties", Value::Object(properties)) => {
                all.extend(properties.iter().map(|(name, it)| (Inner::Schema(it), below(at, name))));
            }
            ("oneOf" | "anyOf", Value::Array(options)) => {
                all.extend(options.iter().map(|it| (Inner::Schema(it), at.to_owned())));
            }
            ("prefixItems", Value::Array(items)) => {
                let item = |(index, it)| (Inner::Schema(it), format!("{at}[{index}]"));
                all.extend(items.iter().enumerate().map(item));
            }
            ("items", it) => all.push((Inner::Schema(it), format!("{at}[]"))),
            ("additionalProperties" | "unevaluatedProperties", it @ Value::Object(_)) => {
                all.push((Inner::Schema(it), below(at, "*")));
            }
            _ => {}
        }
    }
    all
}

/// Checks that each keyword is one that the checker of configs enforces, with a value that it understands.
fn keywords(schema: &Map<String, Value>, at: &str) -> Result<(), String> {
    let combined = ["$ref", "oneOf", "anyOf"].into_iter().find(|key| schema.contains_key(*key));
    let types = types(schema, at)?;
    for (key, value) in schema {
        let key = key.as_str();
        if ANNOTATIONS.contains(&key)
            || key.starts_with("x-")
            || key == "type"
            || key == "$defs" && at.is_empty()
        {
            continue;
        }
        if let Some(combined) = combined.filter(|it| *it != key) {
            let text = format!("has `{}` beside `{combined}`{}, where it", short(key), place(at));
            return Err(format!("{text} is not checked; write it into each alternative or definition"));
        }
        let Some((of, understood)) = enforced(key, value) else { return Err(unknown(key, at)) };
        if !understood {
            return Err(format!(
                "has a `{key}`{} whose value is not understood: {}",
                place(at),
                shown(value)
            ));
        }
        if !of.is_empty() && !of.iter().any(|name| types.contains(name)) {
            let text = format!("has `{key}`{} without the `type` that it belongs to", place(at));
            return Err(format!("{text}: {}", of.join(" or ")));
        }
        if key == "required" {
            required(schema, value, at)?;
        }
    }
    Ok(())
}

/// The types that a keyword bounds (none: it bounds all), and whether its value is understood. `None` for a keyword that
/// is not enforced.
fn enforced(key: &str, value: &Value) -> Option<(&'static [&'static str], bool)> {
    let texts = |value: &Value| value.as_array().is_some_and(|all| all.iter().all(Value::is_string));
    let scalar = |value: &Value| !value.is_array() && !value.is_object();
    let listed = |value: &Value| value.as_array().is_some_and(|all| !all.is_empty());
    Some(match key {
        "$ref" => (&[], value.is_string()),
        "oneOf" | "anyOf" => (&[], listed(value)),
        "const" => (&[], scalar(value)),
        "enum" => (&[], value.as_array().is_some_and(|all| !all.is_empty() && all.iter().all(scalar))),
        "properties" => (&["object"], value.is_object()),
        "required" => (&["object"], texts(value)),
        "additionalProperties" | "unevaluatedProperties" => {
            (&["object"], value.is_object() || value.is_boolean())
        }
        "minProperties" | "maxProperties" => (&["object"], value.is_u64()),
        "items" => (&["array"], true),
        "prefixItems" => (&["array"], value.is_array()),
        "minItems" | "maxItems" => (&["array"], value.is_u64()),
        "uniqueItems" => (&["array"], value.is_boolean()),
        "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum" => {
            (&["integer", "number"], value.is_number())
        }
        "multipleOf" => (&["integer", "number"], value.as_f64().is_some_and(|of| of > 0.0)),
        "minLength" | "maxLength" => (&["string"], value.is_u64()),
        _ => return None,
    })
}

fn unknown(key: &str, at: &str) -> String {
    let instead = INSTEAD.iter().find(|(name, _)| *name == key);
    let instead = instead.map_or("check it when the component is built", |(_, instead)| instead);
    format!("has the keyword `{}`{}, which isr does not check; {instead}", short(key), place(at))
}

/// The types of a schema; that of a schema with properties is a table.
fn types<'s>(schema: &'s Map<String, Value>, at: &str) -> Result<Vec<&'s str>, String> {
    let named: Vec<&Value> = match schema.get("type") {
        None if schema.contains_key("properties") => return Ok(vec!["object"]),
        None => Vec::new(),
        Some(Value::Array(names)) => names.iter().collect(),
        Some(name) => vec![name],
    };
    let known = |name: &&'s Value| name.as_str().filter(|name| TYPES.contains(name));
    match named.iter().find(|name| known(name).is_none()) {
        Some(name) => Err(format!("has the unknown type {}{}", shown(name), place(at))),
        None => Ok(named.iter().filter_map(known).collect()),
    }
}

/// A required key must be described, or nobody could be told what it is.
fn required(schema: &Map<String, Value>, names: &Value, at: &str) -> Result<(), String> {
    let properties = schema.get("properties").and_then(Value::as_object);
    let missing = |name: &&str| !properties.is_some_and(|all| all.contains_key(*name));
    let names = names.as_array().into_iter().flatten().filter_map(Value::as_str);
    match names.into_iter().find(missing) {
        Some(name) => {
            Err(format!("requires `{}`{}, which is none of its `properties`", short(name), place(at)))
        }
        None => Ok(()),
    }
}

fn below(at: &str, name: &str) -> String {
    if at.is_empty() { short(name) } else { format!("{at}.{}", short(name)) }
}

fn place(at: &str) -> String {
    if at.is_empty() { String::new() } else { format!(" at `{}`", short(at)) }
}

fn shown(value: &Value) -> String {
    short(&value.to_string())
}

/// The beginning of a text: whoever wrote it may have written much.
fn short(text: &str) -> String {
    match text.char_indices().nth(80) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use serde_json::json;

    use super::*;

    fn with(key: Value) -> Value {
        json!({ "type": "object", "properties": { "k": key }, "additionalProperties": false })
    }

    fn refused(schema: &Value) -> String {
        let start = Instant::now();
        let said = check(schema).unwrap_err();
        assert!(start.elapsed() < Duration::from_secs(10), "{said}: {:?}", start.elapsed());
        assert!(said.len() < 400, "{said}");
        said
    }

    fn chain(count: usize, link: impl Fn(String) -> Value) -> Value {
        let mut all = Map::new();
        for index in 0..count {
            all.insert(format!("d{index}"), link(format!("#/$defs/d{}", index + 1)));
        }
        all.insert(format!("d{count}"), json!({ "type": "integer" }));
        json!({ "type": "object", "properties": { "k": { "$ref": "#/$defs/d0" } }, "$defs": all })
    }

    #[test]
    fn alternatives_that_double_are_refused_at_once() {
        for keyword in ["oneOf", "anyOf"] {
            let doubling = |next: String| json!({ keyword: [{ "$ref": next }, { "$ref": next }] });
            let said = refused(&chain(25, doubling));
            assert!(said.contains("expands to more than 10000 keys and alternatives"), "{said}");
            let said = refused(&chain(60, doubling));
            assert!(said.contains("nested more than 64 deep"), "{said}");
            check(&chain(8, doubling)).unwrap();
        }
    }

    #[test]
    fn tables_that_double_are_refused_at_once() {
        let doubling = |next: String| {
            let next = json!({ "$ref": next });
            json!({ "type": "object", "properties": { "a": next, "b": { "type": "array", "items": next } } })
        };
        assert!(refused(&chain(20, doubling)).contains("expands to more than 10000"));
        assert!(refused(&chain(60, doubling)).contains("nested more than 64 deep"));
    }

    #[test]
    fn long_chains_wide_tables_and_deep_nests_are_refused() {
        let link = |next: String| json!({ "$ref": next });
        assert!(refused(&chain(60_000, link)).contains("more than 20000 values"));
        assert!(refused(&chain(65, link)).contains("nested more than 64 deep"));
        check(&chain(30, link)).unwrap();
        for wrap in [|it: Value| json!([it]), |it: Value| json!({ "items": it, "type": "array" })] {
            let deep = (0..100).fold(json!({ "type": "integer" }), |inner, _| wrap(inner));
            assert!(refused(&with(json!({ "default": deep }))).contains("nested more than 64 deep"));
        }
        assert!(refused(&with(json!({ "description": "x".repeat(2 << 20) }))).contains("bytes of text"));
    }

    #[test]
    fn cycles_and_dangling_references_are_refused() {
        let defined = |schema: Value| {
            let reference = json!({ "$ref": "#/$defs/a" });
            json!({ "type": "object", "properties": { "k": reference }, "$defs": { "a": schema } })
        };
        for itself in [
            json!({ "$ref": "#/$defs/a" }),
            json!({ "anyOf": [{ "type": "null" }, { "$ref": "#/$defs/a" }] }),
            json!({ "type": "object", "properties": { "k": { "$ref": "#/$defs/a" } } }),
        ] {
            assert!(refused(&defined(itself)).contains("refers to itself: `#/$defs/a`"));
        }
        assert!(refused(&with(json!({ "$ref": "#/$defs/none" }))).contains("does not define"));
        assert!(refused(&with(json!({ "$ref": "https://x/y" }))).contains("does not define"));
    }

    #[test]
    fn a_keyword_that_would_not_be_checked_is_refused_by_name() {
        for keyword in [
            "pattern",
            "allOf",
            "not",
            "if",
            "then",
            "else",
            "patternProperties",
            "propertyNames",
            "dependentRequired",
            "dependentSchemas",
            "contains",
            "minContains",
            "unevaluatedItems",
            "definitions",
            "$dynamicRef",
            "$anchor",
            "minimun",
        ] {
            let said = refused(&with(json!({ keyword: [] })));
            assert!(said.contains(&format!("has the keyword `{keyword}` at `k`")), "{said}");
        }
        for (schema, says) in [
            (json!({ "type": "int" }), "the unknown type \"int\" at `k`"),
            (json!({ "type": "integer", "minimum": "3" }), "whose value is not understood: \"3\""),
            (json!({ "type": "number", "multipleOf": 0 }), "not understood: 0"),
            (json!({ "enum": [] }), "not understood"),
            (json!({ "const": {} }), "not understood"),
            (json!({ "minimum": 3 }), "without the `type` that it belongs to: integer or number"),
            (json!({ "type": "string", "minItems": 3 }), "belongs to: array"),
            (json!({ "$ref": "#/$defs/a", "minimum": 3 }), "`minimum` beside `$ref` at `k`"),
            (json!({ "anyOf": [{ "type": "null" }], "minLength": 1 }), "`minLength` beside `anyOf`"),
            (json!({ "type": "object", "required": ["x"] }), "requires `x` at `k`"),
            (json!(false), "what is no schema"),
            (json!({ "type": "array", "items": 3 }), "what is no schema at `k[]`"),
            (json!({ "type": "object", "properties": { "b": { "not": {} } } }), "`not` at `k.b`"),
        ] {
            let said = refused(&with(schema));
            assert!(said.contains(says), "{said}");
        }
        let said = refused(&json!({ "type": "object", "anyOf": [{ "properties": {} }] }));
        assert!(said.contains("has `anyOf` at its root"), "{said}");
    }

    #[test]
    fn annotations_and_what_is_enforced_are_accepted() {
        for schema in [
            json!(true),
            json!({ "title": "t", "description": "d", "default": { "not": 1 }, "examples": [{ "if": 2 }], "x-y": 1 }),
            json!({ "type": ["integer", "null"], "minimum": 0, "maximum": 3, "exclusiveMinimum": 0, "multipleOf": 2 }),
            json!({ "type": "string", "minLength": 1, "maxLength": 3, "format": "uri" }),
            json!({ "type": "array", "items": { "enum": [1, "a", null] }, "minItems": 1, "uniqueItems": true }),
            json!({ "description": "d", "anyOf": [{ "const": 1 }, { "type": "null" }] }),
            json!({ "type": "object", "additionalProperties": { "type": "string" }, "minProperties": 1 }),
        ] {
            check(&with(schema.clone())).unwrap_or_else(|error| panic!("{schema}: {error}"));
        }
    }
}
