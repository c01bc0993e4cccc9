//! Sentences on stderr from programs that must go on, or end with the right exit code, also when their terminal is gone:
//! the macros of std panic then, which in a `drop` while unwinding aborts.

use std::fmt;
use std::io::{self, Write as _};

/// Writes a line to stderr. Nobody can be told when that fails.
pub fn tell(line: fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Characters of others' words that anybody gets to see.
const MOST_WORDS: usize = 1000;

/// A guest's, or a confined process's, words with everything escaped that would move a cursor or begin a line.
#[must_use]
pub fn printable(words: &str) -> String {
    let plain = |character: char| match character.is_control() {
        true => character.escape_default().collect(),
        false => character.to_string(),
    };
    words.chars().take(MOST_WORDS).map(plain).collect()
}

#[cfg(test)]
mod tests {
    use super::{MOST_WORDS, printable};

    #[test]
    fn a_guests_words_stay_on_their_line() {
        assert_eq!(printable("no \"ä\""), "no \"ä\"");
        assert_eq!(
            printable("a\nlevel=info\u{1b}[2J"),
            "a\\nlevel=info\\u{1b}[2J"
        );
        assert_eq!(printable(&"x".repeat(1 << 20)).len(), MOST_WORDS);
    }
}
