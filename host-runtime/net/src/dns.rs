//! The host's resolv.conf(5), as far as a pod is told of it.

use std::net::IpAddr;

/// What it says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Resolver {
    pub(crate) servers: Vec<IpAddr>,
    pub(crate) search: Vec<String>,
}

/// The most of either that is passed on: what glibc takes of servers, and of domains.
const MOST_SERVERS: usize = 3;
const MOST_DOMAINS: usize = 6;

impl Resolver {
    /// The file at its usual place; nothing when it cannot be read.
    pub(crate) fn of_host() -> Self {
        let text = std::fs::read_to_string("/etc/resolv.conf");
        text.map_or_else(|_| Self::default(), |text| Self::parse(&text))
    }

    pub(crate) fn parse(text: &str) -> Self {
        let mut resolver = Self::default();
        for line in text.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => {
                    let server = words.next().and_then(|word| word.parse::<IpAddr>().ok());
                    resolver.servers.extend(server);
                }
                // The last one counts.
                Some("search" | "domain") => {
                    resolver.search = words.map(str::to_owned).take(MOST_DOMAINS).collect();
                }
                _ => {}
            }
        }
        resolver.servers.truncate(MOST_SERVERS);
        resolver
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_and_the_last_search_list() {
        let text = "# made\nnameserver 10.0.0.1\nsearch a\noptions ndots:5\n\
                    nameserver fe80::1%eth0\nnameserver fd00::1\nsearch b.test c.test\n";
        let resolver = Resolver::parse(text);
        let servers = ["10.0.0.1", "fd00::1"].map(|ip| ip.parse::<IpAddr>().expect("an address"));
        assert_eq!(resolver.servers, servers);
        assert_eq!(resolver.search, ["b.test", "c.test"]);
        assert_eq!(Resolver::parse("nameserver\nsearch"), Resolver::default());
    }
}
