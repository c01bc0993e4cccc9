//! A network's plan as the agent is told it.

use agent_protocol::ConfigureNetworkRequest;
use agent_protocol::configure_network_request as wire;
use host_net::{Address, Plan};

/// The request that makes it.
pub(crate) fn request(plan: &Plan) -> ConfigureNetworkRequest {
    let interfaces = plan.interfaces.iter().map(|interface| wire::Interface {
        name: interface.name.clone(),
        mac: interface.mac_text(),
        addresses: interface.addresses.iter().map(Address::to_string).collect(),
        mtu: interface.mtu.into(),
        ..Default::default()
    });
    let routes = plan.routes.iter().map(|route| wire::Route {
        destination: text(route.destination),
        gateway: text(route.gateway),
        interface: route.interface.clone(),
        ..Default::default()
    });
    let neighbours = plan.neighbours.iter().map(|neighbour| wire::Neighbour {
        address: neighbour.ip.to_string(),
        mac: neighbour.mac_text(),
        interface: neighbour.interface.clone(),
        ..Default::default()
    });
    ConfigureNetworkRequest {
        interfaces: interfaces.collect(),
        routes: routes.collect(),
        name_servers: plan.name_servers.iter().map(ToString::to_string).collect(),
        search_domains: plan.search_domains.clone(),
        neighbours: neighbours.collect(),
        ..Default::default()
    }
}

/// What there is none of is an empty string.
fn text(value: Option<impl ToString>) -> String {
    value.map_or_else(String::new, |value| value.to_string())
}
