//! x86-64 mechanism.
#![cfg_attr(target_os = "none", no_std)]
