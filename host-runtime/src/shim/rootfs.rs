//! The directory that a container's guest sees: its root file system and its bind mounts.
//!
//! `<bundle>/shared` is what virtio-fs serves: `rootfs` in it is the container's root, `mounts/N` the
//! N-th bind mount's source. Everything is mounted in the daemon's own mount namespace.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use containerd_shim_protos::types::mount::Mount;
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind_recursive, mount_change,
    mount_remount, unmount,
};

use super::error::ShimError;

use crate::printing::tell;

/// Most bytes of options that one mount(2) takes: a page, with its NUL.
const MOST_DATA: usize = 4095;

/// The shared directory of one container.
#[derive(Debug)]
pub(super) struct SharedDir {
    path: PathBuf,
    mounted: Vec<PathBuf>,
}

impl SharedDir {
    /// Makes the empty directory inside the bundle.
    pub(super) fn create(bundle: &Path) -> Result<Self, ShimError> {
        let path = bundle.join("shared");
        fs::create_dir_all(&path).map_err(ShimError::file("make", &path))?;
        Ok(Self {
            path,
            mounted: Vec::new(),
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Mounts the root file system: what containerd's snapshotter gave, or the bundle's own directory.
    pub(super) fn mount_rootfs(&mut self, mounts: &[Mount], root: &Path) -> Result<(), ShimError> {
        let target = self.path.join("rootfs");
        fs::create_dir_all(&target).map_err(ShimError::file("make", &target))?;
        for step in mounts {
            mount_one(step, &target)?;
            self.mounted.push(target.clone());
        }
        if mounts.is_empty() {
            self.bind(root, &target)?;
        }
        Ok(())
    }

    /// Makes a host path visible to the guest; gives its name beneath the shared directory.
    ///
    /// What the guest is only to read is read-only on this side, too: its kernel need not be trusted to keep it so.
    pub(super) fn add_bind(&mut self, source: &Path, read_only: bool) -> Result<String, ShimError> {
        let name = format!("mounts/{}", self.mounted.len());
        let target = self.path.join(&name);
        let metadata = fs::metadata(source).map_err(ShimError::file("bind-mount", source))?;
        let made = match metadata.is_dir() {
            true => fs::create_dir_all(&target),
            false => {
                fs::create_dir_all(self.path.join("mounts")).and_then(|()| fs::write(&target, ""))
            }
        };
        made.map_err(ShimError::file("make", &target))?;
        self.bind(source, &target)?;
        if read_only {
            // The one mount and not what is mounted below it, as everywhere.
            mount_remount(&target, MountFlags::RDONLY | MountFlags::BIND, "").map_err(|errno| {
                mount_error("bind", &source.display().to_string(), &target, errno.into())
            })?;
        }
        Ok(name)
    }

    fn bind(&mut self, source: &Path, target: &Path) -> Result<(), ShimError> {
        mount_bind_recursive(source, target).map_err(|errno| {
            mount_error("bind", &source.display().to_string(), target, errno.into())
        })?;
        self.mounted.push(target.to_owned());
        Ok(())
    }
}

impl Drop for SharedDir {
    fn drop(&mut self) {
        for target in self.mounted.iter().rev() {
            if let Err(errno) = unmount(target, UnmountFlags::DETACH) {
                tell(format_args!(
                    "cannot unmount {}: {errno}; it goes away with this process",
                    target.display()
                ));
            }
        }
    }
}

/// One mount(2), with mount(8)'s option words sorted into flags and data.
fn mount_one(step: &Mount, target: &Path) -> Result<(), ShimError> {
    let failed = |source| mount_error(&step.type_, &step.source, target, source);
    let words = Options::sort(&step.options);
    if words.data.len() > MOST_DATA {
        return Err(failed(io::Error::new(
            ErrorKind::InvalidInput,
            format!(
                "its {} bytes of options are more than the {MOST_DATA} that fit; flatten the image's layers",
                words.data.len()
            ),
        )));
    }
    if words.bind || step.type_ == "bind" {
        mount_bind_recursive(&*step.source, target).map_err(|errno| failed(errno.into()))?;
        if !words.flags.is_empty() {
            mount_remount(target, words.flags | MountFlags::BIND, "")
                .map_err(|errno| failed(errno.into()))?;
        }
    } else {
        let data = std::ffi::CString::new(words.data)
            .map_err(|error| failed(io::Error::new(ErrorKind::InvalidInput, error)))?;
        mount(
            &*step.source,
            target,
            &*step.type_,
            words.flags,
            Some(data.as_c_str()),
        )
        .map_err(|errno| failed(errno.into()))?;
    }
    mount_change(target, MountPropagationFlags::PRIVATE).map_err(|errno| failed(errno.into()))
}

fn mount_error(fstype: &str, from: &str, at: &Path, source: io::Error) -> ShimError {
    ShimError::Mount {
        fstype: fstype.to_owned(),
        from: from.to_owned(),
        at: at.to_owned(),
        source,
    }
}

/// mount(8)'s option words, sorted.
#[derive(Debug, PartialEq, Eq)]
struct Options {
    bind: bool,
    flags: MountFlags,
    data: String,
}

impl Options {
    fn sort(words: &[String]) -> Self {
        let mut options = Self {
            bind: false,
            flags: MountFlags::empty(),
            data: String::new(),
        };
        for word in words {
            match word.as_str() {
                "bind" | "rbind" => options.bind = true,
                "rw" => options.flags.remove(MountFlags::RDONLY),
                "ro" => options.flags.insert(MountFlags::RDONLY),
                "nosuid" => options.flags.insert(MountFlags::NOSUID),
                "nodev" => options.flags.insert(MountFlags::NODEV),
                "noexec" => options.flags.insert(MountFlags::NOEXEC),
                "noatime" => options.flags.insert(MountFlags::NOATIME),
                "relatime" => options.flags.insert(MountFlags::RELATIME),
                data => {
                    if !options.data.is_empty() {
                        options.data.push(',');
                    }
                    options.data.push_str(data);
                }
            }
        }
        options
    }
}

#[cfg(test)]
mod tests {
    use rustix::mount::MountFlags;

    use super::Options;

    #[test]
    fn sorts_flags_from_data() {
        let words = ["ro", "nosuid", "workdir=/w", "lowerdir=/a:/b"].map(str::to_owned);
        let options = Options::sort(&words);
        assert_eq!(options.flags, MountFlags::RDONLY | MountFlags::NOSUID);
        assert_eq!(options.data, "workdir=/w,lowerdir=/a:/b");
        assert!(!options.bind);
        assert!(Options::sort(&["rbind".to_owned()]).bind);
    }
}
