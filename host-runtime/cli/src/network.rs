//! `--net` and `-p`: which network the program has.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use host_net::{NetError, Network, namespace, user};

use super::RunError;
use super::args::RunArgs;

/// Where `ip netns` keeps its namespaces.
const NAMESPACES: &str = "/run/netns";

/// Which network the program has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) enum NetMode {
    /// None but its own loopback interface.
    #[default]
    None,
    /// One of its own, whose connections are made by the host.
    User,
    /// The interfaces of a network namespace.
    Namespace(PathBuf),
}

impl FromStr for NetMode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "none" => Ok(Self::None),
            "user" => Ok(Self::User),
            "host" => Err(
                "a microVM has a network stack of its own and cannot share the host's; \
                 use user, and -p for its ports"
                    .to_owned(),
            ),
            "" | "." | ".." => Err("it has no name".to_owned()),
            path if path.starts_with('/') => Ok(Self::Namespace(path.into())),
            name if name.contains('/') => Err(format!(
                "{name} is neither a name that `ip netns` shows nor an absolute path"
            )),
            name => Ok(Self::Namespace(Path::new(NAMESPACES).join(name))),
        }
    }
}

/// Makes the network that was asked for, if there is one.
pub(super) fn make(args: &RunArgs) -> Result<Option<Network>, RunError> {
    let rate = args.net_rate.map(|rate| rate.0);
    if let (Some(port), false) = (args.publish.first(), args.net == NetMode::User) {
        return Err(RunError::Publish { port: *port });
    }
    let made: Result<Option<Network>, NetError> = match &args.net {
        NetMode::None => Ok(None),
        NetMode::User => user::start(&args.publish, rate).map(Some),
        NetMode::Namespace(path) => namespace::take_over(path, rate).map(Some),
    };
    Ok(made?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_have_names_or_paths_and_the_hosts_is_refused() {
        let at = |path: &str| Ok(NetMode::Namespace(PathBuf::from(path)));
        assert_eq!("none".parse(), Ok(NetMode::None));
        assert_eq!("user".parse(), Ok(NetMode::User));
        assert_eq!("blue".parse(), at("/run/netns/blue"));
        assert_eq!("/proc/7/ns/net".parse(), at("/proc/7/ns/net"));
        for wrong in ["", ".", "..", "a/b", "host"] {
            assert!(wrong.parse::<NetMode>().is_err(), "{wrong}");
        }
    }
}
