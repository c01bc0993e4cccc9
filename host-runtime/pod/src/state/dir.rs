//! One state directory: taken by its owner, cleaned by whoever meets it stale.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use host_machine::MachineSpec;
use rustix::fs::{FlockOperation, OFlags};
use rustix::io::Errno;

use super::record::Record;
use super::{SYSTEM_ROOT, StateError};
use crate::cgroup::{CgroupError, Leaf, Limits, Place, Wish};

const LOCK: &str = "lock";
/// What a directory may hold beside its lock. Anything else is not ours and is not removed.
const FILES: [&str; 6] = [
    "state.json",
    "state.json.new",
    "pod.sock",
    "stdio.sock",
    "log",
    "log.old",
];
/// How long somebody may take who cleans a directory that is wanted.
const CLEANING_BOUND: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(5);

/// The state directory of a pod of this process. Dropping it removes the directory.
#[derive(Debug)]
pub struct PodDir {
    path: PathBuf,
    lock: File,
    record: Record,
    leaf: Option<Arc<Leaf>>,
}

/// What somebody finds who comes by.
#[derive(Debug)]
pub(super) enum Met {
    /// A pod that lives.
    Lives(Record),
    /// None, or none that has got so far; what was stale is gone.
    Nothing,
}

impl PodDir {
    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The pod's namespace and name.
    #[must_use]
    pub fn name(&self) -> (String, String) {
        (self.record.namespace.clone(), self.record.name.clone())
    }

    /// Makes the pod a cgroup of the host's, if the host gives one; once, before its machine starts.
    ///
    /// # Errors
    /// When there is none and the wish says what needs it.
    pub fn make_leaf(&mut self, wish: Wish<'_>, limits: &Limits) -> Result<(), StateError> {
        let Some(place) = Place::find(wish, &self.own_place())? else {
            tracing::debug!("the pod has no cgroup: this host has no tree of them");
            return Ok(());
        };
        // Before the first directory, so that who finds this pod dead finds them, too.
        let directories = place.directories().clone();
        self.record.cgroup = directories;
        self.record.write(&self.path)?;
        match place.make(limits) {
            Ok(leaf) => {
                self.leaf = Some(Arc::new(leaf));
                Ok(())
            }
            // It is somebody else's, and not to be removed.
            Err(error @ CgroupError::Taken { .. }) => {
                std::mem::take(&mut self.record.cgroup).remove_empty();
                self.record.write(&self.path)?;
                Err(error.into())
            }
            Err(error) => {
                remove_cgroup(&self.record)?;
                match wish.needs {
                    Some(_) => Err(error.into()),
                    None => {
                        tracing::debug!("the pod has no cgroup: {error}");
                        Ok(())
                    }
                }
            }
        }
    }

    /// Gives the cgroup the limit of memory of another machine than the first, which has ended.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn fit_leaf(&self, spec: &MachineSpec) -> Result<(), StateError> {
        let leaf = self.leaf.as_ref();
        leaf.map_or(Ok(()), |leaf| leaf.set_memory(Limits::of(spec).memory))?;
        Ok(())
    }

    /// The pod's cgroup.
    #[must_use]
    pub fn leaf(&self) -> Option<&Arc<Leaf>> {
        self.leaf.as_ref()
    }

    /// Where the cgroup of a pod is that nobody gave another: pods of two state roots may have one name.
    fn own_place(&self) -> PathBuf {
        let root = self.path.ancestors().nth(2).unwrap_or(Path::new("/"));
        let top = match root == Path::new(SYSTEM_ROOT) {
            true => "nacre".to_owned(),
            false => format!("nacre-{:016x}", fnv1a(root.as_os_str().as_bytes())),
        };
        let names = [top, self.record.namespace.clone(), self.record.name.clone()];
        names.iter().collect()
    }
}

impl Drop for PodDir {
    fn drop(&mut self) {
        // What cannot be removed has a free lock soon, and somebody else tries again.
        if is_named(&self.lock, &self.path)
            && remove_cgroup(&self.record).is_ok()
            && empty(&self.path).is_ok()
        {
            remove(&self.path);
        }
    }
}

/// Tells paths apart; Fowler's, Noll's and Vo's.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Removes the cgroup of a pod whose lock the caller holds.
fn remove_cgroup(record: &Record) -> Result<(), StateError> {
    let removed = record.cgroup.remove();
    removed.map_err(|(path, error)| StateError::of("remove the cgroup", &path)(error))
}

