//! The state directories of this host's pods: who lives, under which name, and how to reach it.
//!
//! A pod is `ROOT/NAMESPACE/NAME/` with `lock`, `state.json`, sockets and a log, all made by the process that owns
//! the pod ([`PodDir`]). The flock on `lock` says that it lives: it is held as long as the process runs, however that
//! ends. A directory whose lock is free is stale, and whoever meets it removes it.
//!
//! Nothing is locked beside that. Only who holds the lock removes or replaces what is in a directory, the lock's own
//! name last; so who gets a lock looks whether the name still leads to it, and knows with that that nobody else
//! cleans here and that no owner has come.

mod dir;
mod error;
mod record;
#[cfg(test)]
mod tests;

use host_machine::logging;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

pub use dir::PodDir;
pub use error::StateError;
pub use record::{Record, VERSION};

use dir::Met;

/// Names another root; for tests, and for hosts with two containerds.
pub const ROOT_VARIABLE: &str = "NACRE_STATE_DIR";
/// Root's pods.
const SYSTEM_ROOT: &str = "/run/nacre";
/// Bytes of a name; a component of a path may have 255, and generated names grow.
const LONGEST_NAME: usize = 200;

/// The folder with all state directories of one user.
#[derive(Debug, Clone)]
pub struct StateRoot {
    path: PathBuf,
}

/// A pod that lives.
#[derive(Debug, Clone)]
pub struct Found {
    /// Its state directory.
    pub dir: PathBuf,
    /// What its owner says of it.
    pub record: Record,
}

/// All pods that live, and what could not be looked at.
#[derive(Debug, Default)]
pub struct Listing {
    /// By namespace and name.
    pub pods: Vec<Found>,
    /// One for each directory that was left alone.
    pub complaints: Vec<StateError>,
}

impl StateRoot {
    /// A root by its path.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// The root as given, or this user's: `/run/nacre` or `$XDG_RUNTIME_DIR/nacre`, for a user without a session
    /// `/tmp/nacre-UID`.
    #[must_use]
    pub fn locate(given: Option<&Path>) -> Self {
        let variable = |name| std::env::var_os(name).map(PathBuf::from);
        let absolute = |path: &PathBuf| path.is_absolute();
        let named = given.map(Path::to_owned);
        if let Some(path) = named.or_else(|| variable(ROOT_VARIABLE)) {
            return Self { path };
        }
        let user = rustix::process::geteuid();
        if user.is_root() {
            return Self::new(SYSTEM_ROOT);
        }
        match variable("XDG_RUNTIME_DIR").filter(absolute) {
            Some(runtime) => Self::new(runtime.join("nacre")),
            None => Self::new(format!("/tmp/nacre-{}", user.as_raw())),
        }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Takes a name for a pod of this process, from now until the [`PodDir`] is dropped.
    ///
    /// # Errors
    /// [`StateError::Taken`] when a pod of that name lives, [`StateError::OtherVersion`] when another version of this
    /// program has left something under it; else what the system refused. Nothing is left then.
    pub fn claim(&self, record: &Record) -> Result<PodDir, StateError> {
        check_name("namespace", &record.namespace)?;
        check_name("pod", &record.name)?;
        self.make()?;
        let dir = dir::claim(&self.path, record)?;
        logging::set_pod(&format!("{}/{}", record.namespace, record.name));
        Ok(dir)
    }

    /// All pods that live. Stale directories are removed on the way.
    ///
    /// # Errors
    /// When the root itself cannot be read; none is no pods.
    pub fn list(&self) -> Result<Listing, StateError> {
        let mut listing = Listing::default();
        for namespace in folders(&self.path)? {
            let names = folders(&namespace);
            match names {
                Ok(names) => names.iter().for_each(|dir| listing.meet(dir)),
                Err(error) => listing.complaints.push(error),
            }
        }
        Ok(listing)
    }

    /// The one pod that lives under a name, in one namespace or, when none is given, in any. `NAMESPACE/NAME` is a
    /// name, too.
    ///
    /// # Errors
    /// [`StateError::NoSuchPod`], [`StateError::Ambiguous`]; why its directory cannot be read.
    pub fn find(&self, namespace: Option<&str>, name: &str) -> Result<Found, StateError> {
        let (namespace, name) = match name.split_once('/') {
            Some((namespace, name)) => (Some(namespace), name),
            None => (namespace, name),
        };
        check_name("pod", name)?;
        let namespaces = match namespace {
            Some(namespace) => {
                check_name("namespace", namespace)?;
                vec![self.path.join(namespace)]
            }
            None => folders(&self.path)?,
        };
        let mut listing = Listing::default();
        for namespace in namespaces {
            listing.meet(&namespace.join(name));
        }
        let mut pods = listing.pods;
        match (pods.pop(), listing.complaints.pop()) {
            (Some(pod), _) if pods.is_empty() => Ok(pod),
            (Some(pod), _) => {
                pods.push(pod);
                let namespaces = pods.into_iter().map(|pod| pod.record.namespace);
                Err(StateError::Ambiguous {
                    name: name.to_owned(),
                    namespaces: namespaces.collect::<Vec<_>>().join(", "),
                })
            }
            (None, Some(complaint)) => Err(complaint),
            (None, None) => Err(StateError::NoSuchPod {
                name: name.to_owned(),
                root: self.path.clone(),
            }),
        }
    }

    /// Removes what a pod has left that lives no more.
    ///
    /// # Errors
    /// What could not be removed.
    pub fn clean(&self, namespace: &str, name: &str) -> Result<(), StateError> {
        check_name("namespace", namespace)?;
        check_name("pod", name)?;
        dir::meet(&self.path.join(namespace).join(name)).map(drop)
    }

    /// Makes the root, and refuses one in which others could change things.
    fn make(&self) -> Result<(), StateError> {
        dir::make_private(&self.path)?;
        // In /tmp anybody may have been first, with a link, too.
        let metadata = fs::symlink_metadata(&self.path);
        let metadata = metadata.map_err(StateError::of("look at", &self.path))?;
        let user = rustix::process::geteuid().as_raw();
        let is_ours = metadata.is_dir() && metadata.uid() == user && metadata.mode() & 0o022 == 0;
        match is_ours {
            true => Ok(()),
            false => Err(StateError::NotOurs {
                path: self.path.clone(),
                uid: metadata.uid(),
                mode: metadata.mode() & 0o7777,
                user,
            }),
        }
    }
}

impl Listing {
    fn meet(&mut self, dir: &Path) {
        match dir::meet(dir) {
            Ok(Met::Lives(record)) => self.pods.push(Found {
                dir: dir.to_owned(),
                record,
            }),
            Ok(Met::Nothing) => {}
            Err(error) => self.complaints.push(error),
        }
    }
}

/// Refuses what could not be a folder's name, or would be mistaken for an option.
fn check_name(what: &'static str, name: &str) -> Result<(), StateError> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    let starts = name
        .bytes()
        .next()
        .is_some_and(|b| b.is_ascii_alphanumeric());
    match starts && name.len() <= LONGEST_NAME && name.bytes().all(is_plain) {
        true => Ok(()),
        false => Err(StateError::Name {
            what,
            name: name.to_owned(),
        }),
    }
}

/// The folders in a folder, in the order of their names; one that is not there has none.
fn folders(dir: &Path) -> Result<Vec<PathBuf>, StateError> {
    let read = StateError::of("read", dir);
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(&read)?,
    };
    let mut folders = Vec::new();
    for entry in entries {
        let entry = entry.map_err(&read)?;
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            folders.push(entry.path());
        }
    }
    folders.sort();
    Ok(folders)
}
