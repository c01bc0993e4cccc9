//! Entropy the CPU has. The random number generator proper is in `fs::random` above.

#[cfg(target_os = "none")]
mod bare;
#[cfg(not(target_os = "none"))]
mod host;

#[cfg(target_os = "none")]
pub use bare::cpu_entropy;
#[cfg(not(target_os = "none"))]
pub use host::cpu_entropy;
