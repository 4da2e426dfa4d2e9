//! Conversations in rows: lists of turns in the forms of OpenAI and of ShareGPT, and markers of media in texts.

use isr_api::{Role, Turn};
use serde_json::Value;

use crate::row::{Object, optional};

/// Markers at which trainers insert a video or image.
const MARKERS: [&str; 2] = ["<video>", "<image>"];

/// Markers that no text may contain.
const PLACEHOLDERS: [&str; 6] =
    ["<video>", "<image>", "<audio>", "<|video_pad|>", "<|image_pad|>", "<|vision_start|>"];

/// Names of roles in `role` (OpenAI) and `from` (ShareGPT).
const ROLES: [(&str, Role); 6] = [
    ("system", Role::System),
    ("user", Role::User),
    ("human", Role::User),
    ("assistant", Role::Assistant),
    ("gpt", Role::Assistant),
    ("model", Role::Assistant),
];

/// Parses a list of turns: `{"role", "content"}` or `{"from", "value"}`. Content is a text, or a list of blocks of
/// type `text`, `image` or `video`; the latter become the markers `<image>` and `<video>`.
pub(crate) fn turns(key: &str, value: &Value) -> Result<Vec<Turn>, String> {
    let items = value.as_array().ok_or_else(|| format!("`{key}` is no list of turns"))?;
    items.iter().enumerate().map(|(at, item)| turn(&format!("{key}[{at}]"), item)).collect()
}

/// Parses one turn.
pub(crate) fn turn(key: &str, value: &Value) -> Result<Turn, String> {
    let field = |usual: &str, other: &str| value.get(usual).or_else(|| value.get(other));
    let name = field("role", "from").and_then(Value::as_str);
    let name = name.ok_or_else(|| format!("`{key}` has no `role` or `from`"))?;
    let role = ROLES.iter().find(|(known, _)| *known == name).map(|(_, role)| *role);
    let role = role.ok_or_else(|| {
        format!("`{key}` has the role `{name}`; system, user (human) and assistant (gpt) are supported")
    })?;
    let content =
        field("content", "value").ok_or_else(|| format!("`{key}` has no `content` or `value`"))?;
    Ok(Turn { role, text: content_text(key, content)? })
}

fn content_text(key: &str, content: &Value) -> Result<String, String> {
    let blocks = match content {
        Value::String(text) => return Ok(text.clone()),
        Value::Array(blocks) => blocks,
        _ => return Err(format!("the content of `{key}` is no text")),
    };
    let block = |block: &Value| match block.get("type").and_then(Value::as_str) {
        Some("text") => {
            let text = block.get("text").and_then(Value::as_str);
            text.map(str::to_owned).ok_or_else(|| format!("`{key}` has a text block without `text`"))
        }
        Some("image" | "image_url") => Ok("<image>".to_owned()),
        Some("video" | "video_url") => Ok("<video>".to_owned()),
        _ => Err(format!("`{key}` has a block that is no text, image or video")),
    };
    blocks.iter().map(block).collect()
}

/// Puts the text under `system` before the first turn.
pub(crate) fn with_system(row: &Object, mut all: Vec<Turn>) -> Result<Vec<Turn>, String> {
    if let Some(text) = optional(row, "system")?.filter(|text| !text.trim().is_empty()) {
        all.insert(0, Turn { role: Role::System, text });
    }
    Ok(all)
}

/// The text of an answer; `what` names it in messages.
///
/// # Errors
/// An empty text, and a marker of media in it.
pub(crate) fn answer(what: &str, text: &str) -> Result<String, String> {
    if text.trim().is_empty() {
        return Err(format!("{what} is empty"));
    }
    no_marker(what, text)?;
    Ok(text.to_owned())
}

/// Splits a conversation that ends with the user into earlier turns and the last text, without the marker of the media,
/// which stands before or behind the text of the first user turn.
///
/// # Errors
/// A conversation of another form, a marker elsewhere, and one in a row without media.
pub(crate) fn prompt(
    key: &str,
    mut turns: Vec<Turn>,
    has_media: bool,
) -> Result<(Vec<Turn>, String), String> {
    let first = turns.iter().position(|turn| turn.role == Role::User);
    let first = first.ok_or_else(|| format!("`{key}` has no user turn"))?;
    let text = without_marker(key, &turns[first].text, has_media)?;
    turns[first].text = text;
    for (at, turn) in turns.iter().enumerate() {
        no_marker(&format!("`{key}`"), &turn.text)?;
        if turn.text.trim().is_empty() && turn.role != Role::System {
            return Err(format!("turn {} of `{key}` is empty", at + 1));
        }
        if turn.role == Role::System && at > 0 {
            return Err(format!("turn {} of `{key}` is a system prompt; it must be the first", at + 1));
        }
    }
    turns.retain(|turn| !(turn.role == Role::System && turn.text.trim().is_empty()));
    match turns.pop() {
        Some(Turn { role: Role::User, text }) => Ok((turns, text)),
        _ => Err(format!("`{key}` does not end with a user turn before the answer")),
    }
}

/// Removes one marker before or behind a text.
fn without_marker(key: &str, text: &str, has_media: bool) -> Result<String, String> {
    let bare = text.trim();
    let before = MARKERS.iter().find_map(|marker| bare.strip_prefix(marker));
    let behind = || MARKERS.iter().find_map(|marker| bare.strip_suffix(marker));
    let Some(rest) = before.map(str::trim_start).or_else(|| behind().map(str::trim_end)) else {
        return Ok(text.to_owned());
    };
    if !has_media {
        return Err(format!("`{key}` has a marker of media, and the row names no video or image"));
    }
    Ok(rest.to_owned())
}

fn no_marker(what: &str, text: &str) -> Result<(), String> {
    match PLACEHOLDERS.iter().find(|marker| text.contains(**marker)) {
        Some(marker) => Err(format!(
            "{what} has the marker `{marker}` inside its text; one may stand before or behind the first question"
        )),
        None => Ok(()),
    }
}
