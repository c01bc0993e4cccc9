//! `linux.seccomp`: from a profile of names to the filter program that the guest's kernel runs.
//!
//! What a profile means where the specification says little is what runc and libseccomp make of it: rules of calls that
//! nobody knows are left out; of several rules about one call, one without conditions decides alone, else the first that
//! holds; conditions on the same argument are alternatives; a rule that says what the default says is no rule; calls newer
//! than all that the profile names are "not implemented" and not "forbidden", so that programs do without them. The guest
//! has x86-64's calls alone, so other architectures in the profile have nothing to be about.
//!
//! [`profile`] reads, [`program`] writes classic BPF (seccomp(2)).

mod profile;
mod program;

use std::path::Path;

use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompFilterFlag};

use super::unsupported;
use crate::OciError;
use profile::Profile;

/// A filter of system calls, as the guest's kernel takes it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Filter {
    /// `struct sock_filter` after `struct sock_filter`.
    pub(super) program: Vec<u8>,
    /// `SECCOMP_FILTER_FLAG_*`.
    pub(super) flags: u32,
}

/// What the profile asks for.
pub(super) fn filter(seccomp: &LinuxSeccomp) -> Result<Filter, OciError> {
    let is_set = |path: &Path| !path.as_os_str().is_empty();
    if seccomp.listener_path().as_deref().is_some_and(is_set) {
        return Err(unsupported(
            "linux.seccomp.listenerPath (a program of the host that decides about calls of the guest)",
        ));
    }
    let profile = Profile::read(seccomp)?;
    let instructions = program::write(&profile)?;
    Ok(Filter {
        program: instructions.iter().flat_map(|one| one.bytes()).collect(),
        flags: flags(seccomp)?,
    })
}

fn flags(seccomp: &LinuxSeccomp) -> Result<u32, OciError> {
    const LOG: u32 = 2;
    const SPEC_ALLOW: u32 = 4;
    let bit = |flag: &LinuxSeccompFilterFlag| match flag {
        LinuxSeccompFilterFlag::SeccompFilterFlagLog => Ok(LOG),
        LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow => Ok(SPEC_ALLOW),
        // A container's process has one thread when it gets its filter.
        LinuxSeccompFilterFlag::SeccompFilterFlagTsync => Ok(0),
        LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv => Err(unsupported(
            "linux.seccomp.flags SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV (nobody is asked)",
        )),
    };
    let mut all = seccomp.flags().iter().flatten();
    all.try_fold(0, |all, flag| Ok(all | bit(flag)?))
}

#[cfg(test)]
mod tests;
