//! From the addresses that programs name to endpoints, and back.

use abi::raw::net::{AF_INET, AF_INET6};
use abi::{Errno, Result};

use super::ip::{Endpoint, Ip};
use crate::address::Address;

/// An endpoint as a socket of this version tells it.
pub(super) fn told(endpoint: Endpoint, is_v6: bool) -> Address {
    if is_v6 {
        // What was never set is the address of version 6.
        Address::Inet6 {
            endpoint,
            flow: 0,
            scope: 0,
        }
    } else {
        Address::Inet(endpoint)
    }
}

/// The endpoint of an address for a socket of version 6 or 4 to bind to.
///
/// # Errors
/// `EINVAL` for one that is too short, or of version 4 where the socket does not take those, `EAFNOSUPPORT` for another
/// family's.
pub(super) fn to_bind(address: &Address, is_v6: bool, is_v6_only: bool) -> Result<Endpoint> {
    match (address, is_v6) {
        (Address::Inet(endpoint), false) => Ok(*endpoint),
        (Address::Inet6 { endpoint, .. }, true) => {
            if endpoint.ip.is_v4() && is_v6_only {
                return Err(Errno::EINVAL);
            }
            Ok(*endpoint)
        }
        _ => Err(wrong(address, is_v6)),
    }
}

/// The endpoint to connect or send to. What stands for all addresses is this machine's.
///
/// # Errors
/// `EINVAL` for one that is too short, `EAFNOSUPPORT` for another family's, `ENETUNREACH` for one of version 4 that the
/// socket does not take.
pub(super) fn to_reach(
    address: &Address,
    is_v6: bool,
    is_v6_only: bool,
    takes_v4: bool,
) -> Result<Endpoint> {
    let endpoint = match (address, is_v6) {
        (Address::Inet(endpoint), false) => *endpoint,
        (Address::Inet(endpoint), true) if takes_v4 => *endpoint,
        (Address::Inet6 { endpoint, .. }, true) => *endpoint,
        _ => return Err(wrong(address, is_v6)),
    };
    if endpoint.ip.is_v4() && is_v6 && is_v6_only {
        return Err(Errno::ENETUNREACH);
    }
    let ip = match endpoint.ip {
        Ip::ANY4 => Ip::LOOPBACK4,
        Ip::ANY6 => Ip::LOOPBACK6,
        other => other,
    };
    Ok(Endpoint::new(ip, endpoint.port))
}

fn wrong(address: &Address, is_v6: bool) -> Errno {
    let own = if is_v6 { AF_INET6 } else { AF_INET };
    match address {
        Address::Other(family) if u32::from(*family) == own => Errno::EINVAL,
        // Shorter than one of version 6, which is seen first.
        Address::Inet(_) if is_v6 => Errno::EINVAL,
        _ => Errno::EAFNOSUPPORT,
    }
}
