//! Users and groups by name, as a container's `/etc/passwd` and `/etc/group` have them. The agent makes processes of
//! them; the host can say beforehand that there is no such user.

use std::fmt;

/// A user's numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ids {
    /// Its own number.
    pub uid: u32,
    /// Its group's.
    pub gid: u32,
    /// The supplementary groups.
    pub groups: Vec<u32>,
}

/// A name that nobody has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unknown {
    /// Of a user.
    User(String),
    /// Of a group.
    Group(String),
}

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, name, file) = match self {
            Self::User(name) => ("user", name, "passwd"),
            Self::Group(name) => ("group", name, "group"),
        };
        write!(
            f,
            "there is no {kind} \"{name}\" in the container's /etc/{file}"
        )
    }
}

/// Looks up `USER` or `USER:GROUP`, names or numbers, in the two databases.
///
/// # Errors
/// The name that is in neither and is no number.
pub fn by_name(passwd: &str, group: &str, name: &str) -> Result<Ids, Unknown> {
    let (user, group_name) = match name.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (name, None),
    };
    let entry = entries(passwd).find(|entry| {
        entry[0] == user || (user.parse().ok() == number(entry, 2) && number(entry, 2).is_some())
    });
    let uid = entry.as_ref().and_then(|entry| number(entry, 2));
    let uid = uid
        .or_else(|| user.parse().ok())
        .ok_or_else(|| Unknown::User(user.to_owned()))?;
    let own_gid = entry.as_ref().and_then(|entry| number(entry, 3));
    let own_gid = own_gid.unwrap_or(0);
    let Some(group_name) = group_name else {
        let mut groups = vec![own_gid];
        // A number without an entry has no name, so no group lists it.
        if let Some(entry) = &entry {
            groups.extend(member_of(group, entry[0]));
        }
        return Ok(Ids {
            uid,
            gid: own_gid,
            groups,
        });
    };
    let gid = entries(group)
        .find(|entry| entry[0] == group_name)
        .and_then(|entry| number(&entry, 2))
        .or_else(|| group_name.parse().ok())
        .ok_or_else(|| Unknown::Group(group_name.to_owned()))?;
    Ok(Ids {
        uid,
        gid,
        groups: vec![gid],
    })
}

/// The home directory of a user, if it is in the database.
#[must_use]
pub fn home(passwd: &str, uid: u32) -> Option<String> {
    let entry = entries(passwd).find(|entry| number(entry, 2) == Some(uid))?;
    entry.get(5).map(|home| (*home).to_owned())
}

/// The groups that list the user as a member, besides its own.
fn member_of(group: &str, user: &str) -> Vec<u32> {
    let lists = |entry: &Vec<&str>| {
        let members = entry.get(3);
        members.is_some_and(|members| members.split(',').any(|member| member == user))
    };
    let entries = entries(group).filter(lists);
    entries.filter_map(|entry| number(&entry, 2)).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nbuild:x:1000:1001::/home/build:/bin/sh\n";
    const GROUP: &str = "root:x:0:\nbuild:x:1001:\naudio:x:29:build,root\n";

    #[test]
    fn names_and_numbers_are_found() {
        let ids = |name: &str| {
            let ids = by_name(PASSWD, GROUP, name).ok()?;
            Some((ids.uid, ids.gid, ids.groups, home(PASSWD, ids.uid)))
        };
        let home = Some("/home/build".to_owned());
        let build = Some((1000, 1001, vec![1001, 29], home.clone()));
        assert_eq!(ids("build"), build);
        assert_eq!(ids("1000"), build);
        assert_eq!(ids("build:audio"), Some((1000, 29, vec![29], home)));
        assert_eq!(ids("7:8"), Some((7, 8, vec![8], None)));
        assert_eq!(ids("7"), Some((7, 0, vec![0], None)));
    }

    #[test]
    fn names_that_nobody_has_are_told() {
        let unknown = |name: &str| by_name(PASSWD, GROUP, name).expect_err(name).to_string();
        let said = unknown("nobody");
        assert_eq!(
            said,
            "there is no user \"nobody\" in the container's /etc/passwd"
        );
        assert!(unknown("root:nogroup").contains("group \"nogroup\""));
    }
}
