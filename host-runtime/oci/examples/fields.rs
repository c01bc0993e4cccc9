//! Prints `docs/oci.md`, for `cargo xtask docs`.

use std::io::{self, Write as _};

fn main() -> io::Result<()> {
    io::stdout().write_all(nacre_oci::fields::page().trim_end().as_bytes())
}
