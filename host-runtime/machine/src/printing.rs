//! Sentences on stderr from programs that must go on, or end with the right exit code, also when their terminal is gone:
//! the macros of std panic then, which in a `drop` while unwinding aborts.

use std::fmt;
use std::io::{self, Write as _};

/// Writes a line to stderr. Nobody can be told when that fails.
pub fn tell(line: fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr(), "{line}");
}
