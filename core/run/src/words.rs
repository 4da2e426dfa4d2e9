//! Words of a text, for lengths of answers: also in languages that write no spaces.

use unicode_segmentation::UnicodeSegmentation;

/// First and last letters of the scripts that put no space between words: Thai and Lao, Tibetan, Myanmar, Khmer, kana
/// and ideographs with their extensions, half-width katakana.
const UNSPACED: [(char, char); 11] = [
    ('\u{0e00}', '\u{0eff}'),
    ('\u{0f00}', '\u{0fff}'),
    ('\u{1000}', '\u{109f}'),
    ('\u{1780}', '\u{17ff}'),
    ('\u{3005}', '\u{3007}'),
    ('\u{3040}', '\u{30ff}'),
    ('\u{31f0}', '\u{31ff}'),
    ('\u{3400}', '\u{9fff}'),
    ('\u{f900}', '\u{faff}'),
    ('\u{ff66}', '\u{ff9f}'),
    ('\u{20000}', '\u{3ffff}'),
];

/// Returns whether a character is of a script that puts no space between words.
pub fn is_unspaced(c: char) -> bool {
    UNSPACED.iter().any(|&(first, last)| (first..=last).contains(&c)) && c.is_alphanumeric()
}

/// Splits a text into words.
///
/// A piece between white space is one word, with its punctuation. A piece with letters of a script that writes no
/// spaces falls into the words of Unicode's text segmentation (UAX #29), without punctuation: each ideograph and each
/// hiragana, runs of katakana, each Thai letter with its marks. So counts compare texts of one language, not of two.
pub fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split_whitespace().flat_map(|piece| {
        let unspaced = piece.contains(is_unspaced);
        let whole = (!unspaced).then_some(piece);
        whole.into_iter().chain(unspaced.then(|| piece.unicode_words()).into_iter().flatten())
    })
}

/// Returns the number of [`words`] of `first` minus that of `second`.
pub fn excess_words(first: &str, second: &str) -> f64 {
    words(first).count() as f64 - words(second).count() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_what_white_space_divides_where_there_is_any() {
        for (text, count) in [
            ("  a dog\n runs. ", 3),
            ("It's a well-known red-and-blue ball - isn't it?", 8),
            ("3.5 m, 1,000 %", 4),
            ("개가 달린다.", 2),
            ("Собака бежит быстро.", 3),
            ("", 0),
            (" \u{3000} ", 0),
        ] {
            assert_eq!(words(text).count(), count, "{text}");
        }
        assert_eq!(excess_words("", "one two"), -2.0);
    }

    #[test]
    fn scripts_without_spaces_are_segmented() {
        let split = |text| words(text).collect::<Vec<_>>();
        assert_eq!(split("一只狗，在跑。"), ["一", "只", "狗", "在", "跑"]);
        assert_eq!(split("他有3个iPhone 手机"), ["他", "有", "3", "个", "iPhone", "手", "机"]);
        assert_eq!(split("ボールが動く。"), ["ボール", "が", "動", "く"]);
        assert_eq!(split("หมาวิ่ง").len(), 5, "a mark belongs to its letter");
        assert!(words("ខ្មែរ").count() > 1 && words("မြန်မာ").count() > 1 && words("ພາສາລາວ").count() > 1);
        assert_eq!(excess_words("红球向左移动", "红球动"), 3.0);
    }
}
