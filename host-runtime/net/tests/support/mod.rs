//! Network namespaces that a test makes and removes, and frames through a link as the guest sends them.
#![allow(dead_code, reason = "each test program uses a part of it")]

use std::fs::File;
use std::os::fd::AsFd;
use std::process::Command;

use nix::sched::{CloneFlags, setns};
use rustix::event::{PollFd, PollFlags};

/// Bytes of the header before each frame of a tap.
pub(crate) const HEADER: usize = 12;

/// A namespace with a name, removed when dropped.
pub(crate) struct Namespace(pub(crate) String);

impl Namespace {
    pub(crate) fn new(name: &str) -> Self {
        let name = format!("nacre-test-{name}-{}", std::process::id());
        ip(&["netns", "add", &name]);
        let made = Self(name);
        made.ip(&["link", "set", "lo", "up"]);
        made
    }

    pub(crate) fn path(&self) -> String {
        format!("/run/netns/{}", self.0)
    }

    /// `ip` in it.
    pub(crate) fn ip(&self, words: &[&str]) {
        ip(&[&["-n", &self.0], words].concat());
    }

    /// What `tc` says in it.
    pub(crate) fn tc(&self, words: &[&str]) -> String {
        let mut command = Command::new("tc");
        let output = command.args(["-n", &self.0]).args(words).output();
        let output = output.expect("tc is beside ip");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Has the calling thread be in it, for good.
    pub(crate) fn enter(&self) {
        let file = File::open(self.path()).expect("it is there");
        setns(file.as_fd(), CloneFlags::CLONE_NEWNET).expect("we are root");
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // One that is not there is as good.
        let _ = Command::new("ip").args(["netns", "del", &self.0]).status();
    }
}

/// A veth pair, one end in each: `eth0` with these addresses in `pod`, and `out` in `outside`.
pub(crate) fn veth(pod: &Namespace, outside: &Namespace) {
    ip(&[
        "link", "add", "eth0", "netns", &pod.0, "mtu", "1400", "type", "veth", "peer", "name",
        "out", "netns", &outside.0,
    ]);
    pod.ip(&["addr", "add", "10.77.0.2/24", "dev", "eth0"]);
    pod.ip(&["addr", "add", "fd77::2/64", "dev", "eth0", "nodad"]);
    pod.ip(&["link", "set", "eth0", "up"]);
    pod.ip(&["route", "add", "default", "via", "10.77.0.1"]);
    pod.ip(&["route", "add", "10.78.0.0/16", "dev", "eth0"]);
    outside.ip(&["addr", "add", "10.77.0.1/24", "dev", "out"]);
    outside.ip(&["link", "set", "out", "up"]);
}

fn ip(words: &[&str]) {
    let output = Command::new("ip").args(words).output().expect("iproute2");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {words:?}: {said}");
}

/// Whether the test can run: as root, with these programs.
pub(crate) fn is_possible(programs: &[&str]) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_there = |name: &&str| std::env::split_paths(&path).any(|at| at.join(name).exists());
    let missing = programs.iter().find(|name| !is_there(name));
    match (rustix::process::geteuid().is_root(), missing) {
        (true, None) => true,
        (false, _) => {
            println!("SKIPPED: not root");
            false
        }
        (_, Some(missing)) => {
            println!("SKIPPED: no {missing}");
            false
        }
    }
}

/// A question for the hardware address of `whom`, from `mac` and `own`.
pub(crate) fn arp_request(mac: [u8; 6], own: [u8; 4], whom: [u8; 4]) -> Vec<u8> {
    let ethernet = [&[0xff; 6][..], &mac, &[0x08, 0x06]].concat();
    let request = [0, 1, 8, 0, 6, 4, 0, 1];
    [&ethernet[..], &request, &mac, &own, &[0; 6], &whom].concat()
}

/// Whether a frame is the answer of `whom`.
pub(crate) fn is_arp_reply(frame: &[u8], whom: [u8; 4]) -> bool {
    frame.get(12..14) == Some(&[0x08, 0x06])
        && frame.get(20..22) == Some(&[0, 2])
        && frame.get(28..32) == Some(&whom)
}

/// Reads, waiting as long as it takes.
pub(crate) fn read(from: impl AsFd, bytes: &mut [u8]) -> usize {
    let mut polled = [PollFd::new(&from, PollFlags::IN)];
    rustix::event::poll(&mut polled, None).expect("it can be polled");
    rustix::io::read(&from, bytes).expect("something came")
}
