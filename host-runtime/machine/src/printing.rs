//! Sentences on stderr from programs that must go on, or end with the right exit code, also when their terminal is gone:
//! the macros of std panic then, which in a `drop` while unwinding aborts.

use std::fmt;
use std::io::{self, Write as _};

/// Writes a line to stderr. Nobody can be told when that fails.
pub fn tell(line: fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// What the system says of an error, for the middle of a sentence: without its number, and in small letters.
#[must_use]
pub fn said(error: &io::Error) -> String {
    let words = error.to_string();
    let Some(words) = error.raw_os_error().and(words.split(" (os error").next()) else {
        return words;
    };
    let mut rest = words.chars();
    let first = rest.next().into_iter().flat_map(char::to_lowercase);
    first.chain(rest.as_str().chars()).collect()
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
    use std::io;

    use super::{MOST_WORDS, printable, said};

    #[test]
    fn errors_are_said_without_their_numbers() {
        let no_entry = io::Error::from_raw_os_error(2);
        assert_eq!(said(&no_entry), "no such file or directory");
        assert_eq!(
            said(&io::Error::other("It's 3 (os error)")),
            "It's 3 (os error)"
        );
    }

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
