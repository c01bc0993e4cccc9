//! A network of the pod's own, behind `passt`: each of the guest's connections becomes one of the host's, made by a
//! process without rights. Ordinary users may have it.
//!
//! `passt` gets one end of a stream and ends when the other end, the microVM's, is gone: nobody has to end it, and
//! nothing is left however the pod ends. It confines itself (namespaces, an empty root, a filter of system calls).

use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use host_machine::printing::printable;
use host_machine::{LinkKind, Net, NetConfig};
use rustix::io::FdFlags;

use crate::dns::Resolver;
use crate::plan::{Address, Interface, Plan, Route};
use crate::ports::Forward;
use crate::{Guard, NetError, Network};

/// The program, found in PATH.
const PROGRAM: &str = "passt";
/// How long it may take until it serves.
const BOUND: Duration = Duration::from_secs(30);
/// Between looks whether it does.
const PAUSE: Duration = Duration::from_millis(2);
/// How much of what it says is kept, in bytes.
const SAID: usize = 4096;

/// The name of the guest's interface.
const NAME: &str = "eth0";
/// The longest packet that it takes.
const MTU: u16 = 65_520;
/// The guest's addresses, the network's, and where questions about names go.
const ADDRESS4: Address = Address {
    ip: IpAddr::V4(Ipv4Addr::new(10, 0, 2, 15)),
    prefix: 24,
};
const GATEWAY4: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);
const NAMES4: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 3);
const ADDRESS6: Address = Address {
    ip: IpAddr::V6(Ipv6Addr::new(0xfd6e, 0x6163, 0x7265, 0, 0, 0, 0, 15)),
    prefix: 64,
};
const GATEWAY6: Ipv6Addr = Ipv6Addr::new(0xfd6e, 0x6163, 0x7265, 0, 0, 0, 0, 2);
const NAMES6: Ipv6Addr = Ipv6Addr::new(0xfd6e, 0x6163, 0x7265, 0, 0, 0, 0, 3);

/// Which protocols lead out of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Families {
    v4: bool,
    v6: bool,
}

/// A network with these ports of the host's, and so many bytes a second each way, if they are limited.
///
/// # Errors
/// When there is no `passt`, no way out of the host, or a port is taken.
pub fn start(forwards: &[Forward], rate: Option<u64>) -> Result<Network, NetError> {
    let families = Families::of_host();
    if !families.v4 && !families.v6 {
        return Err(NetError::NoRoute);
    }
    for forward in forwards {
        forward.check().map_err(|source| NetError::Port {
            forward: *forward,
            source,
        })?;
    }
    let resolver = Resolver::of_host();
    let (ours, theirs) = UnixStream::pair().map_err(NetError::host("make a socket pair"))?;
    let arguments = arguments(families, &resolver, forwards);
    run(theirs.into(), &arguments)?;
    let mac = random_mac()?;
    Ok(Network {
        nets: vec![Net {
            config: NetConfig {
                name: NAME.to_owned(),
                mac,
                mtu: MTU,
                link: LinkKind::Stream,
                rate,
            },
            link: ours.into(),
        }],
        plan: plan(mac, families, resolver),
        guard: Guard::default(),
    })
}

impl Families {
    /// Those with a default route.
    fn of_host() -> Self {
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        Self {
            v4: has_default4(&read("/proc/thread-self/net/route")),
            v6: has_default6(&read("/proc/thread-self/net/ipv6_route")),
        }
    }
}

/// Whether a table as /proc/net/route has it leads everywhere: destination and mask are zero.
fn has_default4(table: &str) -> bool {
    table.lines().skip(1).any(|line| {
        let words: Vec<_> = line.split_whitespace().collect();
        matches!(words[..], [_, "00000000", _, _, _, _, _, "00000000", ..])
    })
}

/// Whether one as /proc/net/ipv6_route has it does. The kernel's own entry, which refuses everything, is at lo.
fn has_default6(table: &str) -> bool {
    table.lines().any(|line| {
        let words: Vec<_> = line.split_whitespace().collect();
        let is_default = |to: &str| to.bytes().all(|digit| digit == b'0');
        matches!(words[..], [to, "00", .., device] if is_default(to) && device != "lo")
    })
}

/// What `passt` is told besides its end of the stream.
fn arguments(families: Families, resolver: &Resolver, forwards: &[Forward]) -> Vec<String> {
    let mut arguments = vec!["--quiet".to_owned(), "--no-map-gw".to_owned()];
    let mut add = |option: &str, value: String| {
        arguments.extend([option.to_owned(), value]);
    };
    add("--mtu", MTU.to_string());
    if families.v4 {
        add("--address", ADDRESS4.ip.to_string());
        add("--netmask", ADDRESS4.prefix.to_string());
        add("--gateway", GATEWAY4.to_string());
        if resolver.servers.iter().any(IpAddr::is_ipv4) {
            add("--dns-forward", NAMES4.to_string());
        }
    }
    if families.v6 {
        add("--address", ADDRESS6.ip.to_string());
        add("--gateway", GATEWAY6.to_string());
        if resolver.servers.iter().any(IpAddr::is_ipv6) {
            add("--dns-forward", NAMES6.to_string());
        }
    }
    for forward in forwards {
        let [option, value] = forward.for_passt();
        add(&option, value);
    }
    match families {
        Families { v6: false, .. } => arguments.push("--ipv4-only".to_owned()),
        Families { v4: false, .. } => arguments.push("--ipv6-only".to_owned()),
        Families { .. } => {}
    }
    arguments
}

