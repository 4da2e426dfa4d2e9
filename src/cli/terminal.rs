//! Text for people: without control characters, which could come from data, configs, plugins and servers, and which
//! a terminal obeys.

use std::borrow::Cow;
use std::fmt::Write;

/// Replaces control characters (but line ends and tabs) and marks of writing direction by their code points, as
/// `\u{1b}`.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(is_obeyed) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if is_obeyed(c) {
            let _ = write!(shown, "\\u{{{:x}}}", u32::from(c));
        } else {
            shown.push(c);
        }
    }
    Cow::Owned(shown)
}

fn is_obeyed(c: char) -> bool {
    let turns = matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    (c.is_control() && !matches!(c, '\n' | '\t')) || turns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_obeys_nothing_that_is_printed() {
        assert_eq!(printable("a\tb\n\u{e9}\u{6f22}"), "a\tb\n\u{e9}\u{6f22}");
        assert_eq!(printable("\x1b]0;x\x07\x1b[2Jq"), "\\u{1b}]0;x\\u{7}\\u{1b}[2Jq");
        assert_eq!(printable("a\rb\u{9b}31m\u{202e}c\x7f"), "a\\u{d}b\\u{9b}31m\\u{202e}c\\u{7f}");
    }
}
