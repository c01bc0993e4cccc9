//! The interfaces of a network namespace, as CNI plugins and Docker's bridge leave them, become the guest's.
//!
//! Each (one end of a veth pair, mostly) stays where it is. What comes in there is redirected to a tap beside it, and
//! what comes out of the tap to the interface, by tc filters; so the guest has the interface's hardware address, and
//! the addresses and routes that were given to it. The namespace's own stack sees none of it any more. Taps go with
//! their descriptors; the filters are removed by [`Redirects`], or with the interface.
//!
//! All of it is done by threads that are in the namespace, and end.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::mpsc::{Sender, channel};

use futures_util::{Stream, TryStreamExt as _};
use host_machine::{LinkKind, Net, NetConfig};
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::route::RouteMessage;
use rtnetlink::packet_route::tc::TcHandle;
use rtnetlink::{Handle, LinkUnspec};

use crate::dns::Resolver;
use crate::links::{self, Link};
use crate::plan::{Neighbour, Plan, Route};
use crate::{Guard, NetError, Network, sys};

/// The parent of filters of what comes in.
const INGRESS: u32 = 0xffff_0000;
/// All protocols (`ETH_P_ALL` in network order).
const ALL_PROTOCOLS: u16 = 0x0300;

/// The filters that were put into a namespace; dropping this removes them.
#[derive(Debug)]
pub struct Redirects {
    namespace: OwnedFd,
    indexes: Vec<u32>,
}

impl Drop for Redirects {
    fn drop(&mut self) {
        let indexes = std::mem::take(&mut self.indexes);
        let removed = inside(&self.namespace, async |handle| {
            for index in indexes {
                // Gone with the interface, mostly.
                let _ = remove_redirect(&handle, index).await;
            }
            Ok(())
        });
        if let Err(error) = removed {
            tracing::debug!("filters stay in the pod's network namespace: {error}");
        }
    }
}

/// Takes the interfaces of the namespace at `path` over, and the host's name servers. A namespace without any is none
/// for the guest either. So many bytes a second each way, if they are limited.
///
/// # Errors
/// When it is none, or the host's, or has something that the guest cannot be given.
pub fn take_over(path: &Path, rate: Option<u64>) -> Result<Network, NetError> {
    interfaces_of(open(path)?, rate)
}

/// A namespace of this process's own, for others to put interfaces into: it is that of a thread, which waits until this is
/// dropped. So others find it as they find a container's, at `/proc/NUMBER/ns/net`.
#[derive(Debug)]
pub struct Own {
    namespace: OwnedFd,
    thread: u32,
    /// Dropped, it ends the thread.
    _end: Sender<()>,
}

impl Own {
    /// A new one.
    ///
    /// # Errors
    /// When the host allows none.
    pub fn new() -> Result<Self, NetError> {
        let failed = || NetError::host("make a network namespace for the pod");
        let (end, ended) = channel::<()>();
        let (tell, told) = channel();
        let wait = move || {
            let made = sys::leave_network().and_then(|()| File::open("/proc/thread-self/ns/net"));
            let thread = rustix::thread::gettid()
                .as_raw_nonzero()
                .get()
                .unsigned_abs();
            // Somebody waits for it, below.
            let _ = tell.send(made.map(|namespace| (namespace, thread)));
            // Until the other end is dropped.
            let _ = ended.recv();
        };
        let thread = std::thread::Builder::new().name("network".to_owned());
        thread.spawn(wait).map_err(failed())?;
        let made = told.recv().map_err(io::Error::other).flatten();
        let (namespace, thread) = made.map_err(failed())?;
        Ok(Self {
            namespace: namespace.into(),
            thread,
            _end: end,
        })
    }

    /// The number of a process that is in it, for `/proc`.
    #[must_use]
    pub fn thread(&self) -> u32 {
        self.thread
    }

    /// Takes over the interfaces that were put into it.
    ///
    /// # Errors
    /// As [`take_over`].
    pub fn take_over(&self, rate: Option<u64>) -> Result<Network, NetError> {
        let namespace = self.namespace.try_clone();
        interfaces_of(
            namespace.map_err(NetError::host("copy a descriptor"))?,
            rate,
        )
    }
}

fn interfaces_of(namespace: OwnedFd, rate: Option<u64>) -> Result<Network, NetError> {
    let found = inside(&namespace, look)?;
    if let Some(link) = found.links.get(host_machine::MAX_NETS) {
        let what = format!(
            "more than {} interfaces ({})",
            host_machine::MAX_NETS,
            link.interface.name
        );
        return Err(NetError::Unsupported { what });
    }
    // What is there is removed again when a later step fails.
    let mut redirects = Redirects {
        indexes: found.links.iter().map(|link| link.index).collect(),
        namespace,
    };
    let mut nets = Vec::new();
    for link in &found.links {
        let tap = tap_for(&redirects.namespace, link)?;
        nets.push(net(link, tap, rate));
    }
    if nets.is_empty() {
        redirects.indexes.clear();
    }
    let resolver = match nets.is_empty() {
        true => Resolver::default(),
        false => Resolver::of_host(),
    };
    Ok(Network {
        nets,
        plan: Plan {
            interfaces: found.links.into_iter().map(|link| link.interface).collect(),
            routes: links::in_order(found.routes),
            neighbours: found.neighbours,
            name_servers: resolver.servers,
            search_domains: resolver.search,
        },
        guard: Guard {
            _redirects: Some(redirects),
        },
    })
}

