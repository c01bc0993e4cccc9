//! `state.json`: what does not change about a pod. What changes is asked of its process.

use std::fs;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::StateError;
use crate::cgroup::Directories;

/// The version of the directory's contents. Raised whenever an older reader would misunderstand.
pub const VERSION: u64 = 1;

const FILE: &str = "state.json";
/// Written first and renamed then, so that a reader sees all or nothing.
const NEW_FILE: &str = "state.json.new";

/// A pod, as its owner describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// [`VERSION`].
    pub version: u64,
    /// The namespace: containerd's, or that of `nacre run`.
    pub namespace: String,
    /// The pod's name.
    pub name: String,
    /// The process that owns it.
    pub pid: u32,
    /// Which program that is.
    pub owner: String,
    /// When it came, in seconds since 1970.
    pub created: u64,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// The root file system, or the bundle, on the host.
    pub root: PathBuf,
    /// The host's cgroup with its machine, which goes before this directory does.
    #[serde(default)]
    pub cgroup: Directories,
}

/// As much as every version has.
#[derive(Deserialize)]
struct Versioned {
    version: u64,
}

impl Record {
    /// A pod that this process will own.
    #[must_use]
    pub fn new(namespace: &str, name: &str, owner: &str) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            version: VERSION,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            pid: std::process::id(),
            owner: owner.to_owned(),
            created: now.unwrap_or_default().as_secs(),
            command: Vec::new(),
            root: PathBuf::new(),
            cgroup: Directories::default(),
        }
    }

    /// Reads a directory's record; `None` while there is none.
    pub(super) fn read(dir: &Path) -> Result<Option<Self>, StateError> {
        let path = dir.join(FILE);
        let bytes = match fs::read(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            bytes => bytes.map_err(StateError::of("read", &path))?,
        };
        let bad = |source| StateError::Unreadable {
            path: path.clone(),
            source,
        };
        let Versioned { version } = serde_json::from_slice(&bytes).map_err(bad)?;
        match version {
            VERSION => serde_json::from_slice(&bytes).map(Some).map_err(bad),
            version => Err(StateError::OtherVersion {
                path: dir.to_owned(),
                version,
            }),
        }
    }

    /// Writes it, whole or not at all.
    pub(super) fn write(&self, dir: &Path) -> Result<(), StateError> {
        let (path, new) = (dir.join(FILE), dir.join(NEW_FILE));
        let write = StateError::of("write", &path);
        let text = serde_json::to_vec_pretty(self).map_err(|source| StateError::Unreadable {
            path: path.clone(),
            source,
        })?;
        let mut file = fs::File::create(&new).map_err(&write)?;
        file.write_all(&text).map_err(&write)?;
        fs::rename(&new, &path).map_err(&write)
    }
}
