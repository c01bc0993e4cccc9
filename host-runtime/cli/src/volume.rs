//! `-v HOST:GUEST[:ro]`: a directory of the host that the program sees beside its root file system.

use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use agent_protocol::{Mount, SHARED_TAG};
use host_machine::{Attachment, Machine, MachineError, SubTree};

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Volume {
    host: PathBuf,
    guest: String,
    read_only: bool,
}

impl FromStr for Volume {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.split(':');
        let (host, guest) = (parts.next().unwrap_or(""), parts.next().unwrap_or(""));
        let read_only = match (parts.next(), parts.next()) {
            (None, None) | (Some("rw"), None) => false,
            (Some("ro"), None) => true,
            _ => return Err("after HOST:GUEST there may be ro or rw, and nothing else".to_owned()),
        };
        if host.is_empty() || guest.is_empty() {
            return Err("write HOST:GUEST, or HOST:GUEST:ro".to_owned());
        }
        let is_plain = |name: &str| !matches!(name, "." | "..");
        if !guest.starts_with('/') || guest.trim_matches('/').is_empty() {
            return Err(format!("{guest} is no absolute path below the root"));
        }
        if !guest.split('/').all(is_plain) {
            return Err(format!("{guest} must not have . or .. in it"));
        }
        Ok(Self {
            host: host.into(),
            guest: guest.to_owned(),
            read_only,
        })
    }
}

impl Volume {
    /// Looks whether it is there.
    ///
    /// # Errors
    /// When it is not, or is no directory.
    pub(super) fn check(&self) -> Result<(), MachineError> {
        let path = || self.host.clone();
        let metadata = fs::metadata(&self.host).map_err(|source| MachineError::Open {
            what: "directory of -v",
            path: path(),
            source,
        })?;
        match metadata.is_dir() {
            true => Ok(()),
            false => Err(MachineError::NotADirectory { path: path() }),
        }
    }

    /// Whether this path of the guest is in it.
    pub(super) fn has(&self, path: &str) -> bool {
        Path::new(path).starts_with(&self.guest)
    }
}

/// The name that the one of this number is attached by.
fn name(number: usize) -> String {
    format!("volume{number}")
}

/// Attaches all to a machine that runs.
pub(super) fn attach(volumes: &[Volume], machine: &dyn Machine) -> Result<(), MachineError> {
    for (number, volume) in volumes.iter().enumerate() {
        machine.attach(Attachment::Share(SubTree {
            name: name(number),
            dir: volume.host.clone(),
            read_only: volume.read_only,
        }))?;
    }
    Ok(())
}

/// What the guest is to mount for them.
pub(super) fn mounts(volumes: &[Volume]) -> impl Iterator<Item = Mount> {
    volumes.iter().enumerate().map(|(number, volume)| Mount {
        destination: volume.guest.clone(),
        type_: "virtiofs".to_owned(),
        source: format!("{SHARED_TAG}/{}", name(number)),
        options: volume
            .read_only
            .then(|| "ro".to_owned())
            .into_iter()
            .collect(),
        ..Default::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_and_a_mode() {
        let volume = |text: &str| text.parse::<Volume>();
        let plain = volume("/a:/b/c").expect("right");
        assert!(!plain.read_only && plain.has("/b/c/d") && plain.has("/b/c"));
        assert!(!plain.has("/b") && !plain.has("/b/cd"));
        assert_eq!(volume("/a:/b/c:rw").as_ref(), Ok(&plain));
        assert!(volume("here:/b:ro").expect("right").read_only);
        for wrong in [
            "",
            "/a",
            ":",
            "/a:",
            ":/b",
            "/a:b",
            "/a:/",
            "/a://",
            "/a:/b:z",
            "/a:/b:ro:rw",
            "/a:/b/../c",
            "/a:/b:",
            "/a:/./b",
        ] {
            assert!(volume(wrong).is_err(), "{wrong}");
        }
        let mounts: Vec<_> = mounts(&[plain, volume("/a:/ro:ro").expect("right")]).collect();
        let sources: Vec<_> = mounts.iter().map(|mount| &*mount.source).collect();
        assert_eq!(sources, ["root/volume0", "root/volume1"]);
        assert_eq!(mounts[1].options, ["ro"]);
    }
}
