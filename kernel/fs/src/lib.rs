//! Layer `fs`: see ARCHITECTURE.md.
#![cfg_attr(target_os = "none", no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod job_control;
