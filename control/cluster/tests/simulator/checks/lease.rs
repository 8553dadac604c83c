//! With a witness: one unit at a time sends from the virtual MAC, and one can.

use super::roles::{can_serve, component_of, is_clean};
use crate::world::World;

/// **With the witness never two transmit from the virtual MAC at once.** Stopped units count as well: they
/// may go on at any moment, and begin where they were.
pub(super) fn one_transmits(world: &World) {
    if world.options.witness.is_none() {
        return;
    }
    let mut senders =
        (0..world.units.len()).filter(|unit| world.units[*unit].may_transmit(world.now));
    if let (Some(a), Some(b)) = (senders.next(), senders.next()) {
        panic!(
            "units {} and {} may both send from the virtual MAC",
            a + 1,
            b + 1
        );
    }
}

/// **Bounded time to one primary**, of all components together: whoever can serve and reaches the witness
/// finds one.
pub(super) fn one_primary(world: &World) {
    let running: Vec<usize> = (0..world.units.len())
        .filter(|unit| world.units[*unit].runs())
        .collect();
    let components = running.iter().map(|unit| component_of(world, *unit));
    let sizes: Vec<usize> = components.clone().map(|members| members.len()).collect();
    if !components
        .into_iter()
        .all(|members| is_clean(world, &members))
    {
        return;
    }
    let able = running
        .iter()
        .zip(&sizes)
        .filter(|(unit, size)| can_serve(world, **unit, **size) && world.store.answers(**unit));
    let primaries = running
        .iter()
        .filter(|unit| world.units[**unit].is_primary());
    assert_eq!(
        primaries.count(),
        usize::from(able.count() > 0),
        "primaries with the witness"
    );
}
