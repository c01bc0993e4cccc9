//! /proc/sys/net: what can be set of a network.

use alloc::sync::Arc;

use abi::{Errno, Result};

use super::stack::Settings;
use crate::namespace::NetNamespace;

/// What can be set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Setting {
    /// `net.ipv4.ip_local_port_range`.
    PortRange,
    /// `net.ipv4.ip_unprivileged_port_start`.
    FirstUnprivileged,
    /// `net.core.somaxconn`.
    MostBacklog,
    /// `net.ipv4.tcp_max_tw_buckets`.
    MostTimeWait,
    /// `net.ipv6.bindv6only`.
    OnlyV6,
}

/// What is set: a number, or two.
///
/// # Errors
/// `ENOMEM`.
pub fn get(namespace: &Arc<NetNamespace>, which: Setting) -> Result<(u64, Option<u64>)> {
    namespace.look(|stack| {
        let settings = &stack.settings;
        match which {
            Setting::PortRange => (
                settings.port_range.0.into(),
                Some(settings.port_range.1.into()),
            ),
            Setting::FirstUnprivileged => (settings.first_unprivileged.into(), None),
            Setting::MostBacklog => (settings.somaxconn.into(), None),
            Setting::MostTimeWait => (settings.most_time_wait as u64, None),
            Setting::OnlyV6 => (settings.bind_v6_only.into(), None),
        }
    })
}

/// Sets it.
///
/// # Errors
/// `EINVAL` for what cannot be, `ENOMEM`.
pub fn set(
    namespace: &Arc<NetNamespace>,
    which: Setting,
    first: u64,
    second: Option<u64>,
) -> Result<()> {
    namespace.look(|stack| change(&mut stack.settings, which, first, second))?
}

fn change(settings: &mut Settings, which: Setting, first: u64, second: Option<u64>) -> Result<()> {
    let port = |number: u64| u16::try_from(number).map_err(|_| Errno::EINVAL);
    match which {
        Setting::PortRange => {
            let range = (port(first)?, port(second.ok_or(Errno::EINVAL)?)?);
            if range.0 == 0 || range.0 > range.1 {
                return Err(Errno::EINVAL);
            }
            settings.port_range = range;
        }
        // One more than there are ports: none is for the unprivileged.
        Setting::FirstUnprivileged if first <= 65536 => {
            settings.first_unprivileged = u32::try_from(first).unwrap_or(0);
        }
        Setting::FirstUnprivileged => return Err(Errno::EINVAL),
        Setting::MostBacklog => {
            let most = u32::try_from(first).map_err(|_| Errno::EINVAL)?;
            settings.somaxconn = most;
        }
        Setting::MostTimeWait => {
            settings.most_time_wait = usize::try_from(first).map_err(|_| Errno::EINVAL)?;
        }
        Setting::OnlyV6 => settings.bind_v6_only = first != 0,
    }
    Ok(())
}
