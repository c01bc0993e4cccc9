//! The directory that a container's guest sees: its root file system and its bind mounts.
//!
//! `<bundle>/shared` is what virtio-fs serves: `rootfs` in it is the container's root, `mounts/N` the
//! N-th bind mount's source. Everything is mounted in the owner's mount namespace, which should be its own,
//! and unmounted when it is dropped.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use agent_protocol::MountOptions;
use host_machine::printing::said;
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_bind_recursive,
    mount_change, mount_remount, unmount,
};

use crate::ImageError;

/// Most bytes of options that one mount(2) takes: a page, with its NUL.
const MOST_DATA: usize = 4095;

/// One step in mounting a root file system, as a snapshotter gives it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RootfsMount {
    /// The file system's type.
    pub kind: String,
    /// Its source.
    pub source: String,
    /// Words as mount(8) has them.
    pub options: Vec<String>,
}

/// The shared directory of one container.
#[derive(Debug)]
pub struct SharedDir {
    path: PathBuf,
    mounted: Vec<PathBuf>,
}

impl SharedDir {
    /// Makes the empty directory inside the bundle.
    ///
    /// # Errors
    /// When the host refuses.
    pub fn create(bundle: &Path) -> Result<Self, ImageError> {
        let path = bundle.join("shared");
        fs::create_dir_all(&path).map_err(ImageError::file("make", &path))?;
        Ok(Self {
            path,
            mounted: Vec::new(),
        })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Mounts the root file system: what containerd's snapshotter gave, or the bundle's own directory.
    ///
    /// # Errors
    /// As mount(2), with what was to be mounted.
    pub fn mount_rootfs(&mut self, mounts: &[RootfsMount], root: &Path) -> Result<(), ImageError> {
        let target = self.path.join("rootfs");
        fs::create_dir_all(&target).map_err(ImageError::file("make", &target))?;
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
    ///
    /// # Errors
    /// As mount(2), with what was to be mounted.
    pub fn add_bind(&mut self, source: &Path, read_only: bool) -> Result<String, ImageError> {
        let name = format!("mounts/{}", self.mounted.len());
        let target = self.path.join(&name);
        let metadata = fs::metadata(source).map_err(ImageError::file("bind-mount", source))?;
        let made = match metadata.is_dir() {
            true => fs::create_dir_all(&target),
            false => {
                fs::create_dir_all(self.path.join("mounts")).and_then(|()| fs::write(&target, ""))
            }
        };
        made.map_err(ImageError::file("make", &target))?;
        self.bind(source, &target)?;
        if read_only {
            // The one mount and not what is mounted below it, as everywhere.
            mount_remount(&target, MountFlags::RDONLY | MountFlags::BIND, "").map_err(|errno| {
                mount_error("bind", &source.display().to_string(), &target, errno.into())
            })?;
        }
        Ok(name)
    }

    fn bind(&mut self, source: &Path, target: &Path) -> Result<(), ImageError> {
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
                tracing::warn!(
                    "cannot unmount {}: {}; it goes away with this process",
                    target.display(),
                    said(&errno.into())
                );
            }
        }
    }
}

/// One mount(2), with mount(8)'s option words sorted into flags and data.
fn mount_one(step: &RootfsMount, target: &Path) -> Result<(), ImageError> {
    let failed = |source| mount_error(&step.kind, &step.source, target, source);
    let refused = |word| {
        failed(io::Error::new(
            ErrorKind::Unsupported,
            format!("option {word}"),
        ))
    };
    let options = MountOptions::sort(&step.options).map_err(refused)?;
    let data = options.data.join(",");
    if data.len() > MOST_DATA {
        return Err(failed(io::Error::new(
            ErrorKind::InvalidInput,
            format!(
                "its {} bytes of options are more than the {MOST_DATA} that fit; flatten the image's layers",
                data.len()
            ),
        )));
    }
    if options.bind || step.kind == "bind" {
        let bound = match options.recursive {
            true => mount_bind_recursive(&*step.source, target),
            false => mount_bind(&*step.source, target),
        };
        bound.map_err(|errno| failed(errno.into()))?;
        if !options.flags.is_empty() {
            mount_remount(target, options.flags | MountFlags::BIND, "")
                .map_err(|errno| failed(errno.into()))?;
        }
    } else {
        let data = std::ffi::CString::new(data)
            .map_err(|error| failed(io::Error::new(ErrorKind::InvalidInput, error)))?;
        mount(
            &*step.source,
            target,
            &*step.kind,
            options.flags,
            Some(data.as_c_str()),
        )
        .map_err(|errno| failed(errno.into()))?;
    }
    mount_change(target, MountPropagationFlags::PRIVATE).map_err(|errno| failed(errno.into()))
}

fn mount_error(fstype: &str, from: &str, at: &Path, source: io::Error) -> ImageError {
    ImageError::Mount {
        fstype: fstype.to_owned(),
        from: from.to_owned(),
        at: at.to_owned(),
        source,
    }
}
