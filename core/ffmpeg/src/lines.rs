//! Splitting of an untrusted byte stream into lines of bounded length.

/// Maximum length of a line in bytes; the rest is dropped.
const LONGEST: usize = 4096;

/// Incremental line splitter. Lines are decoded as UTF-8 with replacement, without their terminator.
#[derive(Default)]
pub(crate) struct Lines {
    line: Vec<u8>,
}

impl Lines {
    /// Appends bytes, and calls back for each completed line. Skips empty lines.
    pub(crate) fn push(&mut self, bytes: &[u8], on_line: &mut dyn FnMut(&str)) {
        let mut pieces = bytes.split(|byte| matches!(byte, b'\n' | b'\r'));
        if let Some(first) = pieces.next() {
            self.extend(first);
        }
        for piece in pieces {
            self.finish(on_line);
            self.extend(piece);
        }
    }

    /// Calls back for the last, unterminated line.
    pub(crate) fn finish(&mut self, on_line: &mut dyn FnMut(&str)) {
        if !self.line.is_empty() {
            on_line(&String::from_utf8_lossy(&self.line));
            self.line.clear();
        }
    }

    fn extend(&mut self, bytes: &[u8]) {
        let room = LONGEST.saturating_sub(self.line.len());
        self.line.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(chunks: &[&[u8]]) -> Vec<String> {
        let (mut lines, mut found) = (Lines::default(), Vec::new());
        for chunk in chunks {
            lines.push(chunk, &mut |line| found.push(line.to_owned()));
        }
        lines.finish(&mut |line| found.push(line.to_owned()));
        found
    }

    #[test]
    fn lines_do_not_depend_on_how_the_bytes_arrive() {
        assert_eq!(split(&[b"one\ntwo\r\nthree"]), ["one", "two", "three"]);
        assert_eq!(split(&[b"on", b"e", b"\n", b"\ntw", b"o\rthree\n"]), ["one", "two", "three"]);
    }

    #[test]
    fn a_line_is_cut_to_its_limit_and_may_hold_any_byte() {
        let long = vec![b'x'; 3 * LONGEST];
        assert_eq!(split(&[&long, b"\nnext"])[0].len(), LONGEST);
        assert_eq!(split(&[b"\xff!"]), ["\u{fffd}!"]);
    }
}
