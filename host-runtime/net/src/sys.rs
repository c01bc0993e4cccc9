//! The crate's only unsafe code: making a tap, for which no crate has a safe call.

use std::fs::File;
use std::io::{Error, Result};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

/// Linux's if_tun.h.
const TUNSETIFF: libc::c_ulong = 0x4004_54ca;
const TUNSETVNETHDRSZ: libc::c_ulong = 0x4004_54d8;
/// Bytes of the header before each packet (`struct virtio_net_hdr_v1`).
const HEADER: libc::c_int = 12;

/// Makes a tap in the calling thread's network namespace, which goes when its descriptor does. Gives the descriptor and
/// the name that the kernel has chosen.
///
/// # Errors
/// What the kernel said.
pub(crate) fn make_tap() -> Result<(OwnedFd, String)> {
    let file = File::options()
        .read(true)
        .write(true)
        .open("/dev/net/tun")?;
    let flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
    let mut request = libc::ifreq {
        ifr_name: [0; libc::IFNAMSIZ],
        ifr_ifru: libc::__c_anonymous_ifr_ifru {
            ifru_flags: libc::c_short::try_from(flags).map_err(Error::other)?,
        },
    };
    let template = b"nacre%d";
    for (to, from) in request.ifr_name.iter_mut().zip(template) {
        *to = from.cast_signed();
    }
    // SAFETY: TUNSETIFF reads and writes one `struct ifreq`, which `request` is for as long as the call lasts, and
    // `file` is open.
    let made = unsafe { libc::ioctl(file.as_raw_fd(), TUNSETIFF, &raw mut request) };
    check(made)?;
    let size = HEADER;
    // SAFETY: TUNSETVNETHDRSZ reads one int, which `size` is for as long as the call lasts, and `file` is open.
    let sized = unsafe { libc::ioctl(file.as_raw_fd(), TUNSETVNETHDRSZ, &raw const size) };
    check(sized)?;
    let name = request.ifr_name.iter().take_while(|byte| **byte != 0);
    let name = name.map(|byte| char::from(byte.cast_unsigned())).collect();
    Ok((file.into(), name))
}

/// Has the calling thread, and no other, be in a network namespace.
///
/// # Errors
/// What the kernel said, `EINVAL` for a descriptor of something else.
pub(crate) fn enter_network(namespace: BorrowedFd<'_>) -> Result<()> {
    // SAFETY: setns(2) takes two integers and touches no memory; with CLONE_NEWNET it changes nothing that other
    // threads share.
    let entered = unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) };
    check(entered)
}

/// Has the calling thread, and no other, be in a new network namespace.
///
/// # Errors
/// What the kernel said.
pub(crate) fn leave_network() -> Result<()> {
    // SAFETY: unshare(2) takes an integer and touches no memory; with CLONE_NEWNET it changes nothing that other threads
    // share.
    let left = unsafe { libc::unshare(libc::CLONE_NEWNET) };
    check(left)
}

fn check(result: libc::c_int) -> Result<()> {
    match result {
        0 => Ok(()),
        _ => Err(Error::last_os_error()),
    }
}
