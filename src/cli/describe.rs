//! A component's description, from the JSON schema of its config struct.

use isr_api::{Kind, Manifest};
use serde_json::Value;

/// Longest line of text.
const WIDTH: usize = 96;
/// Longest default that is shown whole.
const LONGEST_DEFAULT: usize = 60;

/// One key of a section.
struct Key {
    path: String,
    kind: String,
    default: Option<String>,
    required: bool,
    doc: String,
}

/// The whole description.
pub(super) fn text(component: &Manifest) -> String {
    let Manifest { kind, name, schema, .. } = component;
    let kind = kind.section();
    let version = match component.version.as_str() {
        "" => String::new(),
        version => format!(", version {version}"),
    };
    let mut text = format!("{kind} `{name}`{version}\n\n{}\n", wrapped(&component.help, 0));
    let mut keys = Vec::new();
    collect("", schema, schema, &mut keys);
    if !keys.is_empty() {
        text.push_str("\nKeys:\n");
    }
    for key in &keys {
        let default = match (&key.default, key.required) {
            (_, true) => ", required".to_owned(),
            (Some(default), false) => format!(", default {default}"),
            (None, false) => String::new(),
        };
        text.push_str(&format!("  {}: {}{default}\n{}\n", key.path, key.kind, wrapped(&key.doc, 6)));
    }
    // Of observers a config names several.
    let heading =
        if component.kind == Kind::Observer { format!("[[{kind}]]") } else { format!("[{kind}]") };
    text.push_str(&format!("\nExample:\n  {heading}\n  type = \"{name}\"\n"));
    for line in component.example.lines() {
        text.push_str(&format!("  {line}\n"));
    }
    text
}

/// The keys of a table and, with dotted paths, of the tables in it.
fn collect(prefix: &str, table: &Value, root: &Value, keys: &mut Vec<Key>) {
    let required =
        |name: &str| table["required"].as_array().is_some_and(|names| names.iter().any(|it| it == name));
    for (name, property) in table["properties"].as_object().into_iter().flatten() {
        let path = format!("{prefix}{name}");
        let inner = resolved(property, root);
        if inner["properties"].is_object() {
            collect(&format!("{path}."), inner, root, keys);
            continue;
        }
        keys.push(Key {
            kind: kind(property, root),
            default: property.get("default").filter(|it| !it.is_null()).map(shortened),
            required: required(name),
            doc: doc(property, inner),
            path: path.clone(),
        });
        // A component has its own description, and may nest components without end.
        if component(inner).is_some() {
            continue;
        }
        for variant in inner["oneOf"].as_array().into_iter().flatten() {
            variant_keys(&path, variant, root, keys);
        }
    }
}

/// The kind of component that a schema stands for, if it does: it is titled so, and offers all that are
/// registered.
fn component(schema: &Value) -> Option<&str> {
    let title = schema["title"].as_str().filter(|_| schema["oneOf"].is_array())?;
    Kind::ALL.iter().any(|kind| kind.section() == title).then_some(title)
}

/// The keys of one variant of a table that has a tag.
fn variant_keys(path: &str, variant: &Value, root: &Value, keys: &mut Vec<Key>) {
    let Some((tag, value)) = tag(variant) else { return };
    let mut own = Vec::new();
    collect(&format!("{path}."), variant, root, &mut own);
    let tag_path = format!("{path}.{tag}");
    own.retain(|key| key.path != tag_path);
    keys.extend(own.into_iter().map(|key| Key { path: format!("{} ({tag} = {value})", key.path), ..key }));
}

/// The property that tells a variant from the others, and its value.
fn tag(variant: &Value) -> Option<(&str, &Value)> {
    let mut properties = variant["properties"].as_object()?.iter();
    properties.find_map(|(name, property)| Some((name.as_str(), property.get("const")?)))
}

/// Follows references, and takes null away.
fn resolved<'a>(schema: &'a Value, root: &'a Value) -> &'a Value {
    if let Some(path) = schema.get("$ref").and_then(Value::as_str) {
        let target = path.strip_prefix('#').and_then(|pointer| root.pointer(pointer));
        return target.map_or(schema, |target| resolved(target, root));
    }
    let variants: Vec<_> = variants(schema).collect();
    match variants.as_slice() {
        [one] => resolved(one, root),
        _ => schema,
    }
}

fn variants(schema: &Value) -> impl Iterator<Item = &Value> {
    let all = schema["anyOf"].as_array().or_else(|| schema["oneOf"].as_array());
    all.into_iter().flatten().filter(|it| it["type"] != "null")
}

/// A type as people write it.
fn kind(schema: &Value, root: &Value) -> String {
    let schema = resolved(schema, root);
    if let Some(value) = schema.get("const") {
        return value.to_string();
    }
    if let Some(values) = schema["enum"].as_array() {
        return joined(values.iter().filter(|it| !it.is_null()).map(Value::to_string));
    }
    if let Some(name) = component(schema) {
        let article = if name.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
        return format!("{article} {name} (table with type = one of them)");
    }
    if let Some((name, _)) = variants(schema).find_map(tag) {
        let values = variants(schema).filter_map(tag).map(|(_, value)| value.to_string());
        return format!("table with {name} = {}", joined(values));
    }
    let mut alternatives: Vec<_> = variants(schema).map(|it| kind(it, root)).collect();
    if !alternatives.is_empty() {
        alternatives.dedup();
        return joined(alternatives.into_iter());
    }
    match &schema["type"] {
        Value::String(name) => named(name, schema, root),
        Value::Array(names) => {
            let names = names.iter().filter_map(Value::as_str).filter(|name| *name != "null");
            joined(names.map(|name| named(name, schema, root)))
        }
        _ => "any value".to_owned(),
    }
}

fn named(name: &str, schema: &Value, root: &Value) -> String {
    match name {
        "object" => "table".to_owned(),
        "array" if schema["items"].is_object() => format!("list of {}", kind(&schema["items"], root)),
        "array" => "list".to_owned(),
        other => other.to_owned(),
    }
}

fn joined(words: impl Iterator<Item = String>) -> String {
    words.collect::<Vec<_>>().join(" | ")
}

fn doc(property: &Value, inner: &Value) -> String {
    let own = property["description"].as_str().or_else(|| inner["description"].as_str());
    own.unwrap_or_default().to_owned()
}

fn shortened(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(LONGEST_DEFAULT) {
        Some((end, _)) => format!("{} ...", &text[..end]),
        None => text,
    }
}

/// Paragraphs wrapped at [`WIDTH`]; list items begin lines.
fn wrapped(text: &str, indent: usize) -> String {
    let mut lines: Vec<String> = Vec::new();
    let mut fresh = true;
    for line in text.lines() {
        if line.trim().is_empty() {
            lines.push(String::new());
            fresh = true;
            continue;
        }
        fresh |= line.starts_with("- ");
        for word in line.split_whitespace() {
            match lines.last_mut() {
                Some(last) if !fresh && indent + last.len() + 1 + word.len() <= WIDTH => {
                    last.push(' ');
                    last.push_str(word);
                }
                _ => lines.push(word.to_owned()),
            }
            fresh = false;
        }
    }
    let indented = |line: String| if line.is_empty() { line } else { " ".repeat(indent) + &line };
    lines.into_iter().map(indented).collect::<Vec<_>>().join("\n")
}
