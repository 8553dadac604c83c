//! The checks are checked: with a mistake planted into the protocol or its driver, a seed must fail, and by
//! the check that is meant for it.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use cluster::Schedule;

use crate::options::{Mistake, Options, SECOND};
use crate::random::Random;
use crate::run_with;

/// A mistake is to be found within so many seeds.
const SEEDS: u64 = 400;

/// What a check said.
fn text(panic: &(dyn Any + Send)) -> String {
    let plain = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    plain
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_default()
}

/// Runs seeds with a mistake until one fails, for this reason.
#[track_caller]
fn is_found(mistake: Mistake, prepare: impl Fn(&mut Options), reason: &str) {
    for seed in 0..SEEDS {
        let mut random = Random::new(seed);
        let mut options = Options::draw(&mut random);
        options.mistake = Some(mistake);
        prepare(&mut options);
        let ran = catch_unwind(AssertUnwindSafe(|| run_with(options, random)));
        if let Err(panic) = ran {
            let said = text(&*panic);
            assert!(said.contains(reason), "seed {seed}, {mistake:?}: {said}");
            return;
        }
    }
    panic!("{mistake:?} is not found in {SEEDS} seeds");
}

fn with_witness(options: &mut Options) {
    options.witness = Some(options.witness.unwrap_or(SECOND));
}

const TWO_SEND: &str = "may both send from the virtual MAC";

#[test]
fn workers_without_a_gate_are_found() {
    is_found(Mistake::NoGate, with_witness, TWO_SEND);
}

#[test]
fn a_gate_that_closes_too_late_is_found() {
    is_found(Mistake::LateGate, with_witness, TWO_SEND);
}

#[test]
fn a_lease_that_is_kept_for_a_control_core_that_hangs_is_found() {
    let hang_long = |options: &mut Options| {
        with_witness(options);
        (options.loss, options.corrupt, options.record) = (0, 0, 0);
    };
    is_found(
        Mistake::HangingIsAlive,
        hang_long,
        "primaries with the witness",
    );
}

fn with_owners(options: &mut Options) {
    let weights = vec![1; options.units];
    options.schedule = Some((Schedule::RoundRobin, weights));
    options.session_sync = true;
}

#[test]
fn owners_that_choose_from_the_same_ports_are_found() {
    is_found(Mistake::NoPortClasses, with_owners, "gave port");
}

#[test]
fn owners_that_adopt_nothing_are_found() {
    is_found(Mistake::NoAdoption, with_owners, "does not go on");
}

#[test]
fn units_that_pass_on_what_was_passed_on_are_found() {
    is_found(Mistake::PassesTwice, with_owners, "passed on to unit");
}
