//! Python dictionary literals, as `ast.literal_eval` reads them: the replies that Video-ChatGPT's scorer asks for.

/// A value of a dictionary.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Literal {
    /// A string.
    Text(String),
    /// A whole number or a decimal one.
    Number(f64),
    /// `True`, `False` or `None`.
    Word(String),
}

/// The entries of `{'key': value, ...}`, whose keys are strings and whose values are strings, numbers or words; `None` for
/// anything else, text before or behind it included.
pub(super) fn dictionary(text: &str) -> Option<Vec<(String, Literal)>> {
    let mut reader = Reader { rest: text.trim() };
    let mut entries = Vec::new();
    reader.take("{")?;
    while reader.take("}").is_none() {
        if !entries.is_empty() {
            reader.take(",")?;
            if reader.take("}").is_some() {
                break;
            }
        }
        let key = reader.string()?;
        reader.take(":")?;
        entries.push((key, reader.value()?));
    }
    reader.rest.trim().is_empty().then_some(entries)
}

struct Reader<'t> {
    rest: &'t str,
}

impl Reader<'_> {
    fn take(&mut self, mark: &str) -> Option<()> {
        self.rest = self.rest.trim_start().strip_prefix(mark)?;
        Some(())
    }

    fn string(&mut self) -> Option<String> {
        let rest = self.rest.trim_start();
        let quote = rest.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
        let (mut text, mut letters) = (String::new(), rest[1..].char_indices());
        while let Some((at, letter)) = letters.next() {
            match letter {
                c if c == quote => {
                    self.rest = &rest[1 + at + 1..];
                    return Some(text);
                }
                '\n' => return None,
                '\\' => match letters.next()?.1 {
                    'n' => text.push('\n'),
                    't' => text.push('\t'),
                    c @ ('\\' | '\'' | '"') => text.push(c),
                    c => text.extend(['\\', c]),
                },
                c => text.push(c),
            }
        }
        None
    }

    fn value(&mut self) -> Option<Literal> {
        if let Some(text) = self.string() {
            return Some(Literal::Text(text));
        }
        let rest = self.rest.trim_start();
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '+' | '_')));
        let (word, rest) = rest.split_at(end.unwrap_or(rest.len()));
        self.rest = rest;
        match word {
            "True" | "False" | "None" => Some(Literal::Word(word.to_owned())),
            // Words that Rust reads as numbers and Python does not begin with a letter: `inf`, `nan`.
            _ if word.contains(|c: char| c.is_ascii_digit()) => word.parse().ok().map(Literal::Number),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_python_reads_as_a_dictionary_is_read() {
        let text = |text: &str| Literal::Text(text.to_owned());
        for (source, first, second) in [
            ("{'pred': 'yes', 'score': 4}", text("yes"), Literal::Number(4.0)),
            (" {\"pred\":\"no\",\n \"score\" : 4.8,}\n", text("no"), Literal::Number(4.8)),
            ("{'pred': 'it\\'s a \"yes\"', 'score': '5'}", text("it's a \"yes\""), text("5")),
            ("{'pred': True, 'score': -1}", Literal::Word("True".to_owned()), Literal::Number(-1.0)),
        ] {
            let expected = vec![("pred".to_owned(), first), ("score".to_owned(), second)];
            assert_eq!(dictionary(source), Some(expected), "{source}");
        }
        assert_eq!(dictionary("{}"), Some(Vec::new()));
    }

    #[test]
    fn what_python_refuses_is_refused() {
        for source in [
            "yes",
            "{'pred': yes, 'score': 4}",
            "{'pred': 'yes' 'score': 4}",
            "{'pred': 'yes', 'score': 4} because",
            "```python\n{'pred': 'yes', 'score': 4}\n```",
            "{'pred': 'yes', 'score': 4",
            "{'pred': 'yes",
            "{'pred': nan}",
            "",
        ] {
            assert_eq!(dictionary(source), None, "{source}");
        }
    }
}
