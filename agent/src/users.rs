//! Who a process runs as: the numbers the host gave, or names looked up in the container's files.

use std::ffi::CStr;

use agent_protocol::User;
use agent_protocol::root::Root;
use agent_protocol::users::{self, Ids};
use rustix::fs::Uid;
use rustix::process::Gid;

use crate::child::Credentials;
use crate::refusal::{Answer, Refusal};

/// A user of the container.
#[derive(Debug)]
pub(crate) struct Resolved {
    pub(crate) credentials: Credentials,
    /// The home directory by `/etc/passwd`, if the user is in it.
    pub(crate) home: Option<String>,
}

/// Resolves the user of a request against the container's root.
pub(crate) fn resolve(root: &CStr, user: Option<&User>) -> Answer<Resolved> {
    // A root that cannot be opened has no databases; entering it tells why.
    let root = Root::open(root).ok();
    let database = |name| {
        root.as_ref()
            .map_or_else(String::new, |root| root.database(name))
    };
    let passwd = database("passwd");
    let ids = match user {
        None => Ids {
            uid: 0,
            gid: 0,
            groups: Vec::new(),
        },
        Some(user) if user.name.is_empty() => Ids {
            uid: user.uid,
            gid: user.gid,
            groups: user.additional_gids.clone(),
        },
        Some(user) => users::by_name(&passwd, &database("group"), &user.name)
            .map_err(|unknown| Refusal::invalid(unknown.to_string()))?,
    };
    Ok(Resolved {
        home: users::home(&passwd, ids.uid),
        credentials: Credentials {
            uid: Uid::from_raw(ids.uid),
            gid: Gid::from_raw(ids.gid),
            groups: ids.groups.into_iter().map(Gid::from_raw).collect(),
        },
    })
}
