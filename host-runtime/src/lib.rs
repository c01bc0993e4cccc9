//! The host side of Nacre: what starts microVMs and what runs inside the VMM process.
//!
//! [`sandbox`] is the door for the command line and the containerd shim: it starts one `nacre-vmm`
//! process per microVM and speaks [`control`] with it over an inherited socket.
//! [`agent`] is the other half: it speaks with PID 1 of the guest through whatever leads there.
//! [`cli`] is the `nacre` command line, [`shim`] is containerd's way in; [`images`] finds what the guest boots from.

pub mod agent;
pub mod cli;
pub mod control;
pub mod images;
mod printing;
mod pump;
pub mod sandbox;

pub mod shim;
#[expect(unsafe_code, reason = "the one place for it; see the module")]
pub mod sys;
pub mod vmm;
