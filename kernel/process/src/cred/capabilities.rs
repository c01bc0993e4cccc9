//! Capability sets: capset(2) and the capability operations of prctl(2).

use abi::{Errno, Result};
use fs::{Capabilities, Credentials};

use super::securebits;

/// capset(2).
///
/// # Errors
/// `EPERM` when a set would grow beyond what it may.
pub fn capset(
    old: &Credentials,
    effective: Capabilities,
    permitted: Capabilities,
    inheritable: Capabilities,
) -> Result<Credentials> {
    let setpcap = old.own_ns_capable(Capabilities::SETPCAP);
    let beyond_permitted = !(old.inheritable | old.permitted).contains(inheritable);
    let beyond_bounding = !(old.inheritable | old.bounding).contains(inheritable);
    if beyond_permitted && !setpcap
        || beyond_bounding
        || !old.permitted.contains(permitted)
        || !permitted.contains(effective)
    {
        return Err(Errno::EPERM);
    }
    Ok(Credentials {
        effective,
        permitted,
        inheritable,
        ambient: old.ambient & permitted & inheritable,
        ..old.clone()
    })
}

/// `PR_CAPBSET_DROP`.
///
/// # Errors
/// `EPERM` without CAP_SETPCAP.
pub fn drop_bounding(old: &Credentials, dropped: Capabilities) -> Result<Credentials> {
    if !old.own_ns_capable(Capabilities::SETPCAP) {
        return Err(Errno::EPERM);
    }
    Ok(Credentials {
        bounding: old.bounding - dropped,
        ..old.clone()
    })
}

/// `PR_CAP_AMBIENT_RAISE`.
///
/// # Errors
/// `EPERM` when it is not both permitted and inheritable, or a securebit forbids it.
pub fn raise_ambient(old: &Credentials, raised: Capabilities) -> Result<Credentials> {
    if !(old.permitted & old.inheritable).contains(raised)
        || old.securebits & securebits::NO_CAP_AMBIENT_RAISE != 0
    {
        return Err(Errno::EPERM);
    }
    Ok(Credentials {
        ambient: old.ambient | raised,
        ..old.clone()
    })
}

/// `PR_CAP_AMBIENT_LOWER`, and with all of them `PR_CAP_AMBIENT_CLEAR_ALL`.
#[must_use]
pub fn lower_ambient(old: &Credentials, lowered: Capabilities) -> Credentials {
    Credentials {
        ambient: old.ambient - lowered,
        ..old.clone()
    }
}

/// `PR_SET_SECUREBITS`.
///
/// # Errors
/// `EPERM` for an unknown bit, a locked one, or without CAP_SETPCAP.
pub fn set_securebits(old: &Credentials, bits: u32) -> Result<Credentials> {
    let locks = old.securebits & securebits::ALL_LOCKS;
    let changes_locked = (locks >> 1) & (old.securebits ^ bits) != 0;
    let drops_lock = locks & !bits != 0;
    if bits & !securebits::ALL != 0
        || changes_locked
        || drops_lock
        || !old.own_ns_capable(Capabilities::SETPCAP)
    {
        return Err(Errno::EPERM);
    }
    Ok(Credentials {
        securebits: bits,
        ..old.clone()
    })
}
