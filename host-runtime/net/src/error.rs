//! Why a pod has no network; each is a sentence that says what to do.

use std::io;
use std::path::PathBuf;

use host_machine::printing::said;

use crate::ports::Forward;

/// Why a pod has no network.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// There is no `passt`.
    #[error(
        "--net user needs passt, which is not in PATH; install it (Debian's package is passt), or use --net none"
    )]
    NoPasst,
    /// `passt` said why not.
    #[error("passt does not start: {said}")]
    Passt {
        /// Its words.
        said: String,
    },
    /// `passt` did not say anything in time.
    #[error("passt did not start within {seconds} s")]
    PasstSlow {
        /// The bound.
        seconds: u64,
    },
    /// The host has no way out.
    #[error(
        "--net user needs a default route on the host, which has none for IPv4 or IPv6 (`ip route`); add one, or use --net none"
    )]
    NoRoute,
    /// A port of the host's is somebody else's.
    #[error("cannot publish {forward}: {}; end what listens there, or choose another port", said(.source))]
    Port {
        /// Which.
        forward: Forward,
        /// The system's answer.
        source: io::Error,
    },
    /// A step on the host.
    #[error("cannot {what}: {}", said(.source))]
    Host {
        /// What was to be done.
        what: String,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// A namespace that cannot be had.
    #[error("cannot use the network namespace {}: {}", path.display(), said(.source))]
    Namespace {
        /// As given.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// A namespace that is the host's.
    #[error(
        "the network namespace {} is the host's own, which a microVM with a network stack of its own cannot share; \
         give the pod a namespace of its own (no --net host, hostNetwork: false)",
        path.display()
    )]
    HostNetwork {
        /// As given.
        path: PathBuf,
    },
    /// Something in a namespace that the guest cannot be given.
    #[error("the pod's network namespace has {what}, which a microVM cannot be given")]
    Unsupported {
        /// What.
        what: String,
    },
    /// What netlink refused.
    #[error("cannot {what} in the pod's network namespace: {message}")]
    Netlink {
        /// What was to be done.
        what: &'static str,
        /// The answer.
        message: String,
    },
}

impl NetError {
    /// Wraps the failure of a step.
    pub(crate) fn host<E: Into<io::Error>>(what: impl Into<String>) -> impl FnOnce(E) -> Self {
        let what = what.into();
        move |source| Self::Host {
            what,
            source: source.into(),
        }
    }

    /// Wraps netlink's answer.
    pub(crate) fn netlink(what: &'static str) -> impl FnOnce(rtnetlink::Error) -> Self {
        move |error| Self::Netlink {
            what,
            message: error.to_string(),
        }
    }
}
