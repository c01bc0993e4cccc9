//! Which socket has which name: paths by inode, abstract names as they are.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;

use abi::{Errno, Result};
use fs::permission::{self, Access};
use fs::{FileKind, InodeKey, LookupFlags, Path};
use machine::sync::SpinLock;

use super::socket::UnixSocket;
use crate::address::UnixName;
use crate::socket::{Requester, SocketType};

/// How a name is found.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Inode {
        device: u64,
        ino: u64,
    },
    /// Sockets of one type have these names to themselves.
    Abstract(SocketType, Vec<u8>),
}

impl From<InodeKey> for Key {
    fn from(key: InodeKey) -> Self {
        Key::Inode {
            device: key.device,
            ino: key.ino,
        }
    }
}

static NAMES: SpinLock<BTreeMap<Key, Weak<UnixSocket>>> = SpinLock::new(BTreeMap::new());

/// A name that a socket holds; dropping it gives the name up (a path's file stays).
#[derive(Debug)]
pub(super) struct Bound {
    key: Key,
    /// Keeps the inode, so that its number means nothing else.
    _path: Option<Path>,
}

impl Drop for Bound {
    fn drop(&mut self) {
        let gone = NAMES.lock().remove(&self.key);
        drop(gone);
    }
}

/// Gives `socket` a name; an empty one gets a free abstract name.
pub(super) fn bind(
    socket: &Weak<UnixSocket>,
    kind: SocketType,
    name: &UnixName,
    requester: &Requester<'_>,
) -> Result<(UnixName, Bound)> {
    match name {
        UnixName::Path(path) => {
            let caller = &requester.caller;
            let mode = 0o777 & !caller.fs.umask();
            let made =
                caller
                    .make_socket(requester.base, path, mode)
                    .map_err(|errno| match errno {
                        Errno::EEXIST => Errno::EADDRINUSE,
                        other => other,
                    })?;
            let key = Key::from(made.key()?);
            let old = NAMES.lock().insert(key.clone(), socket.clone());
            drop(old);
            Ok((
                name.clone(),
                Bound {
                    key,
                    _path: Some(made),
                },
            ))
        }
        UnixName::Abstract(bytes) => {
            let bound = take_abstract(socket, kind, bytes).ok_or(Errno::EADDRINUSE)?;
            Ok((name.clone(), bound))
        }
        UnixName::Unnamed => (0..0x10_0000_u32)
            .map(|number| format!("{number:05x}").into_bytes())
            .find_map(|free| {
                let bound = take_abstract(socket, kind, &free)?;
                Some((UnixName::Abstract(free), bound))
            })
            .ok_or(Errno::ENOSPC),
    }
}

fn take_abstract(socket: &Weak<UnixSocket>, kind: SocketType, name: &[u8]) -> Option<Bound> {
    let key = Key::Abstract(kind, name.to_vec());
    let mut names = NAMES.lock();
    if names.get(&key).is_some_and(|held| held.strong_count() > 0) {
        return None;
    }
    let old = names.insert(key.clone(), socket.clone());
    drop(names);
    drop(old);
    Some(Bound { key, _path: None })
}

/// The socket called `name`.
///
/// # Errors
/// `ECONNREFUSED` when nobody has it, and those of path walks.
pub(super) fn find(
    name: &UnixName,
    kind: SocketType,
    requester: &Requester<'_>,
) -> Result<Arc<UnixSocket>> {
    let key = match name {
        UnixName::Unnamed => return Err(Errno::EINVAL),
        UnixName::Abstract(bytes) => Key::Abstract(kind, bytes.clone()),
        UnixName::Path(path) => {
            let caller = &requester.caller;
            let found = caller.lookup(requester.base, path, LookupFlags::FOLLOW)?;
            permission::check_path(&found, caller.credentials, Access::WRITE)?;
            if found.inode()?.kind() != FileKind::Socket {
                return Err(Errno::ECONNREFUSED);
            }
            Key::from(found.key()?)
        }
    };
    let found = NAMES.lock().get(&key).and_then(Weak::upgrade);
    found.ok_or(Errno::ECONNREFUSED)
}
