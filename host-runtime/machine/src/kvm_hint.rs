//! What to do about a /dev/kvm that cannot be used: whose it is, and how to become one who may.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;

const KVM: &str = "/dev/kvm";

/// Advice for the error of opening it.
pub(crate) fn kvm_hint(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => {
            "load the kvm module, enable virtualisation in the firmware, or pass /dev/kvm into the container"
                .to_owned()
        }
        io::ErrorKind::PermissionDenied => match fs::metadata(KVM) {
            Ok(metadata) => permission(
                &name("/etc/passwd", metadata.uid()),
                &name("/etc/group", metadata.gid()),
                metadata.mode(),
            ),
            Err(_) => "run as root".to_owned(),
        },
        _ => "check that the host kernel supports KVM".to_owned(),
    }
}

/// For a device of this user and group, with these permission bits.
fn permission(user: &str, group: &str, mode: u32) -> String {
    let owned = format!("it belongs to {user}:{group} with mode {:o}", mode & 0o777);
    let member = "usermod --append --groups";
    match mode & 0o060 {
        0o060 if group != "root" => {
            format!("{owned}: as root, run `{member} {group} USER` for your user, and log in again")
        }
        _ => format!(
            "{owned}, so the group gets nothing: as root, run `chgrp kvm {KVM} && chmod 660 {KVM}`, then `{member} kvm USER`, and log in again"
        ),
    }
}

/// The name of an id by a database, or its number.
fn name(database: &str, id: u32) -> String {
    let text = fs::read_to_string(database).unwrap_or_default();
    let entry = text.lines().find(|line| {
        let number = line.split(':').nth(2);
        number.and_then(|number| number.parse().ok()) == Some(id)
    });
    let name = entry.and_then(|entry| entry.split(':').next());
    name.map_or_else(|| id.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::{name, permission};

    #[test]
    fn the_advice_fits_whose_the_device_is() {
        let usual = permission("root", "kvm", 0o20660);
        assert!(usual.contains("root:kvm with mode 660"), "{usual}");
        assert!(usual.contains("--groups kvm USER"), "{usual}");
        for (group, mode) in [("root", 0o20660), ("kvm", 0o20600)] {
            let said = permission("root", group, mode);
            assert!(said.contains("chgrp kvm /dev/kvm"), "{said}");
        }
        assert_eq!(name("/etc/passwd", 0), "root");
        assert_eq!(name("/no/such/file", 7), "7");
    }
}
