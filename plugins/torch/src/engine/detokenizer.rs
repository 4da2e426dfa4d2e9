//! Incremental detokenisation of an answer under way.

use crate::error::Result;

/// Tokens behind the last boundary after which one is looked for within a run of bytes that are no character.
const LONG_RUN: usize = 8;

/// Tokens that decide the text of those before them: a character has at most four bytes, and a token at least one.
const DECIDING: usize = 4;

/// Text of an answer under way, at the cost of a few tokens for each new one. A new token is decoded behind those
/// before it, since their text may depend on each other; bytes of an incomplete character are decoded again.
///
/// Decoders may treat the whole answer in another way, so the final text is decoded from all tokens.
#[derive(Default)]
pub(super) struct Detokenizer {
    text: String,
    /// Where decoding starts: the boundary before `decided`.
    start: usize,
    /// Last boundary between tokens up to which further tokens do not change the text.
    decided: Boundary,
    /// Length of the text that was searched for stop strings, in bytes.
    searched: usize,
}

/// Boundary between tokens, and between characters of the text.
#[derive(Clone, Copy, Default)]
struct Boundary {
    /// Number of tokens before it.
    tokens: usize,
    /// Length of their text in bytes.
    bytes: usize,
}

impl Detokenizer {
    /// Extends the text by the tokens behind those of the last call.
    pub(super) fn update(
        &mut self,
        tokens: &[u32],
        decode: impl Fn(&[u32]) -> Result<String>,
    ) -> Result<()> {
        let Boundary { tokens: read, bytes } = self.decided;
        let (before, all) = (decode(&tokens[self.start..read])?, decode(&tokens[self.start..])?);
        let Some(new) = all.strip_prefix(&before) else {
            self.text = decode(tokens)?;
            (self.start, self.decided) =
                (tokens.len(), Boundary { tokens: tokens.len(), bytes: self.text.len() });
            return Ok(());
        };
        self.text.truncate(bytes);
        self.text.push_str(new);
        if !all.ends_with(char::REPLACEMENT_CHARACTER) {
            self.start = read;
            self.decided = Boundary { tokens: tokens.len(), bytes: self.text.len() };
        } else if tokens.len() - read >= LONG_RUN {
            let end = tokens.len() - DECIDING;
            let part = decode(&tokens[self.start..end])?;
            if all.starts_with(&part) && part.len() >= before.len() {
                self.start = read;
                self.decided = Boundary { tokens: end, bytes: bytes + part.len() - before.len() };
            }
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
        self.searched = text.len().min(self.decided.bytes);
        found
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

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
        for said in ["a\n\n USER\n\nUSER b", "熊。走", "the end of", "friend  is", "no stop", "x\n\nUSE"]
        {
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

    /// Bytes that are no characters, with characters among them, decode as the whole does, and do not pile up.
    #[test]
    fn bytes_that_are_no_characters_decode_as_the_whole_does() {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        for share in [0.0, 0.1, 0.5, 0.95] {
            let mut tokens = Vec::new();
            while tokens.len() < 600 {
                match rng.random::<f64>() < share {
                    true => tokens.extend("熊é a🐻".bytes().map(u32::from)),
                    false => tokens.push(rng.random_range(0x80..0x100)),
                }
            }
            let (cost, mut answer) = (Cell::new(0), Detokenizer::default());
            for end in 1..=tokens.len() {
                let counted = |part: &[u32]| {
                    cost.set(cost.get() + part.len());
                    decode(part)
                };
                answer.update(&tokens[..end], counted).unwrap();
                assert_eq!(answer.text(), decode(&tokens[..end]).unwrap().trim(), "{share} {end}");
            }
            assert!(cost.get() < 60 * tokens.len(), "{share}: {} for {}", cost.get(), tokens.len());
        }
    }
}
