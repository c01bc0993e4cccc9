//! The bare-metal binary.
fn main() {}