/// Takes a directory. It is found taken only when its lock stays held.
pub(super) fn claim(root: &Path, record: &Record) -> Result<PodDir, StateError> {
    let namespace = root.join(&record.namespace);
    let path = namespace.join(&record.name);
    let begun = Instant::now();
    loop {
        if let Some(lock) = try_lock(&namespace, &path)? {
            return fill(path, lock, record);
        }
        if begun.elapsed() > CLEANING_BOUND {
            let owner = Record::read(&path)?;
            return Err(StateError::Taken {
                namespace: record.namespace.clone(),
                name: record.name.clone(),
                pid: owner.map_or(0, |owner| owner.pid),
            });
        }
        std::thread::sleep(PAUSE);
    }
}

/// One attempt. `None`: somebody holds the lock, or has removed what was found.
fn try_lock(namespace: &Path, path: &Path) -> Result<Option<File>, StateError> {
    make_private(namespace)?;
    if let Err(error) = make_dir(path) {
        return gone(error, "make", path);
    }
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).mode(0o600);
    let nofollow = OFlags::NOFOLLOW.bits().cast_signed();
    let lock = match options.custom_flags(nofollow).open(path.join(LOCK)) {
        Ok(lock) => lock,
        Err(error) => return gone(error, "lock", path),
    };
    Ok((take(&lock, path)? && is_named(&lock, path)).then_some(lock))
}

/// Something that was there a moment ago may have been cleaned; other failures stay.
fn gone<T>(error: io::Error, what: &'static str, path: &Path) -> Result<Option<T>, StateError> {
    match error.kind() {
        ErrorKind::NotFound => Ok(None),
        _ => Err(StateError::of(what, path)(error)),
    }
}

/// Makes a locked directory this pod's.
fn fill(path: PathBuf, lock: File, record: &Record) -> Result<PodDir, StateError> {
    clear(&path)?;
    // Dropped on failure, which removes what has been made.
    let dir = PodDir {
        path,
        lock,
        record: record.clone(),
        leaf: None,
    };
    record.write(&dir.path)?;
    Ok(dir)
}

/// Looks whether a pod lives, and removes what one has left.
pub(super) fn meet(path: &Path) -> Result<Met, StateError> {
    let mut options = OpenOptions::new();
    let nofollow = OFlags::NOFOLLOW.bits().cast_signed();
    let options = options.read(true).write(true).custom_flags(nofollow);
    let lock = match options.open(path.join(LOCK)) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            // Just begun or nearly gone. An empty folder is nobody's: an owner would make it again.
            remove_folders(path);
            return Ok(Met::Nothing);
        }
        lock => lock.map_err(StateError::of("look at the lock in", path))?,
    };
    if !take(&lock, path)? {
        let record = Record::read(path)?;
        return Ok(record.map_or(Met::Nothing, Met::Lives));
    }
    if is_named(&lock, path) {
        clear(path)?;
        remove(path);
    }
    Ok(Met::Nothing)
}

/// Removes what a pod has left that lives no more, all but the lock, which the caller holds.
fn clear(path: &Path) -> Result<(), StateError> {
    match Record::read(path) {
        // What another version left may mean something to it.
        Err(error @ StateError::OtherVersion { .. }) => return Err(error),
        Ok(Some(record)) => remove_cgroup(&record)?,
        // It never had more than its directory, or nobody can tell.
        Ok(None) | Err(_) => {}
    }
    empty(path)
}

/// Tries to lock; false when somebody else has it.
fn take(lock: &File, path: &Path) -> Result<bool, StateError> {
    match rustix::fs::flock(lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(errno) => Err(StateError::of("lock", path)(errno)),
    }
}

/// Whether a directory's lock is still this one, and not that of a later owner.
fn is_named(lock: &File, path: &Path) -> bool {
    let of = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
    let ours = lock.metadata().map(of);
    let named = fs::symlink_metadata(path.join(LOCK)).map(of);
    matches!((ours, named), (Ok(ours), Ok(named)) if ours == named)
}

/// Removes all but the lock, which the caller holds.
fn empty(path: &Path) -> Result<(), StateError> {
    for name in FILES {
        let file = path.join(name);
        match fs::remove_file(&file) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(StateError::of("remove", &file)(error));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Removes the lock, which the caller holds, and the directory, and the namespace with its last pod. An owner that comes meanwhile makes what
/// it needs anew, and keeps it: a folder with something in it does not go.
fn remove(path: &Path) {
    let _ = fs::remove_file(path.join(LOCK));
    remove_folders(path);
}

fn remove_folders(path: &Path) {
    let _ = fs::remove_dir(path);
    if let Some(namespace) = path.parent() {
        let _ = fs::remove_dir(namespace);
    }
}

/// Makes a folder that only its user can enter.
fn make_dir(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}

/// The same with the folders above it.
pub(super) fn make_private(path: &Path) -> Result<(), StateError> {
    let made = DirBuilder::new().mode(0o700).recursive(true).create(path);
    made.map_err(StateError::of("make", path))
}