/// What the guest does with it.
fn plan(mac: [u8; 6], families: Families, resolver: Resolver) -> Plan {
    let mut addresses = Vec::new();
    let mut plan = Plan {
        search_domains: resolver.search,
        ..Plan::default()
    };
    let mut family = |is_there: bool, address: Address, gateway: IpAddr, names: IpAddr| {
        if !is_there {
            return;
        }
        addresses.push(address);
        plan.routes.push(Route {
            destination: None,
            gateway: Some(gateway),
            interface: NAME.to_owned(),
        });
        let is_of_family = |server: &IpAddr| server.is_ipv4() == names.is_ipv4();
        if resolver.servers.iter().any(is_of_family) {
            plan.name_servers.push(names);
        }
    };
    family(families.v4, ADDRESS4, GATEWAY4.into(), NAMES4.into());
    family(families.v6, ADDRESS6, GATEWAY6.into(), NAMES6.into());
    plan.interfaces.push(Interface {
        name: NAME.to_owned(),
        mac,
        mtu: MTU,
        addresses,
    });
    plan
}

/// Starts it with its end of the stream; it serves when this returns.
fn run(stream: OwnedFd, arguments: &[String]) -> Result<(), NetError> {
    rustix::io::fcntl_setfd(&stream, FdFlags::empty())
        .map_err(NetError::host("hand over a socket"))?;
    let (said, stderr) = io::pipe().map_err(NetError::host("make a pipe"))?;
    let mut command = Command::new(PROGRAM);
    command
        .args(["--fd", &stream.as_raw_fd().to_string()])
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(stderr);
    let child = command.spawn().map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => NetError::NoPasst,
        _ => NetError::host(format!("start {PROGRAM}"))(source),
    })?;
    drop(command);
    drop(stream);
    let status = wait(child)?;
    match status.success() {
        true => Ok(()),
        false => Err(NetError::Passt {
            said: last_words(said),
        }),
    }
}

/// Waits until it has gone into the background, which it does once it serves, or has failed.
fn wait(mut child: Child) -> Result<ExitStatus, NetError> {
    let begun = Instant::now();
    loop {
        let status = child.try_wait();
        if let Some(status) = status.map_err(NetError::host(format!("wait for {PROGRAM}")))? {
            return Ok(status);
        }
        if begun.elapsed() > BOUND {
            // Nobody else is there to end it.
            let _ = child.kill().and_then(|()| child.wait());
            return Err(NetError::PasstSlow {
                seconds: BOUND.as_secs(),
            });
        }
        std::thread::sleep(PAUSE);
    }
}

/// What it has said on its way out, without what it says of its own log.
fn last_words(said: io::PipeReader) -> String {
    let mut words = Vec::new();
    // It has ended, and nobody else has the other end.
    let _ = said.take(SAID as u64).read_to_end(&mut words);
    let words = String::from_utf8_lossy(&words);
    let is_of_log =
        |line: &str| line.contains("to syslog") || line.starts_with("Don't run as root");
    let lines: Vec<_> = words.lines().filter(|line| !is_of_log(line)).collect();
    match lines.is_empty() {
        true => "it gave no reason".to_owned(),
        false => printable(&lines.join("; ")),
    }
}

/// An address that nobody has assigned to anything.
fn random_mac() -> Result<[u8; 6], NetError> {
    let mut mac = [0; 6];
    rustix::rand::getrandom(&mut mac, rustix::rand::GetRandomFlags::empty())
        .map_err(NetError::host("get random bytes"))?;
    // One station, and locally administered.
    mac[0] = mac[0] & !1 | 2;
    Ok(mac)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: Families = Families { v4: true, v6: true };

    #[test]
    fn default_routes_are_found_and_others_are_none() {
        let head = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\n";
        let near = "eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n";
        let far = "eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n";
        assert!(!has_default4("") && !has_default4(&[head, near].concat()));
        assert!(has_default4(&[head, near, far].concat()));
        let line = |device: &str| {
            let zero = "0".repeat(32);
            format!("{zero} 00 {zero} 00 {zero} ffffffff 00000001 00000000 00200200 {device}\n")
        };
        assert!(!has_default6(&line("lo")) && has_default6(&line("eth0")));
        assert!(!has_default6(&format!("fe80{}", line("eth0"))));
    }

    #[test]
    fn passt_and_the_guest_are_told_the_same() {
        let resolver = || Resolver {
            servers: vec![Ipv4Addr::new(127, 0, 0, 53).into()],
            search: vec!["a.test".to_owned()],
        };
        let forward = "127.0.0.1:8080:80".parse().expect("right");
        let said = arguments(BOTH, &resolver(), &[forward]).join(" ");
        assert_eq!(
            said,
            "--quiet --no-map-gw --mtu 65520 --address 10.0.2.15 --netmask 24 --gateway 10.0.2.2 \
             --dns-forward 10.0.2.3 --address fd6e:6163:7265::f --gateway fd6e:6163:7265::2 \
             -t 127.0.0.1/8080:80"
        );
        let plan = plan([2, 0, 0, 0, 0, 1], BOTH, resolver());
        let addresses = plan.interfaces[0].addresses.iter();
        let addresses: Vec<_> = addresses.map(Address::to_string).collect();
        assert_eq!(addresses, ["10.0.2.15/24", "fd6e:6163:7265::f/64"]);
        assert_eq!(plan.routes.len(), 2);
        assert_eq!(plan.name_servers, [IpAddr::V4(NAMES4)]);
        let only4 = Families {
            v4: true,
            v6: false,
        };
        let said = arguments(only4, &resolver(), &[]);
        assert_eq!(said.last().map(String::as_str), Some("--ipv4-only"));
    }
}
