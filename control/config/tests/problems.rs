//! Every mistake: its line, its key, its cause and its remedy. The line is the one marked
//! `# here`, and nothing else in the file is reported.

mod common;

use common::{Folder, RIGHT, refused, refused_text, replaced};
use config::{Config, Problems, Severity, check_cluster};

#[test]
fn the_right_configuration_is_accepted_without_a_warning() {
    let config = Folder::new().right(RIGHT);
    assert_eq!(config.warnings(), []);
    assert_eq!(config.text(), RIGHT);
}

#[test]
fn syntax() {
    refused(
        "id = 7",
        "id = 7\nid = 8 # here",
        "",
        "duplicate key",
        "keep one of the lines",
    );
}

#[test]
fn keys() {
    refused(
        "heartbeat_loss = 3",
        "hearbeat_loss = 3 # here",
        "cluster.hearbeat_loss",
        "is no key",
        "did you mean heartbeat_loss?",
    );
    refused(
        "half_open = 50_000",
        "colour = 50_000 # here",
        "limits.colour",
        "is no key",
        "there are half_open, per_source",
    );
}

#[test]
fn tables() {
    refused(
        "[limits]",
        "[limit] # here",
        "limit",
        "is no key",
        "did you mean limits?",
    );
}

#[test]
fn missing_values() {
    refused(
        "[unit]\nid = 1\n",
        "[unit] # here\n",
        "unit.id",
        "is missing",
        "add a line such as id = 1",
    );
    refused(
        "[cpu]\ncontrol = 0\nworkers = [1]\n",
        "[cpu] # here\ncontrol = 0\n",
        "cpu.workers",
        "is missing",
        "add a line such as workers = [1, 2]",
    );
    refused(
        "[[interface]]\nname = \"sync\"\ndevice = \"af_packet:sync0\"\n",
        "[[interface]] # here\nname = \"sync\"\n",
        "interface[sync].device",
        "is missing",
        "add a line such as device = \"af_packet:lan0\"",
    );
}

#[test]
fn numbers() {
    refused(
        "id = 1\n",
        "id = 17 # here\n",
        "unit.id",
        "17 is out of range",
        "write a number from 1 to 16",
    );
    refused(
        "id = 1\n",
        "id = \"1\" # here\n",
        "unit.id",
        "is a value of type string",
        "write a number from 1 to 16, without quotes",
    );
    refused(
        "sessions = 250_000",
        "sessions = 99999999999999999999 # here",
        "memory.sessions",
        "99999999999999999999 is out of range",
        "write a number from 1024 to 100000000",
    );
    refused(
        "huge_pages = false",
        "huge_pages = \"no\" # here",
        "memory.huge_pages",
        "is a value of type string",
        "write true or false, without quotes",
    );
}

#[test]
fn names() {
    let letters = "letters, digits, \"-\", \"_\" or \".\", the first a letter or digit";
    refused(
        "name = \"gw-a\"",
        "name = \"gw/a\" # here",
        "unit.name",
        "\"gw/a\" can't be a name",
        &format!("write 1 to 32 {letters}"),
    );
    refused(
        "name = \"sync\"",
        "name = \"any\" # here",
        "interface[any].name",
        "\"any\" stands for every interface in policies",
        "write another name",
    );
}

#[test]
fn cores() {
    refused(
        "workers = [1]",
        "workers = [\n  1,\n  2,\n  1, # here\n]",
        "cpu.workers",
        "core 1 has a worker already",
        "give each worker a core of its own",
    );
    refused(
        "workers = [1]\nidle = \"sleep\"",
        "workers = [0] # here\nidle = \"spin\"",
        "cpu.workers",
        "core 0 is the control core, and idle is \"spin\"",
        "give control a core of its own, or write idle = \"sleep\"",
    );
    refused(
        "workers = [1]",
        "workers = [] # here",
        "cpu.workers",
        "is an empty list",
        "remove it, or write a value into it",
    );
}

