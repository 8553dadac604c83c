//! Routes: which interface and neighbour a destination is reached by.
//!
//! Built by the control core for each configuration, read-only afterwards. Connected networks come
//! from the interfaces' addresses; a configured route to the very same network replaces one.

use std::net::Ipv4Addr;

use dpdk::{Eal, Fib};

use crate::interface::{Interface, InterfaceId, Prefix};

/// A configured route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// Destinations.
    pub to: Prefix,
    /// Interface that they are reached by.
    pub interface: InterfaceId,
    /// Router on that interface; `None` when destinations are reached directly.
    pub gateway: Option<Ipv4Addr>,
}

/// What a route leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextHop {
    /// Interface that packets leave by.
    pub interface: InterfaceId,
    /// Router on that interface; `None` when the destination itself is the neighbour.
    pub gateway: Option<Ipv4Addr>,
}

/// Where one packet goes: a [`NextHop`] applied to its destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hop {
    /// Interface that it leaves by.
    pub interface: InterfaceId,
    /// Neighbour that gets the frame.
    pub neighbour: Ipv4Addr,
}

/// The routes of one configuration.
#[derive(Debug)]
pub struct Routes {
    fib: Fib,
    next_hops: Vec<NextHop>,
    routes: Vec<Route>,
}

impl Routes {
    /// Builds the table, which takes tens of milliseconds.
    ///
    /// # Errors
    /// Those of [`Fib::build`]: no memory, or more routes than it can hold.
    pub fn build(
        eal: &Eal,
        interfaces: &[Interface],
        configured: &[Route],
    ) -> Result<Self, dpdk::Error> {
        let routes = with_connected(interfaces, configured);
        let mut next_hops: Vec<NextHop> = Vec::new();
        let mut entries = Vec::with_capacity(routes.len());
        for route in &routes {
            let hop = NextHop {
                interface: route.interface,
                gateway: route.gateway,
            };
            let known = next_hops.iter().position(|known| *known == hop);
            let id = known.unwrap_or_else(|| {
                next_hops.push(hop);
                next_hops.len() - 1
            });
            let id = u32::try_from(id).unwrap_or(u32::MAX);
            entries.push((route.to.network(), route.to.length(), id));
        }
        Ok(Self {
            fib: Fib::build(eal, "routes", &entries)?,
            next_hops,
            routes,
        })
    }

    /// Next hop ids of up to 64 destinations, for [`Routes::hop`].
    pub(crate) fn look_up(&self, destinations: &[u32], ids: &mut [u32]) {
        self.fib.lookup_burst(destinations, ids);
    }

    /// Where a packet to `destination` goes that got next hop `id`; `None` without a route.
    pub(crate) fn hop(&self, id: u32, destination: Ipv4Addr) -> Option<Hop> {
        let next = self.next_hops.get(id as usize)?;
        Some(Hop {
            interface: next.interface,
            neighbour: next.gateway.unwrap_or(destination),
        })
    }

    /// Where a packet to `destination` goes; `None` without a route.
    #[must_use]
    pub fn resolve(&self, destination: Ipv4Addr) -> Option<Hop> {
        let mut id = [dpdk::NextHop::NONE];
        self.look_up(&[destination.to_bits()], &mut id);
        self.hop(id[0], destination)
    }

    /// The routes in effect: the configured ones, then connected networks.
    #[must_use]
    pub fn routes(&self) -> &[Route] {
        &self.routes
    }
}

/// The configured routes and one for each connected network that none of them names.
fn with_connected(interfaces: &[Interface], configured: &[Route]) -> Vec<Route> {
    let mut routes = configured.to_vec();
    for (index, interface) in interfaces.iter().enumerate() {
        let id = InterfaceId(u8::try_from(index).unwrap_or(u8::MAX));
        for address in interface.addresses() {
            if routes.iter().all(|route| route.to != address.network) {
                routes.push(Route {
                    to: address.network,
                    interface: id,
                    gateway: None,
                });
            }
        }
    }
    routes
}
