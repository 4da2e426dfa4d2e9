//! Incremental detokenisation of an answer under way.

use crate::error::Result;

/// Tokens without a complete character after which their text is taken as it is.
const INCOMPLETE: usize = 8;

/// Text of an answer under way, at the cost of a few tokens for each new one. A new token is decoded behind those
/// before it, since their text may depend on each other; bytes of an incomplete character are decoded again.
///
/// Decoders may treat the whole answer in another way, so the final text is decoded from all tokens.
#[derive(Default)]
pub(super) struct Detokenizer {
    text: String,
    /// Length of the text that further tokens do not change, in bytes.
    committed: usize,
    /// First token that is decoded with the next one.
    start: usize,
    /// Number of tokens whose text is committed.
    read: usize,
    /// Length of the text that was searched for stop strings, in bytes.
    searched: usize,
}

impl Detokenizer {
    /// Extends the text by the tokens behind those of the last call.
    pub(super) fn update(
        &mut self,
        tokens: &[u32],
        decode: impl Fn(&[u32]) -> Result<String>,
    ) -> Result<()> {
        let (before, all) = (decode(&tokens[self.start..self.read])?, decode(&tokens[self.start..])?);
        self.text.truncate(self.committed);
        match all.strip_prefix(&before) {
            Some(new) => self.text.push_str(new),
            None => self.text = decode(tokens)?,
        }
        if !all.ends_with(char::REPLACEMENT_CHARACTER) || tokens.len() - self.read >= INCOMPLETE {
            self.committed = self.text.len();
            (self.start, self.read) = (self.read, tokens.len());
        }
        Ok(())
    }

    /// Returns the text so far without surrounding white space.
    pub(super) fn text(&self) -> &str {
        self.text.trim()
    }

    /// Returns whether a stop string ends in the text that was added since the last call. White space at the end
    /// belongs to the next call.
    pub(super) fn reached(&mut self, stops: &[String]) -> bool {
        let text = self.text.trim_end();
        let found = stops.iter().any(|stop| {
            let mut from = self.searched.min(text.len()).saturating_sub(stop.len());
            while !text.is_char_boundary(from) {
                from -= 1;
            }
            text[from..].contains(stop.as_str())
        });
        self.searched = text.len().min(self.committed);
        found
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// Each token is a byte, as in byte-level vocabularies.
    fn decode(tokens: &[u32]) -> Result<String> {
        let bytes: Vec<u8> = tokens.iter().map(|&token| token as u8).collect();
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn tokens(text: &str) -> Vec<u32> {
        text.bytes().map(u32::from).collect()
    }

    #[test]
    fn the_text_is_that_of_all_tokens_at_the_cost_of_few() {
        let said = "  Ein Bär läuft; 熊在跑。 🐻! ".repeat(40);
        let (tokens, cost) = (tokens(&said), Cell::new(0));
        let mut answer = Detokenizer::default();
        for end in 1..=tokens.len() {
            let counted = |part: &[u32]| {
                cost.set(cost.get() + part.len());
                decode(part)
            };
            answer.update(&tokens[..end], counted).unwrap();
            assert_eq!(answer.text(), decode(&tokens[..end]).unwrap().trim(), "{end}");
        }
        assert!(cost.get() < 12 * tokens.len(), "{} for {} tokens", cost.get(), tokens.len());
    }

    #[test]
    fn a_stop_string_is_found_where_a_search_of_the_whole_text_finds_it() {
        let stops = ["\n\nUSER".to_owned(), "。".to_owned(), "end ".to_owned()];
        for said in ["a\n\n USER\n\nUSER b", "熊。走", "the end of", "friend  is", "no stop", "x\n\nUSE"] {
            let tokens = tokens(said);
            let whole = |end: usize| {
                let text = decode(&tokens[..end]).unwrap();
                stops.iter().any(|stop| text.trim().contains(stop.as_str()))
            };
            let expected = (1..=tokens.len()).find(|&end| whole(end));
            let mut answer = Detokenizer::default();
            let found = (1..=tokens.len()).find(|&end| {
                answer.update(&tokens[..end], decode).unwrap();
                answer.reached(&stops)
            });
            assert_eq!(found, expected, "{said}");
        }
    }

    #[test]
    fn bytes_that_are_no_character_do_not_pile_up() {
        let (tokens, cost) = (vec![0xff_u32; 400], Cell::new(0));
        let mut answer = Detokenizer::default();
        for end in 1..=tokens.len() {
            let counted = |part: &[u32]| {
                cost.set(cost.get() + part.len());
                decode(part)
            };
            answer.update(&tokens[..end], counted).unwrap();
        }
        assert_eq!(answer.text(), decode(&tokens).unwrap());
        assert!(cost.get() < 30 * tokens.len(), "{}", cost.get());
    }
}