#[test]
fn durations() {
    let range = "write a duration from \"1ms\" to \"10s\"";
    for wrong in ["900us", "11s"] {
        refused(
            "heartbeat_interval = \"10ms\"",
            &format!("heartbeat_interval = \"{wrong}\" # here"),
            "cluster.heartbeat_interval",
            &format!("\"{wrong}\" is out of range"),
            range,
        );
    }
    refused(
        "heartbeat_interval = \"10ms\"",
        "heartbeat_interval = 10 # here",
        "cluster.heartbeat_interval",
        "is a value of type integer",
        "write a duration from \"1ms\" to \"10s\", in quotes",
    );
    refused(
        "tcp_established = \"2h 4m\"",
        "tcp_established = \"2 fortnights\" # here",
        "timeouts.tcp_established",
        "\"2 fortnights\" is not a duration: unknown time unit \"fortnights\", supported units: \
         ns, us/µs, ms, sec, min, hours, days, weeks, months, years (and few variations)",
        "write a duration from \"1s\" to \"7days\", such as \"10ms\", \"1s\" or \"5m\"",
    );
}

#[test]
fn cluster_values() {
    refused(
        "hello_holddown = \"1s\"",
        "hello_holddown = \"20ms\" # here",
        "cluster.hello_holddown",
        "\"20ms\" is shorter than heartbeat_interval × heartbeat_loss, so a fresh unit would not \
         hear its peers",
        "write at least \"30ms\"",
    );
    refused(
        "ether_type = 0x88B5",
        "ether_type = 0x0800 # here",
        "cluster.ether_type",
        "0x0800 belongs to another protocol",
        "write 0x88B5 or 0x88B6, which IEEE 802 keeps for local use",
    );
    refused(
        "schedule = \"none\"",
        "schedule = \"round-robbin\" # here",
        "cluster.schedule",
        "\"round-robbin\" is no choice",
        "did you mean \"round-robin\"? There are \"none\", \"hub\", \"round-robin\", \
         \"weighted-round-robin\", \"least-connections\", \"random\", \"ip\", \"ip-port\"",
    );
    refused(
        "schedule = \"none\"",
        "session_sync = false\nschedule = \"ip\" # here",
        "cluster.schedule",
        "\"ip\" gives sessions to other units, and session_sync = false keeps them from knowing each \
         other's",
        "remove session_sync = false, or write schedule = \"none\"",
    );
    refused(
        "schedule = \"none\"",
        "acked_timeout = \"2s\" # here",
        "cluster.acked_timeout",
        "\"2s\" is out of range",
        "write a duration from \"1ms\" to \"1s\"",
    );
    refused(
        "priority = 200",
        "weight = 256 # here",
        "unit.weight",
        "256 is out of range",
        "write a number from 0 to 255",
    );
}

#[test]
fn key_files() {
    refused(
        "key_file = \"cluster.key\"",
        "key_file = \"missing.key\" # here",
        "cluster.key_file",
        "FOLDER/missing.key can't be read: No such file or directory (os error 2)",
        "copy it from another unit, or make one: openssl rand -hex 32 > FOLDER/missing.key",
    );
    let folder = Folder::new();
    folder.write("cluster.key", "too short\n", 0o600);
    let problems = folder.wrong(RIGHT);
    assert_eq!(problems.len(), 1);
    assert_eq!(problems[0].line, Some(17));
    assert!(
        problems[0]
            .cause
            .ends_with("cluster.key holds 9 characters, too few for a key")
    );
    assert_eq!(
        problems[0].remedy,
        "write one line: 64 hexadecimal digits (openssl rand -hex 32), or a passphrase of at \
         least 16 characters"
    );
}

#[test]
fn a_key_that_everybody_can_read_is_a_warning() {
    let folder = Folder::new();
    folder.write("cluster.key", &"5a".repeat(32), 0o644);
    let config = folder.right(RIGHT);
    let [warning] = config.warnings() else {
        panic!("one warning was expected: {:?}", config.warnings());
    };
    assert_eq!(warning.severity, Severity::Warning);
    assert_eq!(
        (warning.line, warning.key.as_str()),
        (Some(17), "cluster.key_file")
    );
    assert!(
        warning
            .to_string()
            .contains(":17: warning: cluster.key_file: "),
        "{warning}"
    );
}

