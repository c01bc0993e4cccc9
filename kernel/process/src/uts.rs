//! What uname(2) says of the system.

use alloc::vec::Vec;

use machine::sync::SpinLock;

/// `sysname`.
pub const SYSNAME: &str = "Linux";
/// `release`: the Linux that the ABI is modelled on.
pub const RELEASE: &str = "6.1.0-nacre";
/// `version`.
pub const VERSION: &str = concat!("#1 SMP Nacre ", env!("CARGO_PKG_VERSION"));
/// `machine`.
pub const MACHINE: &str = "x86_64";
/// The longest host or domain name.
pub const NAME_MAX: usize = 64;

struct Name {
    bytes: [u8; NAME_MAX],
    len: usize,
}

impl Name {
    const fn new(from: &[u8]) -> Self {
        let mut bytes = [0; NAME_MAX];
        let mut len = 0;
        while len < from.len() && len < NAME_MAX {
            bytes[len] = from[len];
            len += 1;
        }
        Self { bytes, len }
    }
}

static HOSTNAME: SpinLock<Name> = SpinLock::new(Name::new(b"nacre"));
static DOMAINNAME: SpinLock<Name> = SpinLock::new(Name::new(b"(none)"));

fn get(name: &SpinLock<Name>) -> Vec<u8> {
    let name = name.lock();
    name.bytes[..name.len].to_vec()
}

/// The host name.
#[must_use]
pub fn hostname() -> Vec<u8> {
    get(&HOSTNAME)
}

/// Sets the host name; bytes past the longest are dropped.
pub fn set_hostname(name: &[u8]) {
    *HOSTNAME.lock() = Name::new(name);
}

/// The NIS domain name.
#[must_use]
pub fn domainname() -> Vec<u8> {
    get(&DOMAINNAME)
}

/// Sets the NIS domain name; bytes past the longest are dropped.
pub fn set_domainname(name: &[u8]) {
    *DOMAINNAME.lock() = Name::new(name);
}
