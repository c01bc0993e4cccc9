//! What uname(2) says of the system; UTS namespaces, which separate host and domain names.

use alloc::sync::Arc;

use abi::Result;
use collections::try_arc;
use fs::UserNamespace;
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

/// A host or domain name.
#[derive(Debug, Clone, Copy)]
pub struct Name {
    bytes: [u8; NAME_MAX],
    len: usize,
}

impl Name {
    /// Bytes past the longest are dropped.
    #[must_use]
    pub const fn new(from: &[u8]) -> Self {
        let mut bytes = [0; NAME_MAX];
        let mut len = 0;
        while len < from.len() && len < NAME_MAX {
            bytes[len] = from[len];
            len += 1;
        }
        Self { bytes, len }
    }

    /// Its bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

#[derive(Debug, Clone, Copy)]
struct Names {
    host: Name,
    domain: Name,
}

/// A UTS namespace.
#[derive(Debug)]
pub struct UtsNamespace {
    /// `None` for the initial one.
    ino: Option<u32>,
    /// Whose capabilities count in it.
    owner: UserNamespace,
    names: SpinLock<Names>,
}

static INITIAL: SpinLock<Option<Arc<UtsNamespace>>> = SpinLock::new(None);

/// The initial namespace.
pub fn initial() -> Arc<UtsNamespace> {
    let make = || {
        // infallible: made by the first process, at start-up.
        Arc::new(UtsNamespace {
            ino: None,
            owner: UserNamespace::INITIAL,
            names: SpinLock::new(Names {
                host: Name::new(b"nacre"),
                domain: Name::new(b"(none)"),
            }),
        })
    };
    INITIAL.lock().get_or_insert_with(make).clone()
}

impl UtsNamespace {
    /// A new one with the same names, owned by `owner`.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn duplicate(&self, owner: &UserNamespace) -> Result<Arc<Self>> {
        let new = try_arc(Self {
            ino: Some(fs::next_namespace_id()),
            owner: owner.clone(),
            names: SpinLock::new(*self.names.lock()),
        })?;
        Ok(new)
    }

    /// Its number; `None` for the initial one.
    #[must_use]
    pub fn ino(&self) -> Option<u32> {
        self.ino
    }

    /// The user namespace whose capabilities count in it.
    #[must_use]
    pub fn owner(&self) -> &UserNamespace {
        &self.owner
    }

    /// The host name.
    #[must_use]
    pub fn hostname(&self) -> Name {
        self.names.lock().host
    }

    /// Sets the host name.
    pub fn set_hostname(&self, name: Name) {
        self.names.lock().host = name;
    }

    /// The NIS domain name.
    #[must_use]
    pub fn domainname(&self) -> Name {
        self.names.lock().domain
    }

    /// Sets the NIS domain name.
    pub fn set_domainname(&self, name: Name) {
        self.names.lock().domain = name;
    }
}
