//! Order of the images of a folder by their names.

use std::cmp::Ordering;
use std::path::{Path, PathBuf};

/// A name without its extension, in pieces: text, number, text, ... Numbers are digits without leading zeros.
struct Name {
    texts: Vec<String>,
    numbers: Vec<String>,
}

impl Name {
    fn new(path: &Path) -> Self {
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        let (mut texts, mut numbers) = (vec![String::new()], Vec::<String>::new());
        for character in stem.chars() {
            match (character.is_ascii_digit(), texts.len() > numbers.len()) {
                (true, true) => numbers.push(character.into()),
                (true, false) => numbers.last_mut().into_iter().for_each(|it| it.push(character)),
                (false, true) => texts.last_mut().into_iter().for_each(|it| it.push(character)),
                (false, false) => texts.push(character.into()),
            }
        }
        let numbers = numbers.iter().map(|digits| digits.trim_start_matches('0').to_owned()).collect();
        Self { texts, numbers }
    }

    /// Order by number where the texts are the same, and by text where they are not.
    fn compare(&self, other: &Self) -> Ordering {
        let number = |digits: &String| (digits.len(), digits.clone());
        let ours = self.texts.iter().zip(self.numbers.iter().map(number).map(Some).chain([None]));
        let theirs = other.texts.iter().zip(other.numbers.iter().map(number).map(Some).chain([None]));
        ours.cmp(theirs)
    }

    /// Whether both have the same texts, so that only numbers tell them apart, and none with a decimal point:
    /// `0.5` is more than `0.25`, but the chapter 1.5 is before 1.25.
    fn differs_in_numbers_only(&self, other: &Self) -> bool {
        let whole = |text: &String| !matches!(text.as_str(), "." | ",");
        self.texts == other.texts && self.texts.iter().skip(1).all(whole)
    }
}

/// Sorts images by time. Names are sorted by code point, like Python sorts them, where their numbers have the same
/// width; where they have not (`1.jpg`, `2.jpg`, `10.jpg`), by number. Where these orders differ and more than
/// numbers tells two names apart, the error names the two.
pub(crate) fn sort_by_time(files: &mut Vec<PathBuf>) -> Result<(), (PathBuf, PathBuf)> {
    files.sort_by(|a, b| a.file_name().cmp(&b.file_name()));
    let mut named: Vec<(Name, PathBuf)> =
        files.iter().map(|path| (Name::new(path), path.clone())).collect();
    // Stable, so equal numbers stay in the order of code points.
    named.sort_by(|(a, _), (b, _)| a.compare(b));
    if named.iter().zip(files.iter()).all(|((_, path), file)| path == file) {
        return Ok(());
    }
    let mut pairs = named.windows(2);
    if let Some([(_, first), (_, second)]) =
        pairs.find(|pair| !pair[0].0.differs_in_numbers_only(&pair[1].0))
    {
        return Err((first.clone(), second.clone()));
    }
    *files = named.into_iter().map(|(_, path)| path).collect();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(names: &[&str]) -> Result<Vec<String>, (PathBuf, PathBuf)> {
        let mut files = names.iter().rev().map(PathBuf::from).collect();
        sort_by_time(&mut files)?;
        Ok(files.iter().map(|path| path.display().to_string()).collect())
    }

    #[test]
    fn names_are_in_the_order_of_time() {
        for names in [
            &["1.jpg", "2.jpg", "10.jpg", "100.JPG"][..],
            &["frame_099.png", "frame_999.png", "frame_1000.png"],
            &["shot1_frame2.png", "shot1_frame10.png", "shot2_frame1.png", "shot10_frame1.png"],
            &["f8.jpg", "f18446744073709551616.jpg", "f100000000000000000000.jpg"],
            &["000.jpg", "001.jpg", "002.jpg"],
            &["10.png", "B.png", "a.png"],
            &["0.25.jpg", "0.75.jpg"],
            &["a.jpg", "ab.jpg", "b.jpg"],
        ] {
            assert_eq!(sorted(names).unwrap(), names);
        }
    }

    #[test]
    fn names_that_leave_the_order_open_are_refused() {
        assert!(sorted(&["1.jpg", "2.jpg", "10.jpg", "cover.jpg"]).is_err());
        assert!(sorted(&["0.25.jpg", "0.5.jpg", "0.75.jpg"]).is_err(), "decimals or chapters");
        assert!(sorted(&["a9.jpg", "a10.jpg", "b1.jpg"]).is_err());
    }
}
