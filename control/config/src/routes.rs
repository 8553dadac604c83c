//! `[[route]]`: reading them, and checking them against the interfaces.

use std::net::Ipv4Addr;

use crate::address::Ipv4Net;
use crate::document::{Located, Refusal, Report, Section};
use crate::interfaces::Interfaces;
use crate::model::{NextHop, Route};
use crate::value;

pub(crate) fn read(
    root: &Section<'_, '_>,
    interfaces: &Interfaces,
    report: &Report,
) -> Option<Vec<Route>> {
    let mut destinations: Vec<Located<Ipv4Net>> = Vec::new();
    let mut routes = Vec::new();
    for section in root.sections("route", "to") {
        let to = section.required("to", "to = \"0.0.0.0/0\"", value::network);
        if let Some(to) = &to {
            check_destination(to, &section, interfaces, &destinations, report);
            destinations.push(to.clone());
        }
        let next_hop = next_hop(&section, interfaces, report);
        section.finish();
        routes.push(to.zip(next_hop).map(|(to, next_hop)| Route {
            to: to.value,
            next_hop,
        }));
    }
    routes.into_iter().collect()
}

/// A destination has one route, and none that is connected has any.
fn check_destination(
    to: &Located<Ipv4Net>,
    section: &Section<'_, '_>,
    interfaces: &Interfaces,
    before: &[Located<Ipv4Net>],
    report: &Report,
) {
    let connected = interfaces.networks().find(|(_, net)| *net == to.value);
    let refusal = if let Some(other) = before.iter().find(|other| other.value == to.value) {
        Refusal::new(
            format!("{} has a route on line {}", to.value, other.line),
            "write one route for each destination",
        )
    } else if let Some((index, net)) = connected {
        let cause = format!("{net} is connected to \"{}\"", interfaces.name(index));
        Refusal::new(cause, "remove the route: connected networks need none")
    } else {
        return;
    };
    report.error(to.line, section.key("to"), refusal);
}

fn next_hop(
    section: &Section<'_, '_>,
    interfaces: &Interfaces,
    report: &Report,
) -> Option<NextHop> {
    let via = section.optional("via", value::ipv4);
    let interface = section.optional("interface", |value| {
        interfaces.traffic(value::string(value, "the name of an interface")?)
    });
    match (section.has("via"), section.has("interface")) {
        (true, true) => {
            let refusal = Refusal::new("stands beside via", "keep one of the two");
            let line = interface.map_or(section.line(), |interface| interface.line);
            report.error(line, section.key("interface"), refusal);
            None
        }
        (false, false) => {
            let refusal = Refusal::new(
                "is missing",
                "add a line such as via = \"198.51.100.254\", or interface = \"wan\"",
            );
            report.error(section.line(), section.key("via"), refusal);
            None
        }
        (false, true) => interface.map(|interface| NextHop::Link(interface.value)),
        (true, false) => {
            let via = via?;
            gateway(via.value, interfaces)
                .map_err(|refusal| report.error(via.line, section.key("via"), refusal))
                .ok()
        }
    }
}

fn gateway(address: Ipv4Addr, interfaces: &Interfaces) -> Result<NextHop, Refusal> {
    if interfaces.owns(address) {
        return Err(Refusal::new(
            format!("{address} is the gateway's own address"),
            "write the address of another router",
        ));
    }
    let Some((interface, net)) = interfaces.connected(address) else {
        let mut networks: Vec<String> = interfaces
            .networks()
            .map(|(index, net)| format!("{net} on {}", interfaces.name(index)))
            .collect();
        networks.dedup();
        return Err(Refusal::new(
            format!("{address} is on no connected network"),
            format!("write an address in one of {}", networks.join(", ")),
        ));
    };
    let host = Ipv4Net {
        address,
        prefix: net.prefix,
    };
    if host.is_host() {
        Ok(NextHop::Gateway { interface, address })
    } else {
        Err(Refusal::new(
            format!("{address} is not the address of a host in {net}"),
            "write the address of a router",
        ))
    }
}
