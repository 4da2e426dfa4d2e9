//! Functions and filters that transformers gives to chat templates, and its way of writing values.

use std::fmt::Write as _;

use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Environment, Error, ErrorKind, Output, Value};
use serde_json::Value as Json;

use super::clock::Clock;

/// Message of a template's `raise_exception`, which refuses a conversation.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Refusal(pub(super) String);

/// Adds `raise_exception` and `strftime_now`.
pub(super) fn install(environment: &mut Environment<'_>, clock: Option<Clock>) {
    // The engine's own, which prints everything, and which transformers has not.
    environment.remove_global("debug");
    environment.add_function("raise_exception", raise_exception);
    if let Some(clock) = clock {
        let strftime_now = move |format: &str| clock.strftime(format).map_err(invalid);
        environment.add_function("strftime_now", strftime_now);
    }
}

fn invalid(message: String) -> Error {
    Error::new(ErrorKind::InvalidOperation, message)
}

fn raise_exception(message: String) -> Result<String, Error> {
    let error = Error::new(ErrorKind::InvalidOperation, message.clone());
    Err(error.with_source(Refusal(message)))
}

/// Finds an error of one type among the sources of a template error; each macro or loop adds one.
pub(super) fn cause<T: std::error::Error + 'static>(error: &Error) -> Option<&T> {
    let first: &(dyn std::error::Error + 'static) = error;
    std::iter::successors(Some(first), |error| error.source()).find_map(|error| error.downcast_ref())
}

/// Writes a value as `str` of Python does, with which Jinja prints: `True`, `None`, `['a', {'b': 1}]`.
pub(super) fn print(out: &mut Output<'_>, value: &Value) -> Result<(), Error> {
    let written = match value.kind() {
        ValueKind::Bool | ValueKind::None | ValueKind::Seq | ValueKind::Map => {
            let mut text = String::new();
            repr(&mut text, value);
            out.write_str(&text)
        }
        _ => write!(out, "{value}"),
    };
    written.map_err(|_| Error::new(ErrorKind::WriteFailure, "the text is too long"))
}

/// Appends Python's `repr` of a value.
fn repr(text: &mut String, value: &Value) {
    match value.kind() {
        ValueKind::Bool => text.push_str(if value.is_true() { "True" } else { "False" }),
        ValueKind::None => text.push_str("None"),
        ValueKind::String => repr_text(text, value.as_str().unwrap_or_default()),
        ValueKind::Seq => {
            text.push('[');
            for (index, item) in value.try_iter().into_iter().flatten().enumerate() {
                text.push_str(if index > 0 { ", " } else { "" });
                repr(text, &item);
            }
            text.push(']');
        }
        ValueKind::Map => {
            text.push('{');
            for (index, key) in value.try_iter().into_iter().flatten().enumerate() {
                text.push_str(if index > 0 { ", " } else { "" });
                repr(text, &key);
                text.push_str(": ");
                repr(text, &value.get_item(&key).unwrap_or_default());
            }
            text.push('}');
        }
        _ => text.push_str(&value.to_string()),
    }
}

fn repr_text(text: &mut String, content: &str) {
    let quote = if content.contains('\'') && !content.contains('"') { '"' } else { '\'' };
    text.push(quote);
    for character in content.chars() {
        match character {
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '\t' => text.push_str("\\t"),
            '\\' => text.push_str("\\\\"),
            other if other == quote => text.extend(['\\', other]),
            other if other.is_control() => {
                let _ = write!(text, "\\x{:02x}", other as u32);
            }
            other => text.push(other),
        }
    }
    text.push(quote);
}

/// Longest JSON text in bytes.
const MAX_JSON: usize = 64 << 20;

/// Layout of JSON, as the arguments of Python's `json.dumps` say.
struct Layout {
    ascii: bool,
    indent: Option<String>,
    item_separator: String,
    key_separator: String,
    sorted: bool,
}

/// transformers' `tojson`: `json.dumps(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False)`.
pub(super) fn to_json(value: Value, arguments: Kwargs) -> Result<Value, Error> {
    let indent = match arguments.get::<Option<Value>>("indent")? {
        Some(value) if value.kind() == ValueKind::Number => {
            let width = usize::try_from(value).unwrap_or(0);
            if width > 64 {
                return Err(super::meter::refused("tojson has an indent above 64".to_owned()));
            }
            Some(" ".repeat(width))
        }
        Some(value) => value.as_str().filter(|text| text.len() <= 64).map(str::to_owned),
        None => None,
    };
    let separators: Option<Vec<String>> = arguments.get("separators")?;
    let (item, key) = match separators.as_deref() {
        Some([item, key]) => (item.clone(), key.clone()),
        Some(_) => return Err(invalid("tojson takes two separators".to_owned())),
        None => (if indent.is_some() { "," } else { ", " }.to_owned(), ": ".to_owned()),
    };
    let layout = Layout {
        ascii: arguments.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false),
        indent,
        item_separator: item,
        key_separator: key,
        sorted: arguments.get::<Option<bool>>("sort_keys")?.unwrap_or(false),
    };
    arguments.assert_all_used()?;
    let json = serde_json::to_value(&value).map_err(|error| invalid(format!("tojson: {error}")))?;
    let mut text = String::new();
    layout.write(&mut text, &json, 0);
    match text.len() > MAX_JSON {
        true => Err(super::meter::refused("tojson writes too much".to_owned())),
        false => Ok(Value::from(text)),
    }
}

impl Layout {
    fn write(&self, text: &mut String, value: &Json, depth: usize) {
        match value {
            _ if text.len() > MAX_JSON => {}
            Json::String(content) => self.quoted(text, content),
            Json::Array(list) if !list.is_empty() => {
                let items = list.iter().map(|item| (None, item));
                self.enclosed(text, ['[', ']'], items, depth);
            }
            Json::Object(map) if !map.is_empty() => {
                let mut entries: Vec<(Option<&str>, &Json)> =
                    map.iter().map(|(key, item)| (Some(key.as_str()), item)).collect();
                if self.sorted {
                    entries.sort_by_key(|(key, _)| *key);
                }
                self.enclosed(text, ['{', '}'], entries.into_iter(), depth);
            }
            // Python writes floats with their fraction, as serde_json does.
            other => text.push_str(&other.to_string()),
        }
    }

    fn enclosed<'a>(
        &self,
        text: &mut String,
        [open, close]: [char; 2],
        items: impl Iterator<Item = (Option<&'a str>, &'a Json)>,
        depth: usize,
    ) {
        let line = |text: &mut String, depth: usize| {
            if let Some(indent) = &self.indent {
                text.push('\n');
                text.push_str(&indent.repeat(depth));
            }
        };
        text.push(open);
        for (index, (key, item)) in items.enumerate() {
            text.push_str(if index > 0 { &self.item_separator } else { "" });
            line(text, depth + 1);
            if let Some(key) = key {
                self.quoted(text, key);
                text.push_str(&self.key_separator);
            }
            self.write(text, item, depth + 1);
        }
        line(text, depth);
        text.push(close);
    }

    fn quoted(&self, text: &mut String, content: &str) {
        let quoted = Json::from(content).to_string();
        for character in quoted.chars() {
            // The mark of user text is no text, and is taken out later.
            if character == '\u{7f}' && self.ascii {
                text.push_str("\\u007f");
            } else if self.ascii && !character.is_ascii() && character != super::marks::MARK {
                let mut units = [0; 2];
                for unit in character.encode_utf16(&mut units) {
                    let _ = write!(text, "\\u{unit:04x}");
                }
            } else {
                text.push(character);
            }
        }
    }
}