#[test]
fn devices() {
    refused(
        "device = \"af_packet:lan0\"",
        "device = \"afpacket:lan0\" # here",
        "interface[lan].device",
        "\"afpacket\" is no kind of device",
        "write one of af_packet:IF, af_xdp:IF, tap:IF, memif:SOCKET, pci:0000:81:00.0, \
         pcap:FILE, null, vdev:ARGS",
    );
    refused(
        "device = \"af_packet:wan0\"",
        "device = \"af_packet:lan0\" # here",
        "interface[wan].device",
        "\"af_packet:lan0\" is used on line 26",
        "give each interface a device of its own",
    );
}

#[test]
fn interfaces() {
    refused(
        "[[interface]]\nname = \"wan\"\ndevice = \"af_packet:wan0\"\nrole = \"traffic\"\n\
         cluster_addresses = [\n    \"198.51.100.1/24\",\n    \"198.51.100.2/24\",\n]\n\n\
         [[interface]]\nname = \"sync\"",
        "[[interface]]\nname = \"wan\"\ndevice = \"af_packet:wan0\"\nrole = \"traffic\"\n\
         cluster_addresses = [\n    \"198.51.100.1/24\",\n]\n\n\
         [[interface]]\nname = \"lan\" # here",
        "interface[lan].name",
        "\"lan\" is the interface on line 24",
        "give each interface a name of its own",
    );
    refused(
        "role = \"sync\"",
        "role = \"sync\"\ncritical = true # here",
        "interface[sync].critical",
        "a sync interface carries heartbeats always and never counts in the election",
        "remove it, or write role = \"traffic\"",
    );
    refused(
        "role = \"sync\"",
        "role = \"sync\"\nunit_address = \"203.0.113.1/24\" # here",
        "interface[sync].unit_address",
        "a sync interface has no addresses",
        "remove it: frames between units carry no IP",
    );
    refused(
        "critical = true",
        "critical = true\nmonitored = false # here",
        "interface[lan].monitored",
        "is false, but a critical interface counts in the election",
        "remove it, or write critical = false",
    );
    refused(
        "critical = true",
        "weight = 2 # here",
        "interface[lan].weight",
        "has no effect, since the interface does not count in the election",
        "remove it, or write critical or monitored = true",
    );
    refused(
        "critical = true",
        "critical = true\nmtu = 1400 # here",
        "interface[lan].mtu",
        "1400 is too small for the frames between units",
        "write at least 1500",
    );
    refused(
        "critical = true",
        "critical = true\nvlan = 5 # here",
        "interface[lan].vlan",
        "is not offered by this release",
        "remove it, and give the interface a device that carries untagged frames",
    );
    refused_text(
        &format!(
            "{RIGHT}\n[[interface]] # here\nname = \"dmz\"\ndevice = \"null\"\nrole = \"traffic\"\n"
        ),
        "interface[dmz].cluster_addresses",
        "is missing, and so is unit_address: a traffic interface needs an address",
        "add a line such as cluster_addresses = [\"192.0.2.1/24\"]",
    );
}

#[test]
fn more_interfaces_than_there_are_numbers() {
    let one = |i| format!("\n[[interface]]\nname = \"x{i}\"\ndevice = \"null\"\nrole = \"sync\"\n");
    let text = RIGHT.to_owned() + &(0..300).map(one).collect::<String>();
    let problems = Folder::new().wrong(&text);
    // Three stand in the file already; the sixty-fifth is one too many.
    let line = text
        .lines()
        .position(|line| line == "name = \"x61\"")
        .unwrap();
    assert_eq!((problems.len(), problems[0].line), (1, Some(line)));
    assert_eq!(
        problems[0].to_string().split(": ").last(),
        Some("there are 303 interfaces; write at most 64")
    );
}

#[test]
fn more_links_than_frames_can_number() {
    let one = |i| format!("\n[[interface]]\nname = \"x{i}\"\ndevice = \"null\"\nrole = \"sync\"\n");
    // Two of the interfaces in the file are links.
    let with = |more: u32| RIGHT.to_owned() + &(0..more).map(one).collect::<String>();
    Folder::new().right(&with(14));
    let problems = Folder::new().wrong(&with(15));
    assert_eq!(problems.len(), 1);
    assert_eq!(
        problems[0].cause,
        "is one too many: 17 interfaces carry heartbeats or count in the election, and a unit has at most 16 such links"
    );
}

