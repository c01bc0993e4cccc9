//! The bare-metal binary: the order of start-up, wiring, panic; nothing else.
//!
//! On the host it is an empty program, so that the workspace builds there.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![forbid(unsafe_code)]

extern crate alloc;

#[cfg(any(target_os = "none", test))]
mod command_line;
#[cfg(target_os = "none")]
mod devices;
#[cfg(target_os = "none")]
mod start;

#[cfg(not(target_os = "none"))]
fn main() {
    println!("nacre-kernel is built for x86_64-unknown-none: cargo xtask build-image");
}