fn net(link: &Link, tap: OwnedFd, rate: Option<u64>) -> Net {
    Net {
        config: NetConfig {
            name: link.interface.name.clone(),
            mac: link.interface.mac,
            mtu: link.interface.mtu,
            link: LinkKind::Tap,
            rate,
        },
        link: tap,
    }
}

/// Opens a namespace that is not the host's.
fn open(path: &Path) -> Result<OwnedFd, NetError> {
    let failed = |source| NetError::Namespace {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(failed)?;
    let opened = file.metadata().map_err(failed)?;
    let is_same = |of: &str| {
        std::fs::metadata(of)
            .is_ok_and(|other| (other.dev(), other.ino()) == (opened.dev(), opened.ino()))
    };
    // This process's is the host's, or the one of who manages pods.
    if is_same("/proc/1/ns/net") || is_same("/proc/self/ns/net") {
        return Err(NetError::HostNetwork {
            path: path.to_owned(),
        });
    }
    Ok(file.into())
}

/// What there is in a namespace.
#[derive(Debug, Default)]
struct Found {
    links: Vec<Link>,
    routes: Vec<Route>,
    neighbours: Vec<Neighbour>,
}

async fn look(handle: Handle) -> Result<Found, NetError> {
    let mut found = Found::default();
    let links = all("list interfaces", handle.link().get().execute()).await?;
    for message in &links {
        found.links.extend(links::link(message)?);
    }
    if found.links.is_empty() {
        return Ok(found);
    }
    for message in all("list addresses", handle.address().get().execute()).await? {
        links::add_address(&mut found.links, &message);
    }
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let mut wanted = RouteMessage::default();
        wanted.header.address_family = family;
        for message in all("list routes", handle.route().get(wanted).execute()).await? {
            found.routes.extend(links::route(&found.links, &message)?);
        }
    }
    for message in all("list neighbours", handle.neighbours().get().execute()).await? {
        found
            .neighbours
            .extend(links::neighbour(&found.links, &message));
    }
    Ok(found)
}

async fn all<T>(
    what: &'static str,
    stream: impl Stream<Item = Result<T, rtnetlink::Error>>,
) -> Result<Vec<T>, NetError> {
    stream.try_collect().await.map_err(NetError::netlink(what))
}

/// Makes a tap beside an interface, and leads each into the other.
fn tap_for(namespace: &OwnedFd, link: &Link) -> Result<OwnedFd, NetError> {
    let (index, mtu) = (link.index, u32::from(link.interface.mtu));
    inside(namespace, async move |handle| {
        let (tap, name) = sys::make_tap().map_err(NetError::host(
            "make a tap (/dev/net/tun) in the pod's network namespace",
        ))?;
        // The host says nothing of its own on it; where there is no IPv6 there is no such file.
        let _ = std::fs::write(format!("/proc/sys/net/ipv6/conf/{name}/disable_ipv6"), "1");
        let messages = all("find a tap", handle.link().get().match_name(name).execute()).await?;
        let tap_index = messages.first().map_or(0, |message| message.header.index);
        let up = LinkUnspec::new_with_index(tap_index);
        let up = up.mtu(mtu).up().build();
        let set = handle.link().set(up).execute().await;
        set.map_err(NetError::netlink("bring a tap up"))?;
        // One that a pod which was killed has left behind.
        let _ = remove_redirect(&handle, index).await;
        redirect(&handle, index, tap_index).await?;
        redirect(&handle, tap_index, index).await?;
        Ok(tap)
    })
}

/// Has all that comes in at one interface go out of another.
async fn redirect(handle: &Handle, from: u32, to: u32) -> Result<(), NetError> {
    let from = from.cast_signed();
    let made = handle.qdisc().add(from).ingress().execute().await;
    made.map_err(NetError::netlink("filter what comes in at an interface"))?;
    let filter = handle.traffic_filter(from).add();
    let filter = filter.parent(INGRESS).protocol(ALL_PROTOCOLS);
    let failed = || NetError::netlink("redirect an interface");
    let filter = filter.redirect(to).map_err(failed())?;
    filter.execute().await.map_err(failed())
}

async fn remove_redirect(handle: &Handle, index: u32) -> Result<(), rtnetlink::Error> {
    let mut removal = handle.qdisc().del(index.cast_signed());
    removal.message_mut().header.parent = TcHandle::INGRESS;
    removal.message_mut().header.handle = TcHandle::from(INGRESS);
    removal.execute().await
}

/// Does something on a thread that is in the namespace, with netlink's connection to it.
fn inside<T, F>(namespace: &OwnedFd, work: F) -> Result<T, NetError>
where
    T: Send,
    F: AsyncFnOnce(Handle) -> Result<T, NetError> + Send,
{
    let enter = || -> io::Result<tokio::runtime::Runtime> {
        sys::enter_network(namespace.as_fd())?;
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_io().enable_time().build()
    };
    let run = || {
        let runtime = enter().map_err(NetError::host("enter the pod's network namespace"))?;
        runtime.block_on(async {
            let connected = rtnetlink::new_connection();
            let (connection, handle, _) = connected.map_err(NetError::host("open netlink"))?;
            // It ends with the runtime.
            tokio::spawn(connection);
            work(handle).await
        })
    };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("namespace".to_owned());
        let spawned = thread.spawn_scoped(scope, run);
        let joined = spawned.map_err(NetError::host("start a thread"))?.join();
        joined.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
