//! Faults in the random order of a few seeds, with every connection followed. `scripts/lab.sh faults`
//! does the same with any seed, and longer.

use std::time::Duration;

use tidegate_lab::Lab;
use tidegate_lab::faults::Trial;

use crate::site::settings;

/// Performs the first steps of a seed with three units.
fn try_seed(seed: u64, faults: usize) {
    let mut lab = settings();
    lab.units = 3;
    let trial = Trial {
        lab,
        seed,
        faults,
        patience: Trial::PATIENCE,
    };
    let report = trial.perform(|_| {}).unwrap();
    let command = trial.command();
    assert!(
        report.violations.is_empty(),
        "{report}\nto repeat it: {command}"
    );
    assert_eq!((report.steps.len(), &report.cut_short), (faults, &None));
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

#[test]
fn what_goes_wrong_is_told_with_captures_and_logs() {
    let lab = settings();
    let prefix = lab.prefix.clone();
    let trial = Trial {
        lab,
        seed: 1,
        faults: 1,
        // It never will be whole.
        patience: Duration::from_secs(1),
    };
    // A unit ends that nobody is known to have ended.
    let end_one = |_: &str| {
        let lab = Lab::open(&prefix).unwrap();
        lab.running().next().unwrap().kill().unwrap();
    };
    let report = trial.perform(end_one).unwrap();
    assert!(!report.violations.is_empty(), "{report}");
    let evidence = report.evidence.expect("something was wrong");
    let files = std::fs::read_dir(&evidence).unwrap();
    let names: Vec<String> = files
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect();
    std::fs::remove_dir_all(&evidence).unwrap();
    for expected in ["switch.pcap", "u1.log", "u2.log", "u1.toml", "u2.toml"] {
        assert!(
            names.iter().any(|name| name.starts_with(expected)),
            "{names:?}"
        );
    }
}
