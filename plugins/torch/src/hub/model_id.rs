//! Repository names of the hub.

use std::fmt;

/// A repository name `owner/name` with a revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelId {
    /// `owner/name`.
    pub repository: String,
    /// Branch, tag or commit hash; `main` by default.
    pub revision: String,
}

/// The default revision.
const MAIN: &str = "main";

impl ModelId {
    /// Parses `owner/name` or `owner/name@revision`; `None` for text that is not a valid repository name. Each
    /// part consists of letters, digits, `.`, `_` and `-`, and begins and ends with a letter, digit or `_`.
    pub fn parse(text: &str) -> Option<Self> {
        let (repository, revision) = text.split_once('@').unwrap_or((text, MAIN));
        let (owner, name) = repository.split_once('/')?;
        let is_letter = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let is_part = |part: &str| {
            part.chars().all(|c| is_letter(c) || matches!(c, '.' | '-'))
                && part.starts_with(is_letter)
                && part.ends_with(is_letter)
                && !part.contains("..")
                && !part.contains("--")
        };
        let is_revision = !revision.is_empty()
            && revision.split('/').all(|part| !part.is_empty() && !part.starts_with('.'))
            && revision.chars().all(|c| is_letter(c) || matches!(c, '.' | '-' | '/'));
        let is_id = is_part(owner) && is_part(name) && is_revision;
        is_id.then(|| Self { repository: repository.to_owned(), revision: revision.to_owned() })
    }
}

impl fmt::Display for ModelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.repository)?;
        if self.revision == MAIN { Ok(()) } else { write!(f, "@{}", self.revision) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_and_shown() {
        for text in ["llava-hf/llava-1.5-7b-hf", "a/b@refs/pr/3", "a/b@0123abc", "A_1/b.c"] {
            assert_eq!(ModelId::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(ModelId::parse("a/b").unwrap().revision, "main");
    }

    #[test]
    fn what_is_no_id_is_refused() {
        for text in [
            "", "a", "/a", "a/", "./a", "../a", "a/..", "a/b/c", "a\\b/c", "a b/c", "a/b@", "a/b@../x",
            "a/b@/x", "C:/x", "~/x", "a--b/c", "a/b@x y",
        ] {
            assert_eq!(ModelId::parse(text), None, "{text}");
        }
    }
}
