//! Device registers: physical ranges outside RAM, mapped uncached into the kernel half.

#[cfg(target_os = "none")]
mod bare;
#[cfg(not(target_os = "none"))]
mod host;

#[cfg(target_os = "none")]
pub(crate) use bare::map;
#[cfg(not(target_os = "none"))]
#[allow(unused_imports, reason = "the double has no devices")]
pub(crate) use host::map;
