//! host-runtime.
fn main() {}
