//! Plans against a kernel that notes what it is asked for.

use std::cell::RefCell;

use agent_protocol::configure_network_request as wire;

use super::*;

/// Has two interfaces, and fails what is named.
#[derive(Default)]
struct Fake {
    asked: RefCell<Vec<String>>,
    fails: Option<(&'static str, Errno)>,
}

impl Fake {
    fn note(&self, what: String) -> Result<(), Errno> {
        let failure = self.fails.filter(|(part, _)| what.contains(part));
        self.asked.borrow_mut().push(what);
        failure.map_or(Ok(()), |(_, errno)| Err(errno))
    }
}

impl Kernel for Fake {
    fn interfaces(&self) -> Result<Vec<(String, [u8; 6])>, Errno> {
        let named = |name: &str, last| (name.to_owned(), [2, 0, 0, 0, 0, last]);
        Ok(vec![
            ("lo".to_owned(), [0; 6]),
            named("eth0", 1),
            named("eth1", 2),
        ])
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), Errno> {
        self.note(format!("rename {from} {to}"))
    }

    fn set_mtu(&self, name: &str, mtu: u32) -> Result<(), Errno> {
        self.note(format!("mtu {name} {mtu}"))
    }

    fn add_address(&self, name: &str, address: Address, number: usize) -> Result<(), Errno> {
        let Address { ip, prefix } = address;
        self.note(format!("address {name} {ip}/{prefix} {number}"))
    }

    fn bring_up(&self, name: &str) -> Result<(), Errno> {
        self.note(format!("up {name}"))
    }

    fn add_route(&self, route: &Route) -> Result<(), Errno> {
        let Address { ip, prefix } = route.to;
        let through = route.gateway.map(|gateway| format!(" via {gateway}"));
        let through = through.unwrap_or_default();
        self.note(format!(
            "route {ip}/{prefix}{through} dev {}",
            route.interface
        ))
    }

    fn add_neighbour(&self, name: &str, ip: IpAddr, mac: [u8; 6]) -> Result<(), Errno> {
        self.note(format!("neighbour {name} {ip} {mac:x?}"))
    }
}

fn interface(name: &str, mac: &str, addresses: &[&str]) -> wire::Interface {
    wire::Interface {
        name: name.to_owned(),
        mac: mac.to_owned(),
        addresses: addresses.iter().map(|text| (*text).to_owned()).collect(),
        mtu: 1400,
        ..Default::default()
    }
}

fn route(destination: &str, gateway: &str, interface: &str) -> wire::Route {
    wire::Route {
        destination: destination.to_owned(),
        gateway: gateway.to_owned(),
        interface: interface.to_owned(),
        ..Default::default()
    }
}

fn request() -> ConfigureNetworkRequest {
    ConfigureNetworkRequest {
        interfaces: vec![interface(
            "net7",
            "02:00:00:00:00:02",
            &["10.1.0.2/24", "10.2.0.2/16", "fd00::2/64"],
        )],
        routes: vec![
            route("10.9.0.0/16", "", "net7"),
            route("", "10.1.0.1", "net7"),
            route("", "fd00::1", "net7"),
        ],
        neighbours: vec![wire::Neighbour {
            address: "10.1.0.1".to_owned(),
            mac: "0a:00:00:00:00:01".to_owned(),
            interface: "net7".to_owned(),
            ..Default::default()
        }],
        name_servers: vec!["10.1.0.53".to_owned()],
        search_domains: vec!["a.test".to_owned(), "b.test".to_owned()],
        ..Default::default()
    }
}

#[test]
fn a_plan_is_made_in_an_order_in_which_each_step_can_work() {
    let fake = Fake::default();
    let plan = Plan::of(&request()).expect("it makes sense");
    plan.apply(&fake).expect("it works");
    assert_eq!(
        fake.asked.take(),
        [
            "up lo",
            "rename eth1 net7",
            "mtu net7 1400",
            "up net7",
            "address net7 10.1.0.2/24 0",
            "address net7 10.2.0.2/16 1",
            "address net7 fd00::2/64 0",
            "route 10.9.0.0/16 dev net7",
            "route 0.0.0.0/0 via 10.1.0.1 dev net7",
            "route ::/0 via fd00::1 dev net7",
            "neighbour net7 10.1.0.1 [a, 0, 0, 0, 0, 1]",
        ]
    );
    let text = plan.resolv_conf.expect("servers");
    assert_eq!(text, "nameserver 10.1.0.53\nsearch a.test b.test\n");
}

#[test]
fn what_is_there_already_is_as_good_and_other_failures_are_told() {
    let plan = Plan::of(&request()).expect("it makes sense");
    let apply = |part, errno| {
        let fails = Some((part, errno));
        let fake = Fake {
            fails,
            ..Fake::default()
        };
        plan.apply(&fake).map_err(|refusal| refusal.to_string())
    };
    assert_eq!(apply("address", Errno::EXIST), Ok(()));
    let said = apply("via 10.1.0.1", Errno::NETUNREACH).expect_err("no way");
    assert!(said.contains("add the route to 0.0.0.0/0"), "{said}");
    let mut other = request();
    other.interfaces[0].mac = "02:00:00:00:00:09".to_owned();
    let plan = Plan::of(&other).expect("it makes sense");
    let said = plan.apply(&Fake::default()).expect_err("none").to_string();
    assert!(
        said.contains("no interface with the hardware address of net7"),
        "{said}"
    );
}

#[test]
fn plans_that_make_no_sense_are_refused_before_anything_is_done() {
    type Change = fn(&mut ConfigureNetworkRequest);
    let cases: [(&str, Change); 9] = [
        ("no name", |plan| plan.interfaces[0].name = "a/b".to_owned()),
        ("no name", |plan| plan.interfaces[0].name = "x".repeat(16)),
        ("no hardware", |plan| {
            plan.interfaces[0].mac = "1:2".to_owned();
        }),
        ("prefix", |plan| {
            plan.interfaces[0].addresses[0] = "10.0.0.1/33".to_owned();
        }),
        ("no address", |plan| {
            plan.interfaces[0].addresses[0] = "x/3".to_owned();
        }),
        ("does not have", |plan| {
            plan.routes[0].interface = "eth5".to_owned();
        }),
        ("another protocol", |plan| {
            plan.routes[0].gateway = "::1".to_owned();
        }),
        ("no address", |plan| {
            plan.name_servers[0] = "x\nsearch y".to_owned();
        }),
        ("no domain", |plan| {
            plan.search_domains[0] = "a\nb".to_owned();
        }),
    ];
    for (word, change) in cases {
        let mut request = request();
        change(&mut request);
        let said = Plan::of(&request).expect_err(word).to_string();
        assert!(said.contains(word), "{said}");
    }
}
