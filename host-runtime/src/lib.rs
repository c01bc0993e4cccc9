//! The host side of Nacre: what starts microVMs and what runs inside the VMM process.
//!
//! [`sandbox`] is the door for the command line and the containerd shim: it starts one `nacre-vmm`
//! process per microVM and speaks [`control`] with it over an inherited socket.

pub mod control;
pub mod sandbox;
