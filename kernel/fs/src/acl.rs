//! POSIX access control lists (acl(5)): what one says, how it goes with a mode, what new files get of it.
//!
//! An [`Acl`] is never changed in place, only replaced. A file system that has them keeps an [`Acls`] in each inode;
//! [`crate::permission`] asks for the list of access, [`crate::Caller`] hands lists in and out as the extended attributes
//! `system.posix_acl_access` and `system.posix_acl_default`. Locking: see [`Acls`].

use alloc::sync::Arc;

use abi::{Errno, Result};
use collections::{TryCollect, Vec, try_arc};

use crate::cred::Credentials;
use crate::metadata::Metadata;
use crate::permission::Access;
use crate::user_namespace::{Kgid, Kuid, UserNamespace};

mod slot;
#[cfg(test)]
mod tests;

pub use slot::Acls;

/// `POSIX_ACL_XATTR_VERSION`.
const VERSION: u32 = 2;
/// `ACL_UNDEFINED_ID`: the id of an entry that names nobody.
const UNDEFINED_ID: u32 = u32::MAX;
/// Permission bits of one class.
const RWX: u32 = 0o7;

/// Which of the two lists of an inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AclKind {
    /// Who may access it.
    Access,
    /// What is made in this directory starts with it.
    Default,
}

/// Whom an entry is for (`ACL_USER_OBJ` and its kin).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tag {
    Owner,
    User(Kuid),
    OwningGroup,
    Group(Kgid),
    Mask,
    Other,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    tag: Tag,
    bits: u32,
}

/// An access control list.
#[derive(Debug, PartialEq, Eq)]
pub struct Acl {
    entries: Vec<Entry>,
}

impl Acl {
    /// From the value of its extended attribute, with numbers of `names`; `None` for one without entries, which takes the list away.
    ///
    /// # Errors
    /// `EINVAL` for what is no list, `EOPNOTSUPP` for an unknown version, `ENOMEM`. Whether the entries make sense
    /// together is for [`Acl::check`].
    pub fn from_xattr(names: &UserNamespace, value: &[u8]) -> Result<Option<Self>> {
        let (version, rest) = value.split_first_chunk().ok_or(Errno::EINVAL)?;
        if u32::from_le_bytes(*version) != VERSION {
            return Err(Errno::EOPNOTSUPP);
        }
        let (entries, []) = rest.as_chunks::<8>() else {
            return Err(Errno::EINVAL);
        };
        if entries.is_empty() {
            return Ok(None);
        }
        let mut all = Vec::try_with_capacity(entries.len())?;
        for entry in entries {
            all.try_push(Entry::from_bytes(names, *entry)?)?;
        }
        Ok(Some(Self { entries: all }))
    }

