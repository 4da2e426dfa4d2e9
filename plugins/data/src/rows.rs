//! Values of a text file: one per line (JSONL), or the elements of a JSON array, read one by one.

use std::io::{self, BufRead, BufReader, Read};

use serde::Deserialize;
use serde_json::Value;

/// Maximum size of a line in bytes: 64 MiB.
const LONGEST: u64 = 64 << 20;

/// Error of reading a row.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RowError {
    /// I/O error.
    #[error(transparent)]
    Read(#[from] io::Error),
    /// The row is no valid JSON; holds the reason.
    #[error("{0}")]
    Invalid(String),
}

/// Iterator over the JSON values of a file, each with its line from 1.
///
/// A file whose first character is `[` is a JSON array, of which each element is a row and must be an object; any
/// other has one value per line. A byte-order mark, blank lines, carriage returns and a missing last newline are accepted. Reads one
/// row at a time. After an error in an array there are no further rows.
pub struct Rows<R: Read> {
    source: Source<BufReader<R>>,
}

enum Source<R> {
    Lines { reader: R, line: usize },
    Array(Elements<R>),
}

impl<R: Read> Rows<R> {
    /// Looks at the first bytes of a file.
    ///
    /// # Errors
    /// [`RowError::Read`]; [`RowError::Invalid`] for UTF-16.
    pub fn open(file: R) -> Result<Self, RowError> {
        let mut reader = BufReader::new(file);
        let start = reader.fill_buf()?;
        match start {
            [0xff, 0xfe, ..] | [0xfe, 0xff, ..] | [_, 0, ..] | [0, _, ..] => {
                let reason = "it is UTF-16 text; convert it (`iconv -f UTF-16 -t UTF-8`)";
                return Err(RowError::Invalid(reason.to_owned()));
            }
            [0xef, 0xbb, 0xbf, ..] => reader.consume(3),
            _ => {}
        }
        let mut line = 1;
        while let Some(byte) = peek(&mut reader)?.filter(u8::is_ascii_whitespace) {
            line += usize::from(byte == b'\n');
            reader.consume(1);
        }
        let source = match peek(&mut reader)? {
            Some(b'[') => {
                reader.consume(1);
                Source::Array(Elements { reader, line, started: false, ended: false })
            }
            _ => Source::Lines { reader, line: line - 1 },
        };
        Ok(Self { source })
    }
}

impl<R: Read> Rows<R> {
    /// Returns whether the file is a JSON array, of which an error loses what follows.
    pub(crate) fn is_array(&self) -> bool {
        matches!(self.source, Source::Array(_))
    }
}

impl<R: Read> Iterator for Rows<R> {
    type Item = (usize, Result<Value, RowError>);

    fn next(&mut self) -> Option<Self::Item> {
        match &mut self.source {
            Source::Lines { reader, line } => next_line(reader, line),
            Source::Array(elements) => elements.next(),
        }
    }
}

fn peek(reader: &mut impl BufRead) -> io::Result<Option<u8>> {
    Ok(reader.fill_buf()?.first().copied())
}

fn next_line(reader: &mut impl BufRead, line: &mut usize) -> Option<(usize, Result<Value, RowError>)> {
    loop {
        let mut bytes = Vec::new();
        *line += 1;
        match reader.by_ref().take(LONGEST).read_until(b'\n', &mut bytes) {
            Err(error) => return Some((*line, Err(error.into()))),
            Ok(0) => return None,
            Ok(_) if bytes.trim_ascii().is_empty() => {}
            Ok(_) => return Some((*line, parse_line(&bytes))),
        }
    }
}

fn parse_line(bytes: &[u8]) -> Result<Value, RowError> {
    let text =
        std::str::from_utf8(bytes).map_err(|_| RowError::Invalid("it is not UTF-8 text".to_owned()))?;
    serde_json::from_str(text.trim()).map_err(|error| RowError::Invalid(format!("no valid JSON: {error}")))
}

/// Elements of a JSON array.
struct Elements<R> {
    reader: R,
    line: usize,
    started: bool,
    ended: bool,
}

impl<R: BufRead> Elements<R> {
    fn next(&mut self) -> Option<(usize, Result<Value, RowError>)> {
        if self.ended {
            return None;
        }
        let row = self.element().transpose()?;
        self.ended |= row.is_err();
        Some(match row {
            Ok((line, value)) => (line, Ok(value)),
            Err(error) => (self.line, Err(error)),
        })
    }

