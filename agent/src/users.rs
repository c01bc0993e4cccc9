//! Who a process runs as: the numbers the host gave, or names looked up in the container's files.

use std::ffi::CStr;
use std::io::Read;

use agent_protocol::User;
use rustix::fs::{Mode, OFlags, Uid};
use rustix::io::Errno;
use rustix::process::Gid;

use crate::child::Credentials;
use crate::refusal::{Answer, Refusal};

/// The most of a user database that is read, in bytes.
const DATABASE_MOST: u64 = 1 << 20;

/// A user of the container.
#[derive(Debug)]
pub(crate) struct Resolved {
    pub(crate) credentials: Credentials,
    /// The home directory by `/etc/passwd`, if the user is in it.
    pub(crate) home: Option<String>,
}

/// Resolves the user of a request against the container's root.
pub(crate) fn resolve(root: &CStr, user: Option<&User>) -> Answer<Resolved> {
    let passwd = read_database(root, c"passwd");
    let Some(user) = user else {
        return Ok(by_numbers(&passwd, 0, 0, &[]));
    };
    if user.name.is_empty() {
        return Ok(by_numbers(
            &passwd,
            user.uid,
            user.gid,
            &user.additional_gids,
        ));
    }
    by_name(&passwd, &read_database(root, c"group"), &user.name)
}

fn by_numbers(passwd: &str, uid: u32, gid: u32, additional: &[u32]) -> Resolved {
    let entry = entries(passwd).find(|entry| number(entry, 2) == Some(uid));
    Resolved {
        credentials: Credentials {
            uid: Uid::from_raw(uid),
            gid: Gid::from_raw(gid),
            groups: additional.iter().copied().map(Gid::from_raw).collect(),
        },
        home: entry.and_then(|entry| entry.get(5).map(|home| (*home).to_owned())),
    }
}

fn by_name(passwd: &str, group: &str, name: &str) -> Answer<Resolved> {
    let (user, group_name) = match name.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (name, None),
    };
    let entry = entries(passwd).find(|entry| {
        entry[0] == user || (user.parse().ok() == number(entry, 2) && number(entry, 2).is_some())
    });
    let uid = entry
        .as_ref()
        .and_then(|entry| number(entry, 2))
        .or_else(|| user.parse().ok());
    let uid = uid.ok_or_else(|| {
        Refusal::invalid(format!(
            "there is no user \"{user}\" in the container's /etc/passwd"
        ))
    })?;
    let own_gid = entry
        .as_ref()
        .and_then(|entry| number(entry, 3))
        .unwrap_or(0);
    let Some(group_name) = group_name else {
        let mut groups = vec![own_gid];
        // A number without an entry has no name, so no group lists it.
        if let Some(entry) = &entry {
            groups.extend(member_of(group, entry[0]));
        }
        return Ok(by_numbers(passwd, uid, own_gid, &groups));
    };
    let gid = entries(group)
        .find(|entry| entry[0] == group_name)
        .and_then(|entry| number(&entry, 2))
        .or_else(|| group_name.parse().ok());
    let gid = gid.ok_or_else(|| {
        Refusal::invalid(format!(
            "there is no group \"{group_name}\" in the container's /etc/group"
        ))
    })?;
    Ok(by_numbers(passwd, uid, gid, &[gid]))
}

/// The groups that list the user as a member, besides its own.
fn member_of(group: &str, user: &str) -> Vec<u32> {
    entries(group)
        .filter(|entry| {
            entry
                .get(3)
                .is_some_and(|members| members.split(',').any(|m| m == user))
        })
        .filter_map(|entry| number(&entry, 2))
        .collect()
}

/// The lines of a colon-separated database, without those that name nobody.
fn entries(database: &str) -> impl Iterator<Item = Vec<&str>> {
    database
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .filter(|entry| !entry[0].is_empty() && !entry[0].starts_with('#'))
}

fn number(entry: &[&str], field: usize) -> Option<u32> {
    entry.get(field)?.parse().ok()
}

/// Reads `/etc/NAME` of the container, following no link; a missing file names nobody.
fn read_database(root: &CStr, name: &CStr) -> String {
    let open = || -> Result<std::fs::File, Errno> {
        let directory = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let root = rustix::fs::open(root, directory, Mode::empty())?;
        let etc = rustix::fs::openat(root, c"etc", directory, Mode::empty())?;
        let file = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        Ok(rustix::fs::openat(etc, name, file, Mode::empty())?.into())
    };
    let mut bytes = Vec::new();
    if let Ok(file) = open() {
        // What could be read counts.
        let _ = file.take(DATABASE_MOST).read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nbuild:x:1000:1001::/home/build:/bin/sh\n";
    const GROUP: &str = "root:x:0:\nbuild:x:1001:\naudio:x:29:build,root\n";

    fn ids(name: &str) -> Option<(u32, u32, Vec<u32>, Option<String>)> {
        let resolved = by_name(PASSWD, GROUP, name).ok()?;
        let credentials = resolved.credentials;
        let groups = credentials.groups.iter().map(|gid| gid.as_raw()).collect();
        Some((
            credentials.uid.as_raw(),
            credentials.gid.as_raw(),
            groups,
            resolved.home,
        ))
    }

    #[test]
    fn names_and_numbers_are_found() {
        let home = Some("/home/build".to_owned());
        assert_eq!(
            ids("build"),
            Some((1000, 1001, vec![1001, 29], home.clone()))
        );
        assert_eq!(
            ids("1000"),
            Some((1000, 1001, vec![1001, 29], home.clone()))
        );
        assert_eq!(ids("build:audio"), Some((1000, 29, vec![29], home)));
        assert_eq!(ids("7:8"), Some((7, 8, vec![8], None)));
        assert_eq!(ids("7"), Some((7, 0, vec![0], None)));
        assert_eq!(ids("nobody"), None);
        assert_eq!(ids("root:nogroup"), None);
    }
}