    /// As the value of its extended attribute, with numbers of `names`.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn to_xattr(&self, names: &UserNamespace) -> Result<Vec<u8>> {
        let mut value = Vec::try_with_capacity(4 + 8 * self.entries.len())?;
        value.try_extend_from_slice(&VERSION.to_le_bytes())?;
        for entry in &self.entries {
            value.try_extend_from_slice(&entry.to_bytes(names))?;
        }
        Ok(value)
    }

    /// Whether the entries are in order and complete: owner, users, owning group, groups, a mask if somebody is named,
    /// others.
    ///
    /// # Errors
    /// `EINVAL`.
    pub fn check(&self) -> Result<()> {
        /// What may come next.
        #[derive(PartialEq)]
        enum State {
            Owner,
            Users,
            Groups,
            Other,
            End,
        }
        let mut state = State::Owner;
        let mut names_somebody = false;
        for entry in &self.entries {
            if entry.bits & !RWX != 0 {
                return Err(Errno::EINVAL);
            }
            state = match (entry.tag, state) {
                (Tag::Owner, State::Owner) => State::Users,
                (Tag::User(_), State::Users) => {
                    names_somebody = true;
                    State::Users
                }
                (Tag::OwningGroup, State::Users) => State::Groups,
                (Tag::Group(_), State::Groups) => {
                    names_somebody = true;
                    State::Groups
                }
                (Tag::Mask, State::Groups) => State::Other,
                (Tag::Other, State::Other) => State::End,
                (Tag::Other, State::Groups) if !names_somebody => State::End,
                _ => return Err(Errno::EINVAL),
            };
        }
        if state == State::End {
            Ok(())
        } else {
            Err(Errno::EINVAL)
        }
    }

    /// The permission bits that show the list in a mode, and whether they are all that it says.
    #[must_use]
    pub fn as_mode(&self) -> (u32, bool) {
        let (mut mode, mut is_all) = (0, true);
        for entry in &self.entries {
            let bits = entry.bits & RWX;
            match entry.tag {
                Tag::Owner => mode |= bits << 6,
                Tag::OwningGroup => mode |= bits << 3,
                Tag::Other => mode |= bits,
                Tag::Mask => {
                    mode = (mode & !0o070) | (bits << 3);
                    is_all = false;
                }
                Tag::User(_) | Tag::Group(_) => is_all = false,
            }
        }
        (mode, is_all)
    }

    /// The list as it is once the mode has become `mode`: the mask, if there is one, stands for the group's bits.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn with_mode(&self, mode: u32) -> Result<Self> {
        let has_mask = self.mask().is_some();
        let change = |entry: &Entry| match entry.tag {
            Tag::Owner => (mode >> 6) & RWX,
            Tag::Mask => (mode >> 3) & RWX,
            Tag::OwningGroup if !has_mask => (mode >> 3) & RWX,
            Tag::Other => mode & RWX,
            Tag::OwningGroup | Tag::User(_) | Tag::Group(_) => entry.bits,
        };
        self.map(change)
    }

    /// Whether a caller other than the owner may do `access` to the file that `meta` is of.
    #[must_use]
    pub fn allows(&self, meta: &Metadata, credentials: &Credentials, access: Access) -> bool {
        let (wanted, mask) = (access.bits(), self.mask().unwrap_or(RWX));
        let allows = |bits: u32| bits & wanted == wanted;
        // Of the groups one is in, any that gives all will do; one that gives less still keeps `other` out.
        let mut is_member = false;
        for entry in &self.entries {
            match entry.tag {
                Tag::User(uid) if uid == credentials.fsuid => return allows(entry.bits & mask),
                Tag::OwningGroup if credentials.in_group(meta.gid) => {
                    is_member = true;
                    if allows(entry.bits) {
                        return allows(mask);
                    }
                }
                Tag::Group(gid) if credentials.in_group(gid) => {
                    is_member = true;
                    if allows(entry.bits) {
                        return allows(mask);
                    }
                }
                Tag::Other => return !is_member && allows(entry.bits),
                Tag::Owner | Tag::User(_) | Tag::OwningGroup | Tag::Group(_) | Tag::Mask => {}
            }
        }
        false
    }

    fn mask(&self) -> Option<u32> {
        let mask = self.entries.iter().find(|entry| entry.tag == Tag::Mask);
        mask.map(|entry| entry.bits)
    }

    fn map(&self, bits: impl Fn(&Entry) -> u32) -> Result<Self> {
        let changed = self.entries.iter().map(|entry| Entry {
            tag: entry.tag,
            bits: bits(entry),
        });
        Ok(Self {
            entries: changed.try_collect()?,
        })
    }

    /// What it takes, in bytes.
    pub(crate) fn space(&self) -> u64 {
        (size_of::<Self>() + self.entries.len() * size_of::<Entry>()) as u64
    }
}

impl Entry {
    fn from_bytes(names: &UserNamespace, bytes: [u8; 8]) -> Result<Self> {
        let [t0, t1, p0, p1, id @ ..] = bytes;
        let id = u32::from_le_bytes(id);
        let tag = match u16::from_le_bytes([t0, t1]) {
            0x01 => Tag::Owner,
            0x02 => Tag::User(names.kuid(id).ok_or(Errno::EINVAL)?),
            0x04 => Tag::OwningGroup,
            0x08 => Tag::Group(names.kgid(id).ok_or(Errno::EINVAL)?),
            0x10 => Tag::Mask,
            0x20 => Tag::Other,
            _ => return Err(Errno::EINVAL),
        };
        let bits = u16::from_le_bytes([p0, p1]).into();
        Ok(Self { tag, bits })
    }

    fn to_bytes(self, names: &UserNamespace) -> [u8; 8] {
        let (tag, id): (u16, u32) = match self.tag {
            Tag::Owner => (0x01, UNDEFINED_ID),
            Tag::User(user) => (0x02, names.uid(user).unwrap_or(UNDEFINED_ID)),
            Tag::OwningGroup => (0x04, UNDEFINED_ID),
            Tag::Group(group) => (0x08, names.gid(group).unwrap_or(UNDEFINED_ID)),
            Tag::Mask => (0x10, UNDEFINED_ID),
            Tag::Other => (0x20, UNDEFINED_ID),
        };
        let ([t0, t1], [p0, p1, ..]) = (tag.to_le_bytes(), self.bits.to_le_bytes());
        let [i0, i1, i2, i3] = id.to_le_bytes();
        [t0, t1, p0, p1, i0, i1, i2, i3]
    }
}

/// The lists that something new starts with.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NewAcls {
    /// Who may access it; none where the mode says it all.
    pub access: Option<Arc<Acl>>,
    /// What is made in it starts with this.
    pub default: Option<Arc<Acl>>,
}

impl NewAcls {
    /// What a directory's default list gives to something that is made in it with `mode`, and the mode that it gets:
    /// neither the list nor the mode gives what the other does not (Linux's `posix_acl_create`). The umask has no say.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn inherit(default: &Arc<Acl>, mode: u32, is_directory: bool) -> Result<(u32, Self)> {
        let (given, _) = default.as_mode();
        let mode = mode & (given | !0o777);
        let access = default.with_mode(mode)?;
        let (_, mode_is_all) = access.as_mode();
        let access = if mode_is_all {
            None
        } else {
            Some(try_arc(access)?)
        };
        let default = is_directory.then(|| default.clone());
        Ok((mode, Self { access, default }))
    }
}