    /// The next element with its line, or `None` behind the last.
    fn element(&mut self) -> Result<Option<(usize, Value)>, RowError> {
        let mut next = self.skip_space()?;
        match next {
            Some(b']') => {
                self.ended = true;
                return Ok(None);
            }
            Some(b',') if self.started => {
                self.reader.consume(1);
                next = self.skip_space()?;
            }
            _ if self.started => return Err(self.unexpected(next)),
            _ => {}
        }
        // Behind an object the parser needs no further byte, as it does behind a number.
        if next != Some(b'{') {
            return Err(self.unexpected(next));
        }
        self.started = true;
        let line = self.line;
        let mut counted = Counted { reader: &mut self.reader, lines: 0 };
        let mut parser = serde_json::Deserializer::from_reader(&mut counted);
        let value = Value::deserialize(&mut parser);
        self.line += counted.lines;
        let value = value.map_err(|error| match error.is_io() {
            true => RowError::Read(error.into()),
            false => RowError::Invalid(format!("no valid JSON in this element: {error}")),
        })?;
        Ok(Some((line, value)))
    }

    fn unexpected(&self, byte: Option<u8>) -> RowError {
        RowError::Invalid(match byte {
            None => "the JSON array has no end".to_owned(),
            Some(byte) => {
                format!("expected a JSON object in the array, or its end, not `{}`", char::from(byte))
            }
        })
    }

    fn skip_space(&mut self) -> io::Result<Option<u8>> {
        loop {
            match peek(&mut self.reader)? {
                Some(byte) if byte.is_ascii_whitespace() => {
                    self.line += usize::from(byte == b'\n');
                    self.reader.consume(1);
                }
                other => return Ok(other),
            }
        }
    }
}

/// Reader that counts lines. Reads one byte at a time, as a parser must not take bytes behind its value.
struct Counted<'a, R> {
    reader: &'a mut R,
    lines: usize,
}

impl<R: BufRead> Read for &mut Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let (Some(byte), Some(place)) = (peek(self.reader)?, buffer.first_mut()) else { return Ok(0) };
        *place = byte;
        self.reader.consume(1);
        self.lines += usize::from(byte == b'\n');
        Ok(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &[u8]) -> Vec<(usize, Result<Value, String>)> {
        let rows = Rows::open(text).unwrap();
        rows.map(|(line, value)| (line, value.map_err(|error| error.to_string()))).collect()
    }

    fn values(text: &[u8]) -> Vec<(usize, String)> {
        read(text).into_iter().map(|(line, value)| (line, value.unwrap().to_string())).collect()
    }

    fn rows(expected: &[(usize, &str)]) -> Vec<(usize, String)> {
        expected.iter().map(|(line, text)| (*line, (*text).to_owned())).collect()
    }

    #[test]
    fn lines_may_be_of_any_system() {
        let expected = rows(&[(1, r#"{"a":1}"#), (3, "2")]);
        assert_eq!(values(b"{\"a\":1}\n\n2\n"), expected);
        assert_eq!(values(b"\xef\xbb\xbf{\"a\":1}\r\n \r\n2"), expected);
        assert_eq!(values(b""), []);
        assert_eq!(values(b"\n\n\n7"), rows(&[(4, "7")]));
    }

    #[test]
    fn arrays_are_read_in_any_shape() {
        assert_eq!(
            values(b"[{\"a\":1},{\"a\":[2,\"]\"]}]"),
            rows(&[(1, r#"{"a":1}"#), (1, r#"{"a":[2,"]"]}"#)])
        );
        let pretty = b"\xef\xbb\xbf\n[\n  {\n    \"a\": 1\n  },\r\n  {\"b\": 2}\n]\n";
        assert_eq!(values(pretty), rows(&[(3, r#"{"a":1}"#), (6, r#"{"b":2}"#)]));
        assert_eq!(values(b"[]"), []);
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        let last = |text: &[u8]| read(text).pop().map(|(line, value)| (line, value.unwrap_err())).unwrap();
        assert_eq!(last(b"[\n{}\n"), (3, "the JSON array has no end".to_owned()));
        assert!(last(b"[{\"a\":1} {\"a\":2}]").1.contains("not `{`"));
        assert!(last(b"[{},]").1.contains("not `]`"));
        assert!(last(b"[1, 2]").1.contains("expected a JSON object in the array, or its end, not `1`"));
        let (line, reason) = last(b"[{},\n{\"a\": nonsense}]");
        assert!(line == 2 && reason.starts_with("no valid JSON in this element: "), "{reason}");
        assert!(last(b"1\n\xff").1.contains("not UTF-8"));
    }

    #[test]
    fn utf_16_is_named() {
        for text in [&b"\xff\xfe{\0"[..], b"\xfe\xff\0{", b"{\0\"\0", b"\0{\0\""] {
            let error = Rows::open(text).err().unwrap().to_string();
            assert!(error.contains("UTF-16"), "{error}");
        }
    }
}
