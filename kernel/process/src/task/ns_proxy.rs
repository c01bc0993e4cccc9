//! [`NsProxy`]: the namespaces that a thread's next steps happen in (Linux's `struct nsproxy`).
//!
//! Which kinds there are, their files and their making are in [`crate::namespace`], which is above threads.

use alloc::sync::Arc;

use net::Network;

use super::pid_namespace::PidNamespace;
use crate::cgroup::CgroupNamespace;
use crate::ipc::IpcNamespace;
use crate::uts::UtsNamespace;

/// The namespaces of a thread that it does not share through something else: that of mounts belongs to its
/// [`fs::FsContext`], that of users to its credentials.
#[derive(Debug, Clone)]
pub struct NsProxy {
    /// Host and domain name.
    pub uts: Arc<UtsNamespace>,
    /// System V objects and message queues.
    pub ipc: Arc<IpcNamespace>,
    /// Its network.
    pub net: Network,
    /// From which control group on it sees those; none for the root.
    pub cgroup: Option<Arc<CgroupNamespace>>,
    /// That of the processes it makes; its own stays for life.
    pub pid_for_children: PidNamespace,
}
