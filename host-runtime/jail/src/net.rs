//! A guest's network device, from what the owner hands over.

use std::io;
use std::os::fd::OwnedFd;

use devices::Space;
use devices::net::link::Link;
use devices::net::{Identity, Net};
use host_machine::{LinkKind, NetConfig};

use crate::sys;

/// The device of this network, whose frames go through `descriptor`; `tell` is called with a sentence when that has
/// gone.
///
/// # Errors
/// When the host is out of descriptors.
pub fn device<S: Space>(
    config: &NetConfig,
    descriptor: OwnedFd,
    tell: impl Fn(&str) + Send + 'static,
) -> io::Result<Net<S>> {
    let NetConfig { mac, mtu, .. } = *config;
    let link = match config.link {
        LinkKind::Tap => Link::tap(descriptor, sys::set_offloads)?,
        LinkKind::Stream => Link::stream(descriptor)?,
    };
    let name = config.name.clone();
    let tell = move |what: &str| tell(&format!("{name}: {what}\n"));
    Net::new(Identity { mac, mtu }, link, config.rate, tell)
}
