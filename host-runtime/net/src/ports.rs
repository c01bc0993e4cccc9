//! `-p [ADDRESS:]HOST:GUEST[/udp]`: a port of the host that leads to one of the guest.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::str::FromStr;

/// What a port is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// A port of the host that leads to one of the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forward {
    /// The address of the host's; `None` for all of them.
    pub address: Option<IpAddr>,
    /// The host's port.
    pub host: u16,
    /// The guest's port.
    pub guest: u16,
    /// Of which protocol.
    pub protocol: Protocol,
}

impl FromStr for Forward {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = || "write [ADDRESS:]HOST:GUEST, with /udp behind it for UDP".to_owned();
        let (ports, protocol) = match text.rsplit_once('/') {
            None => (text, Protocol::Tcp),
            Some((ports, "tcp")) => (ports, Protocol::Tcp),
            Some((ports, "udp")) => (ports, Protocol::Udp),
            Some((_, other)) => return Err(format!("{other} is neither tcp nor udp")),
        };
        let (rest, guest) = ports.rsplit_once(':').ok_or_else(form)?;
        let (address, host) = match rest.rsplit_once(':') {
            None => (None, rest),
            Some((address, host)) => (Some(address), host),
        };
        let port = |text: &str| match text.parse::<u16>() {
            Ok(0) | Err(_) => Err(format!("{text} is no port; {}", form())),
            Ok(port) => Ok(port),
        };
        let address = address.map(|address| {
            let plain = address.strip_prefix('[').and_then(|a| a.strip_suffix(']'));
            let parsed = plain.unwrap_or(address).parse();
            parsed.map_err(|_| format!("{address} is no address; {}", form()))
        });
        Ok(Self {
            address: address.transpose()?,
            host: port(host)?,
            guest: port(guest)?,
            protocol,
        })
    }
}

impl fmt::Display for Forward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            None => {}
            Some(IpAddr::V4(address)) => write!(f, "{address}:")?,
            Some(IpAddr::V6(address)) => write!(f, "[{address}]:")?,
        }
        write!(f, "{}:{}", self.host, self.guest)?;
        match self.protocol {
            Protocol::Tcp => Ok(()),
            Protocol::Udp => f.write_str("/udp"),
        }
    }
}

impl Forward {
    /// As `passt` is told: its option and what follows.
    pub(crate) fn for_passt(&self) -> [String; 2] {
        let option = match self.protocol {
            Protocol::Tcp => "-t",
            Protocol::Udp => "-u",
        };
        let address = self.address.map(|address| format!("{address}/"));
        let address = address.unwrap_or_default();
        [
            option.to_owned(),
            format!("{address}{}:{}", self.host, self.guest),
        ]
    }

    /// Looks whether the port is free, which `passt` does not say when it gets a part of it.
    ///
    /// # Errors
    /// What the system said.
    pub(crate) fn check(&self) -> io::Result<()> {
        let address = self.address.unwrap_or(Ipv4Addr::UNSPECIFIED.into());
        let at = SocketAddr::new(address, self.host);
        match self.protocol {
            Protocol::Tcp => TcpListener::bind(at).map(drop),
            Protocol::Udp => UdpSocket::bind(at).map(drop),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_read_as_they_are_printed() {
        for (text, passt) in [
            ("8080:80", ["-t", "8080:80"]),
            ("127.0.0.1:8080:80", ["-t", "127.0.0.1/8080:80"]),
            ("[::1]:53:53/udp", ["-u", "::1/53:53"]),
        ] {
            let forward: Forward = text.parse().expect("right");
            assert_eq!(forward.to_string(), text);
            assert_eq!(forward.for_passt(), passt.map(str::to_owned));
        }
        assert_eq!("1:2/tcp".parse::<Forward>(), "1:2".parse());
        for wrong in [
            "", "80", ":", "0:80", "80:0", "80:70000", "a:80", "x:1:2", "1:2/sctp", "1:2/", "::1:2",
        ] {
            let outcome = wrong.parse::<Forward>();
            // The last is the address `:` in front of two ports.
            assert!(outcome.is_err(), "{wrong}: {outcome:?}");
        }
    }

    #[test]
    fn a_port_that_is_taken_is_seen() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let port = taken.local_addr().expect("it has one").port();
        let forward: Forward = format!("127.0.0.1:{port}:80").parse().expect("right");
        assert_eq!(
            forward.check().map_err(|error| error.kind()),
            Err(io::ErrorKind::AddrInUse)
        );
    }
}
