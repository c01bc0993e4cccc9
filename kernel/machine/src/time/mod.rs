//! The clock and the one-shot timer of this CPU.

#[cfg(target_os = "none")]
pub(crate) mod bare;
#[cfg(target_os = "none")]
mod cmos;
#[cfg(not(target_os = "none"))]
mod host;

#[cfg(target_os = "none")]
pub use bare::{boot_epoch_ns, now_ns, set_deadline};
#[cfg(not(target_os = "none"))]
pub use host::{boot_epoch_ns, now_ns, set_deadline};
