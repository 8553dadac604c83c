//! What judges clusters under random faults notices what it is there for.

use std::thread::sleep;
use std::time::Duration;

use tidegate_lab::faults::{Oracle, Watch};
use tidegate_lab::{Host, Segment};

use crate::site::Site;

#[test]
fn the_oracle_finds_nothing_wrong_with_a_gateway_that_works() {
    let site = Site::build();
    site.forward_in_kernel(1, "masquerade");
    let oracle = Oracle::start(&site.client(), &site.server(), 1).unwrap();
    sleep(Duration::from_secs(1));
    let testimony = oracle.finish().unwrap();
    assert!(testimony.casualties.is_empty(), "{testimony:?}");
    assert!(testimony.opened > 20, "short ones begin all the time");
    assert!(testimony.bytes > 100_000);
}

#[test]
fn the_oracle_misses_every_connection_that_does_not_go_on() {
    let site = Site::build();
    site.forward_in_kernel(1, "masquerade to :10000-19999");
    let oracle = Oracle::start(&site.client(), &site.server(), 1).unwrap();
    sleep(Duration::from_millis(300));
    // A gateway without the first one's sessions takes over.
    for segment in [Segment::Lan, Segment::Wan] {
        site.topology.set_link(1, segment, false).unwrap();
    }
    site.forward_in_kernel(2, "masquerade to :20000-29999");
    site.load_rules(
        2,
        "table ip breaker {\n  chain forward {\n    type filter hook forward priority 0;\n    \
         iifname \"lan0\" meta l4proto tcp reject with tcp reset\n  }\n}\n",
    );
    site.announce(2);
    sleep(Duration::from_millis(500));
    let testimony = oracle.finish().unwrap();
    let lost = |kind: &str| {
        let casualties = testimony.casualties.iter();
        casualties
            .filter(|casualty| casualty.who.starts_with(kind))
            .count()
    };
    assert!(lost("TCP") >= 20, "{testimony:?}");
    assert_eq!(lost("UDP"), 50, "{testimony:?}");
    assert!(
        testimony
            .casualties
            .iter()
            .all(|lost| !lost.is_excused(&[]))
    );
}

#[test]
fn the_watch_tells_a_takeover_from_two_units_with_one_mac() {
    let site = Site::build();
    let topology = &site.topology;
    for unit in [1, 2] {
        let batch = "link set lan0 address 02:74:67:00:07:00\naddress add 192.0.2.1/24 dev lan0\n";
        topology.namespace(Host::Unit(unit)).ip(batch).unwrap();
    }
    let say = |unit| {
        let mut command = topology.namespace(Host::Unit(unit)).command("arping");
        command.args(["-q", "-A", "-c", "1", "-w", "1", "-I", "lan0", "192.0.2.1"]);
        // Nobody answers an announcement, which `arping` takes for a failure.
        command.status().unwrap();
    };
    let watch = |speakers: &[u8]| {
        let switch = topology.namespace(Host::Switch);
        let watch = Watch::start(&switch, Duration::from_secs(10)).unwrap();
        sleep(Duration::from_millis(300));
        speakers.iter().for_each(|unit| say(*unit));
        sleep(Duration::from_millis(300));
        watch.finish().unwrap()
    };
    let (doubled, moves) = watch(&[1, 1, 2, 2]);
    assert_eq!((doubled.len(), moves), (0, 1), "{doubled:?}");
    // It is behind the second port now.
    let (doubled, _) = watch(&[1, 2, 1]);
    assert_eq!(doubled.len(), 1, "{doubled:?}");
    assert_eq!(
        (doubled[0].port.as_str(), doubled[0].between.as_str()),
        ("u1-lan", "u2-lan")
    );
}
