//! Keys of a request that are accepted without effect, named in a response header.

use axum::http::{HeaderName, HeaderValue};

/// Response header that names the keys, for instance `tools, chat_template_kwargs.enable_thinking, messages[].refusal`.
pub(crate) const HEADER: HeaderName = HeaderName::from_static("x-isr-ignored");

/// Longest header value in bytes, without the ellipsis behind it.
const LONGEST: usize = 1024;

/// Names of keys, each once.
#[derive(Debug, Default)]
pub(crate) struct Ignored {
    names: Vec<String>,
    /// Bytes of the names and of the separators between them.
    bytes: usize,
    /// Whether there are further names that a header cannot have.
    more: bool,
}

impl Ignored {
    /// Adds a key by its JSON path. Places in lists are left out: a key of many messages is one name.
    pub(crate) fn add(&mut self, path: &str) {
        let name = without_places(path);
        if self.names.contains(&name) {
            return;
        }
        let bytes = self.bytes + name.len() + 2;
        let fits = bytes <= LONGEST && name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b',');
        if self.more || !fits {
            self.more = true;
            return;
        }
        self.bytes = bytes;
        self.names.push(name);
    }

    /// The header's value; `None` where every key had an effect.
    pub(crate) fn value(&self) -> Option<HeaderValue> {
        let more = self.more.then_some("...");
        let names: Vec<&str> = self.names.iter().map(String::as_str).chain(more).collect();
        let value = (!names.is_empty()).then(|| names.join(", "))?;
        HeaderValue::try_from(value).ok()
    }
}

/// `messages[].refusal` of `messages[3].refusal`.
fn without_places(path: &str) -> String {
    let mut inside = false;
    let keep = |letter: &char| {
        inside = *letter == '[' || inside && *letter != ']';
        !inside || *letter == '['
    };
    path.chars().filter(keep).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_named_once_whatever_its_message() {
        let mut ignored = Ignored::default();
        assert_eq!(ignored.value(), None);
        for path in ["tools", "messages[0].refusal", "messages[12].refusal", "messages[1].content[3].id"] {
            ignored.add(path);
        }
        assert_eq!(ignored.value().unwrap(), "tools, messages[].refusal, messages[].content[].id");
    }

    #[test]
    fn names_that_no_header_can_have_are_left_out_and_the_header_stays_short() {
        let mut ignored = Ignored::default();
        for path in ["user", "a\r\nset-cookie: b", "store"] {
            ignored.add(path);
        }
        assert_eq!(ignored.value().unwrap(), "user, ...");
        let mut ignored = Ignored::default();
        for index in 0..100_000 {
            ignored.add(&format!("key{index}"));
        }
        let value = ignored.value().unwrap();
        assert!(
            value.len() <= LONGEST + 3 && value.to_str().unwrap().ends_with(", ..."),
            "{}",
            value.len()
        );
    }
}
