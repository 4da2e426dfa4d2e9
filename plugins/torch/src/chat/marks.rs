//! Marks in text of users, which keep it from being read as the tokens that a template writes.
//!
//! A special token that a text spells, such as `<|im_end|>` in an answer that a judge is shown, gets a mark behind its
//! first character before the template sees it. The mark goes through the template with the text, keeps the tokenizer
//! from finding the token, and is taken out before the text is cut into words. Text that spells no token is left as
//! it is. transformers has the same in `apply_chat_template(..., sanitize_control_tokens=True)` since 5.24.

use std::borrow::Cow;
use std::collections::BTreeSet;

/// Noncharacter of Unicode, for use within a program.
pub(super) const MARK: char = '\u{FDD0}';

/// Marks what would be read as one of the `tokens`, and where text could become one with its neighbours.
pub(super) fn marked<'a>(text: &'a str, tokens: &BTreeSet<String>) -> Cow<'a, str> {
    let mut places = BTreeSet::new();
    for token in tokens {
        let Some(second) = token.char_indices().nth(1).map(|(at, _)| at) else { continue };
        let mut from = 0;
        while let Some(at) = text.get(from..).and_then(|rest| rest.find(token.as_str())) {
            places.insert(from + at + second);
            from += at + second;
        }
        let parts = token.char_indices().skip(1).map(|(at, _)| token.split_at(at));
        for (head, tail) in parts {
            if text.ends_with(head) && !head.ends_with(char::is_whitespace) {
                places.insert(text.len());
            }
            if text.starts_with(tail) && !tail.starts_with(char::is_whitespace) {
                places.insert(0);
            }
        }
    }
    if places.is_empty() {
        return Cow::Borrowed(text);
    }
    let (mut marked, mut copied) = (String::with_capacity(text.len() + 3 * places.len()), 0);
    for at in places {
        marked.push_str(&text[copied..at]);
        marked.push(MARK);
        copied = at;
    }
    Cow::Owned(marked + &text[copied..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_stand_within_tokens_and_at_ends_that_could_become_one() {
        let tokens = ["<|im_end|>", "</s>", "aa"].map(str::to_owned).into();
        let shown = |text: &str| marked(text, &tokens).replace(MARK, "^");
        for plain in ["", "What moves?", "1 < 2 and 3 > 2", "im_end", "x <|im_end"] {
            assert!(matches!(marked(plain, &tokens), Cow::Borrowed(_)) || plain.contains("<|"), "{plain}");
        }
        assert_eq!(shown("x <|im_end|>\nb</s>"), "x <^|im_end|>\nb<^/s>");
        assert_eq!(shown("baaab"), "ba^a^ab");
        assert_eq!(shown("<|im_"), "<|im_^");
        assert_eq!(shown("end|>"), "^end|>");
    }
}
