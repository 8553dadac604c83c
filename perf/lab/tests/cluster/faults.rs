//! Faults in the random order of a few seeds, with every connection followed. `scripts/lab.sh faults`
//! does the same with any seed, and longer.

use tidegate_lab::faults::Trial;

use crate::site::settings;

/// Performs the first steps of a seed with three units.
fn try_seed(seed: u64, faults: usize) {
    let mut lab = settings();
    lab.units = 3;
    let trial = Trial { lab, seed, faults };
    let report = trial.perform(|_| {}).unwrap();
    let command = trial.command();
    assert!(
        report.violations.is_empty(),
        "{report}\nto repeat it: {command}"
    );
    assert!(
        report.steps.iter().all(|step| step.left_out.is_none()),
        "{report:?}"
    );
    assert!(report.tcp_opened > 20 && report.bytes > 100_000, "{report}");
}

#[test]
fn connections_survive_units_that_are_killed_and_cut_off() {
    try_seed(1, 11);
}