#[test]
fn no_interface_at_all() {
    let text: String = RIGHT
        .split("[[interface]]")
        .next()
        .unwrap_or_default()
        .into();
    let problems = Folder::new().wrong(&text);
    assert_eq!(problems.len(), 1);
    assert_eq!(problems[0].key, "interface");
    assert_eq!(
        problems[0].remedy,
        "add a table [[interface]] for each port"
    );
}

#[test]
fn a_unit_without_heartbeats_is_warned() {
    let text = replaced("critical = true\n", "");
    let (before, after) = text.split_once("[[interface]]\nname = \"sync\"").unwrap();
    let text = format!("{before}{}", &after[after.find("[[route]]").unwrap()..]);
    let config = Folder::new().right(&text);
    assert_eq!(config.warnings().len(), 1);
    assert_eq!(
        config.warnings()[0].cause,
        "no interface carries heartbeats, so the unit will never hear a peer"
    );
}

#[test]
fn addresses() {
    refused(
        "    \"198.51.100.2/24\",",
        "    \"198.51.100.1/24\", # here",
        "interface[wan].cluster_addresses",
        "198.51.100.1 is on line 37 already",
        "write each address once; a cluster address is not also a unit address",
    );
    refused(
        "unit_address = \"192.0.2.11/24\"",
        "unit_address = \"192.0.2.1/24\" # here",
        "interface[lan].unit_address",
        "192.0.2.1 is on line 29 already",
        "write each address once; a cluster address is not also a unit address",
    );
    refused(
        "    \"198.51.100.2/24\",",
        "    \"192.0.2.129/25\", # here",
        "interface[wan].cluster_addresses",
        "192.0.2.128/25 overlaps 192.0.2.0/24 of interface \"lan\"",
        "give each interface networks of its own",
    );
    refused(
        "unit_address = \"192.0.2.11/24\"",
        "unit_address = \"192.0.2.255/24\" # here",
        "interface[lan].unit_address",
        "192.0.2.255/24 is not the address of a host",
        "write an address with its network's prefix length, such as \"192.0.2.1/24\"",
    );
    refused(
        "unit_address = \"192.0.2.11/24\"",
        "unit_address = \"192.0.2.11\" # here",
        "interface[lan].unit_address",
        "\"192.0.2.11\" has no prefix length",
        "write an address with its network's prefix length, such as \"192.0.2.1/24\"",
    );
    refused(
        "unit_address = \"192.0.2.11/24\"",
        "unit_address = \"2001:db8::1/64\" # here",
        "interface[lan].unit_address",
        "\"2001:db8::1\" is an IPv6 address, and IPv6 is not offered by this release",
        "write an address with its network's prefix length, such as \"192.0.2.1/24\"",
    );
}

#[test]
fn routes() {
    let via = "via = \"198.51.100.254\"";
    let route = "route[0.0.0.0/0]";
    refused(
        via,
        "via = \"203.0.113.1\" # here",
        &format!("{route}.via"),
        "203.0.113.1 is on no connected network",
        "write an address in one of 192.0.2.0/24 on lan, 198.51.100.0/24 on wan",
    );
    refused(
        via,
        "via = \"198.51.100.2\" # here",
        &format!("{route}.via"),
        "198.51.100.2 is the gateway's own address",
        "write the address of another router",
    );
    refused(
        via,
        "via = \"198.51.100.254\"\ninterface = \"wan\" # here",
        &format!("{route}.interface"),
        "stands beside via",
        "keep one of the two",
    );
    refused(
        "[[route]]\nto = \"0.0.0.0/0\"\nvia = \"198.51.100.254\"",
        "[[route]] # here\nto = \"0.0.0.0/0\"",
        &format!("{route}.via"),
        "is missing",
        "add a line such as via = \"198.51.100.254\", or interface = \"wan\"",
    );
    refused(
        via,
        "interface = \"sync\" # here",
        &format!("{route}.interface"),
        "\"sync\" is a sync interface, which carries no user's packet",
        "write a traffic interface: lan, wan",
    );
    refused(
        "to = \"0.0.0.0/0\"",
        "to = \"10.1.2.3/8\" # here",
        "route[10.1.2.3/8].to",
        "10.1.2.3/8 has bits set behind its prefix",
        "write \"10.0.0.0/8\" for the network, or \"10.1.2.3\" for the one address",
    );
    refused(
        "to = \"0.0.0.0/0\"",
        "to = \"192.0.2.0/24\" # here",
        "route[192.0.2.0/24].to",
        "192.0.2.0/24 is connected to \"lan\"",
        "remove the route: connected networks need none",
    );
    refused_text(
        &format!("{RIGHT}\n[[route]]\nto = \"0.0.0.0/0\" # here\ninterface = \"wan\"\n"),
        &format!("{route}.to"),
        "0.0.0.0/0 has a route on line 47",
        "write one route for each destination",
    );
}

