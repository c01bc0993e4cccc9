//! From the server's words to the kernel's, checked.

use abi::{Errno, Result};

use super::wire::{Attr, SetAttrIn, fattr};
use crate::metadata::{DeviceId, FileKind, Metadata, S_IFMT, SetAttr, Timestamp};
use crate::user_namespace::{Kgid, Kuid, UserNamespace};

/// Where ids have the numbers that the server means.
pub(super) const SERVERS: UserNamespace = UserNamespace::INITIAL;

/// The largest size a file can have (`loff_t`).
const MAX_SIZE: u64 = i64::MAX as u64;

/// Attributes as the kernel has them.
///
/// # Errors
/// `EIO` for a kind or size that cannot be.
pub(super) fn metadata(attr: &Attr) -> Result<Metadata> {
    let kind = FileKind::from_mode(attr.mode).ok_or(Errno::EIO)?;
    if attr.size > MAX_SIZE {
        return Err(Errno::EIO);
    }
    let stamp = |seconds: u64, nanoseconds: u32| {
        Timestamp::new(seconds.cast_signed(), nanoseconds.min(999_999_999))
    };
    Ok(Metadata {
        ino: attr.ino,
        kind,
        is_typeless: false,
        mode: attr.mode & !S_IFMT & 0o7777,
        nlink: attr.nlink,
        // A number that is nobody's is never the caller's.
        uid: SERVERS.kuid(attr.uid).unwrap_or(Kuid::INVALID),
        gid: SERVERS.kgid(attr.gid).unwrap_or(Kgid::INVALID),
        size: attr.size,
        blocks: attr.blocks,
        block_size: attr.blksize.clamp(512, 1 << 20),
        rdev: device(attr.rdev),
        atime: stamp(attr.atime, attr.atimensec),
        mtime: stamp(attr.mtime, attr.mtimensec),
        ctime: stamp(attr.ctime, attr.ctimensec),
    })
}

/// A device number in the protocol's 32-bit encoding: 12 bits major, 20 bits minor.
pub(super) fn device(rdev: u32) -> DeviceId {
    DeviceId::new(rdev >> 8 & 0xfff, rdev & 0xff | rdev >> 12 & 0xfff00)
}

/// The protocol's encoding of a device number.
pub(super) fn rdev(device: DeviceId) -> u32 {
    device.minor & 0xff | (device.major & 0xfff) << 8 | (device.minor & 0xfff00) << 12
}

/// The request that makes `change`.
pub(super) fn set_attr(change: &SetAttr) -> SetAttrIn {
    let mut request = SetAttrIn::default();
    if let Some(mode) = change.mode {
        request.valid |= fattr::MODE;
        request.mode = mode;
    }
    if let Some(uid) = change.uid {
        request.valid |= fattr::UID;
        request.uid = SERVERS.shown_uid(uid);
    }
    if let Some(gid) = change.gid {
        request.valid |= fattr::GID;
        request.gid = SERVERS.shown_gid(gid);
    }
    if let Some(size) = change.size {
        request.valid |= fattr::SIZE;
        request.size = size;
    }
    if let Some(time) = change.atime {
        request.valid |= fattr::ATIME;
        (request.atime, request.atimensec) = split(time);
    }
    if let Some(time) = change.mtime {
        request.valid |= fattr::MTIME;
        (request.mtime, request.mtimensec) = split(time);
    }
    // The server's file system stamps the change time itself.
    request
}

fn split(time: Timestamp) -> (u64, u32) {
    (time.seconds().cast_unsigned(), time.nanoseconds())
}

/// When something the server said for a while stops being believed, in monotonic nanoseconds.
pub(super) fn valid_until(seconds: u64, nanoseconds: u32) -> u64 {
    let span = seconds
        .saturating_mul(1_000_000_000)
        .saturating_add(u64::from(nanoseconds));
    if span == 0 {
        0
    } else {
        sched::clock::monotonic_ns().saturating_add(span)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_numbers_survive_the_wire() {
        for (major, minor) in [(1, 3), (5, 2), (136, 0xabcde), (0xfff, 0xff)] {
            assert_eq!(
                device(rdev(DeviceId::new(major, minor))),
                DeviceId::new(major, minor)
            );
        }
    }

    #[test]
    fn impossible_attributes_are_refused() {
        let good = Attr {
            mode: 0o100_644,
            ..Attr::default()
        };
        assert!(metadata(&good).is_ok());
        assert_eq!(
            metadata(&Attr {
                mode: 0o644,
                ..good
            }),
            Err(Errno::EIO)
        );
        assert_eq!(
            metadata(&Attr {
                size: u64::MAX,
                ..good
            }),
            Err(Errno::EIO)
        );
    }
}
