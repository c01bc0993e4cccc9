//! Interfaces of a namespace are taken over, frames go both ways through them, and nothing stays.

mod support;

use std::path::Path;

use nacre_host_net::namespace::{self, Own};
use nacre_host_net::{Address, Interface, Neighbour, Network, Route};
use support::{HEADER, Namespace, arp_request, is_arp_reply, is_possible, read, veth};

fn take_over(path: &str) -> Result<Network, String> {
    namespace::take_over(Path::new(path), None).map_err(|error| error.to_string())
}

#[test]
fn a_pods_interface_becomes_the_guests() {
    if !is_possible(&["ip", "tc"]) {
        return;
    }
    let (pod, outside) = (Namespace::new("pod"), Namespace::new("outside"));
    veth(&pod, &outside);
    let mac = "02:00:00:00:77:01";
    pod.ip(&["neigh", "add", "10.77.0.9", "lladdr", mac, "dev", "eth0"]);
    let network = take_over(&pod.path()).expect("it can be had");
    let plan = &network.plan;
    let [Interface { name, mtu, mac, .. }] = &plan.interfaces[..] else {
        panic!("{plan:?}");
    };
    assert_eq!((name.as_str(), *mtu), ("eth0", 1400));
    let addresses: Vec<_> = plan.interfaces[0]
        .addresses
        .iter()
        .map(Address::to_string)
        .collect();
    assert!(
        addresses.contains(&"10.77.0.2/24".to_owned()),
        "{addresses:?}"
    );
    assert!(
        addresses.contains(&"fd77::2/64".to_owned()),
        "{addresses:?}"
    );
    let interface = "eth0".to_owned();
    let near = Route {
        destination: Some(Address {
            ip: [10, 78, 0, 0].into(),
            prefix: 16,
        }),
        gateway: None,
        interface: interface.clone(),
    };
    let far = Route {
        destination: None,
        gateway: Some([10, 77, 0, 1].into()),
        interface: interface.clone(),
    };
    assert_eq!(plan.routes, [near, far]);
    let fixed = Neighbour {
        ip: [10, 77, 0, 9].into(),
        mac: [2, 0, 0, 0, 0x77, 1],
        interface,
    };
    assert_eq!(plan.neighbours, [fixed]);

    // As the guest would ask; the namespace's own stack has the address, and says nothing.
    let tap = &network.nets[0].link;
    let question = arp_request(*mac, [10, 77, 0, 2], [10, 77, 0, 1]);
    let packet = [&[0; HEADER][..], &question].concat();
    rustix::io::write(tap, &packet).expect("it is up");
    let mut bytes = [0; 2048];
    loop {
        let length = read(tap, &mut bytes);
        // The other end says other things, too.
        if is_arp_reply(&bytes[HEADER..length], [10, 77, 0, 1]) {
            break;
        }
    }
    assert!(
        pod.tc(&["qdisc", "show", "dev", "eth0"])
            .contains("ingress")
    );
    drop(network);
    assert!(
        !pod.tc(&["qdisc", "show", "dev", "eth0"])
            .contains("ingress")
    );
    // What a pod that was killed has left is no obstacle.
    pod.tc(&["qdisc", "add", "dev", "eth0", "ingress"]);
    drop(take_over(&pod.path()).expect("it can be had again"));
}

#[test]
fn what_a_guest_cannot_have_is_refused_and_nothing_is_nothing() {
    if !is_possible(&["ip"]) {
        return;
    }
    let said = take_over("/proc/self/ns/net").expect_err("the host's");
    assert!(said.contains("is the host's own"), "{said}");
    let said = take_over("/run/netns/nacre-not-there").expect_err("none");
    assert!(said.contains("cannot use the network namespace"), "{said}");
    let said = take_over("/proc/self/status").expect_err("no namespace");
    assert!(said.contains("enter the pod's network namespace"), "{said}");
    let empty = Namespace::new("empty");
    let network = take_over(&empty.path()).expect("it is one");
    assert!(network.nets.is_empty() && network.plan.interfaces.is_empty());
    assert!(network.plan.name_servers.is_empty());
}

#[test]
fn interfaces_may_be_put_into_a_namespace_of_a_process_that_never_enters_it() {
    if !is_possible(&["ip", "tc"]) {
        return;
    }
    let own = Own::new().expect("we are root");
    let outside = Namespace::new("beside");
    let thread = own.thread().to_string();
    let mac = "02:00:00:00:78:01";
    outside.ip(&[
        "link", "add", "out", "type", "veth", "peer", "name", "in", "address", mac,
    ]);
    // As Docker does: by the number of the process that a hook is told.
    outside.ip(&["link", "set", "in", "netns", &thread]);
    let empty = own.take_over(None).expect("it is down");
    assert!(empty.nets.is_empty());
    let path = format!("/proc/{thread}/ns/net");
    let mut enter = std::process::Command::new("nsenter");
    enter.arg(format!("--net={path}"));
    let entered = enter.args(["ip", "link", "set", "in", "up"]).status();
    assert!(entered.is_ok_and(|status| status.success()));
    let network = own.take_over(None).expect("it is there");
    assert_eq!(network.plan.interfaces[0].mac, [2, 0, 0, 0, 0x78, 1]);
}
