//! Patterns of `~=`: those of SQL, without letter case.

use super::value::folded;

/// `%` for any text, `_` for any letter, `\` before one of them for itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pattern(Vec<Piece>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Piece {
    Any,
    One,
    Letter(char),
}

impl Pattern {
    pub(crate) fn new(text: &str) -> Self {
        let mut pieces = Vec::new();
        let mut letters = text.chars();
        while let Some(letter) = letters.next() {
            match letter {
                '%' if pieces.last() == Some(&Piece::Any) => {}
                '%' => pieces.push(Piece::Any),
                '_' => pieces.push(Piece::One),
                '\\' => pieces.extend(letters.next().unwrap_or('\\').to_lowercase().map(Piece::Letter)),
                _ => pieces.extend(letter.to_lowercase().map(Piece::Letter)),
            }
        }
        Self(pieces)
    }

    /// Whether all of `text` fits. Takes at most length of text times length of pattern, whatever they are.
    pub(crate) fn fits(&self, text: &str) -> bool {
        let letters: Vec<char> = folded(text).collect();
        let (mut at, mut piece) = (0, 0);
        // Where to go on when a later piece does not fit: behind the last `%`, one letter further.
        let mut retry: Option<(usize, usize)> = None;
        while at < letters.len() {
            match self.0.get(piece) {
                Some(Piece::Any) => {
                    retry = Some((piece + 1, at));
                    piece += 1;
                    continue;
                }
                Some(Piece::One) => {
                    at += 1;
                    piece += 1;
                    continue;
                }
                Some(Piece::Letter(letter)) if letters.get(at) == Some(letter) => {
                    at += 1;
                    piece += 1;
                    continue;
                }
                Some(Piece::Letter(_)) | None => {}
            }
            let Some((behind, from)) = retry else { return false };
            retry = Some((behind, from + 1));
            (piece, at) = (behind, from + 1);
        }
        let rest = self.0.get(piece..).unwrap_or_default();
        rest.iter().all(|piece| *piece == Piece::Any)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fits(pattern: &str, text: &str) -> bool {
        Pattern::new(pattern).fits(text)
    }

    #[test]
    fn patterns_are_those_of_sql() {
        for (pattern, text) in [
            ("%", ""),
            ("web%", "web-1"),
            ("WEB%", "web-1"),
            ("%db%", "my db here"),
            ("vm-_", "vm-7"),
            ("%a%b%", "xxaxxbxx"),
            ("100\\%", "100%"),
            ("a\\_b", "a_b"),
            ("äpfel%", "ÄPFEL 1"),
        ] {
            assert!(fits(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [
            ("", "a"),
            ("web", "web-1"),
            ("vm-_", "vm-"),
            ("vm-_", "vm-77"),
            ("100\\%", "100 and more"),
            ("%a%b", "ba"),
        ] {
            assert!(!fits(pattern, text), "{pattern} {text}");
        }
    }

    #[test]
    fn a_hostile_pattern_takes_no_longer_than_its_size() {
        let pattern = format!("{}b", "%a".repeat(500));
        assert!(!fits(&pattern, &"a".repeat(5000)));
    }

    /// `LIKE` said in the plainest way.
    fn plainly(pattern: &[char], text: &[char]) -> bool {
        match (pattern, text) {
            ([], []) => true,
            (['%', rest @ ..], _) => (0..=text.len()).any(|skip| plainly(rest, &text[skip..])),
            (['_', rest @ ..], [_, tail @ ..]) => plainly(rest, tail),
            ([letter, rest @ ..], [first, tail @ ..]) => letter == first && plainly(rest, tail),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn a_pattern_fits_what_its_definition_says(pattern in "[ab%_]{0,8}", text in "[ab]{0,10}") {
            let (letters, of_text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
            prop_assert_eq!(fits(&pattern, &text), plainly(&letters, &of_text));
        }
    }
}
