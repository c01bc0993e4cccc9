//! What can go wrong with state directories.

use std::io;
use std::path::{Path, PathBuf};

use super::ROOT_VARIABLE;
use super::record::VERSION;
use crate::cgroup::CgroupError;
use host_machine::printing::said;

/// Why a state directory could not be used. `Display` gives one sentence.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The root belongs to somebody else, or others may write to it.
    #[error(
        "{} is not for user {user} alone (owner {uid}, mode {mode:o}); remove it, or name another directory by {ROOT_VARIABLE}",
        path.display()
    )]
    NotOurs {
        /// The root.
        path: PathBuf,
        /// Its owner.
        uid: u32,
        /// Its permissions.
        mode: u32,
        /// This process's user.
        user: u32,
    },
    /// Not a name.
    #[error(
        "{name:?} cannot name a {what}; use letters, digits and _.- after a first letter or digit, at most 200"
    )]
    Name {
        /// "pod" or "namespace".
        what: &'static str,
        /// As given.
        name: String,
    },
    /// A pod of this name lives.
    #[error(
        "a pod {name} runs already in namespace {namespace}, owned by process {pid}; choose another name, or end it: nacre kill {namespace}/{name}"
    )]
    Taken {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// Who owns it; 0 when that is not known.
        pid: u32,
    },
    /// Another version's directory.
    #[error(
        "{} has state of version {version}, and this nacre knows version {VERSION}; it is left alone: use the nacre that made it",
        path.display()
    )]
    OtherVersion {
        /// The directory.
        path: PathBuf,
        /// Its version.
        version: u64,
    },
    /// Its state.json is none.
    #[error("{} is no pod's state: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// Nobody has this name.
    #[error("there is no pod {name} (looked in {}); nacre ps lists the pods", root.display())]
    NoSuchPod {
        /// As given.
        name: String,
        /// Where was looked.
        root: PathBuf,
    },
    /// Several have it.
    #[error(
        "there are several pods {name}, in the namespaces {namespaces}; write NAMESPACE/{name}"
    )]
    Ambiguous {
        /// As given.
        name: String,
        /// Where they are.
        namespaces: String,
    },
    /// Its cgroup could not be made.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// The system refused.
    #[error("cannot {what} {}: {}{}", path.display(), said(.source), advice(.source))]
    System {
        /// "make", "write" and so on.
        what: &'static str,
        /// What.
        path: PathBuf,
        /// Its answer.
        source: io::Error,
    },
}

impl StateError {
    /// Wraps the system's answer.
    pub(crate) fn of<E: Into<io::Error>>(what: &'static str, path: &Path) -> impl Fn(E) -> Self {
        let path = path.to_owned();
        move |source| Self::System {
            what,
            path: path.clone(),
            source: source.into(),
        }
    }
}

fn advice(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "; free some space there, or name another directory by NACRE_STATE_DIR"
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "; name another directory by NACRE_STATE_DIR"
        }
        _ => "",
    }
}