#[test]
fn management() {
    refused(
        "socket = \"/run/tidegate/gw-a.sock\"",
        "socket = \"gw-a.sock\" # here",
        "management.socket",
        "\"gw-a.sock\" does not begin with /",
        "write \"/run/tidegate/gw-a.sock\"",
    );
    refused(
        "socket = \"/run/tidegate/gw-a.sock\"",
        &format!("socket = \"/run/{}\" # here", "x".repeat(110)),
        "management.socket",
        "is longer than 107 bytes, so no socket can have it",
        "write a shorter one, such as \"/run/tidegate/gw-a.sock\"",
    );
    refused(
        "metrics = \"127.0.0.1:9464\"",
        "metrics = \"9464\" # here",
        "management.metrics",
        "\"9464\" is not an address and a port",
        "write an address and a port, such as \"127.0.0.1:9464\"",
    );
}

#[test]
fn all_problems_come_at_once_and_by_line() {
    let text = RIGHT
        .replace("id = 1\n", "id = 99\n")
        .replace("af_packet:lan0", "lan0")
        .replace("heartbeat_loss = 3", "heartbeat_lost = 3")
        .replace("via = \"198.51.100.254\"", "via = \"203.0.113.1\"")
        .replace("metrics = \"127.0.0.1:9464\"", "metrics = ");
    let lines: Vec<_> = Folder::new().wrong(&text).iter().map(|p| p.line).collect();
    assert_eq!(lines, [2, 19, 26, 48, 74].map(Some));
}

#[test]
fn an_unreadable_file_is_named() {
    let folder = Folder::new();
    let path = folder.path().join("none.toml");
    let problems = Config::load(&path).unwrap_err().to_string();
    assert_eq!(
        problems,
        format!(
            "{}: can't be read: No such file or directory (os error 2); give the path of a TOML \
             file that this user can read",
            path.display()
        )
    );
}

#[test]
fn units_of_one_cluster_differ_in_id_and_name_and_share_a_key() {
    let folder = Folder::new();
    let load = |name: &str, text: &str| {
        let path = folder.write(name, text, 0o600);
        Config::load(&path).unwrap()
    };
    let a = load("a.toml", RIGHT);
    let same_id = load("b.toml", &RIGHT.replace("\"gw-a\"", "\"gw-b\""));
    let Problems(problems) = check_cluster(&[a.clone(), same_id]).unwrap_err();
    assert_eq!((problems.len(), problems[0].line), (1, Some(2)));
    assert_eq!(problems[0].key, "unit.id");
    let same_name = load("b.toml", &RIGHT.replace("id = 1\n", "id = 2\n"));
    let Problems(problems) = check_cluster(&[a.clone(), same_name.clone()]).unwrap_err();
    assert_eq!((problems.len(), problems[0].line), (1, Some(3)));
    folder.write("cluster.key", "another passphrase of b", 0o600);
    let b = RIGHT
        .replace("id = 1\n", "id = 2\n")
        .replace("\"gw-a\"", "\"gw-b\"");
    let other_key = load("b.toml", &b);
    let Problems(problems) = check_cluster(&[a.clone(), other_key]).unwrap_err();
    assert_eq!((problems.len(), problems[0].line), (1, Some(17)));
    let elsewhere = load("c.toml", &RIGHT.replace("id = 7", "id = 8"));
    assert!(check_cluster(&[a, elsewhere]).is_ok());
}
