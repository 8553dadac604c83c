//! With a witness, which is a real etcd: one unit transmits from the virtual MAC at a time, whatever
//! becomes of the units, of their links, and of etcd.

use std::fs::{self, OpenOptions};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use api::{ClusterView, EventView, Role, Why};
use tidegate_lab::clock::{Found, wait_for};
use tidegate_lab::failover::Fault;
use tidegate_lab::{Host, Namespace, Segment};

use crate::site::{Site, assert_all_kept, assert_undisturbed, text};

/// etcd's address in a network of its own between it and the units.
const ETCD: Ipv4Addr = Ipv4Addr::new(10, 78, 0, 254);
/// The lease. The shortest that etcd grants as it comes.
const LEASE: Duration = Duration::from_secs(2);
/// How long after its lease ran out a unit may be replaced: etcd looks for leases that ran out every
/// half second, and this machine may be busy.
const SLACK: Duration = Duration::from_secs(4);

/// An etcd in a namespace of its own, wired to the units; gone with the test.
struct Etcd {
    namespace: Namespace,
    directory: PathBuf,
    process: Option<Child>,
    /// Asked by HTTPS, which asks for certificates itself.
    secured: bool,
}

impl Etcd {
    /// Wires and starts it, and has the units' configurations name it.
    fn beside(site: &Site, secured: bool) -> Self {
        let topology = site.lab.topology();
        let namespace = Namespace::named(format!("{}w", topology.prefix()));
        namespace.create().unwrap();
        let name = format!("tidegate-etcd-{}", topology.prefix());
        let mut etcd = Self {
            namespace,
            directory: std::env::temp_dir().join(name),
            process: None,
            secured,
        };
        etcd.wire(site);
        fs::create_dir_all(&etcd.directory).unwrap();
        let mut files = String::new();
        if secured {
            etcd.certify();
            let file = |name| etcd.directory.join(name).display().to_string();
            let (ca, cert, key) = (file("ca.pem"), file("unit.pem"), file("unit.key"));
            files = format!("ca = {ca:?}\ncert = {cert:?}\nkey = {key:?}\n");
        }
        etcd.start();
        for unit in site.lab.units() {
            let table = format!(
                "[witness]\nendpoints = [\"{}\"]\nlease = \"{}s\"\n{files}\n[management]",
                etcd.origin(),
                LEASE.as_secs()
            );
            site.edit(unit.id(), "[management]", &table);
        }
        etcd
    }

    /// Where clients find it.
    fn origin(&self) -> String {
        let scheme = if self.secured { "https" } else { "http" };
        format!("{scheme}://{ETCD}:2379")
    }

    /// Makes an authority, certificates of it for etcd and the units, and an authority of nobody here.
    fn certify(&self) {
        let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
        fs::write(
            self.directory.join("names"),
            format!("subjectAltName = IP:{ETCD}, IP:127.0.0.1\n"),
        )
        .unwrap();
        for authority in ["ca", "other"] {
            self.openssl(&format!(
                "req -x509 {key} -days 2 -subj /CN={authority} -keyout {authority}.key -out {authority}.pem"
            ));
        }
        for name in ["etcd", "unit"] {
            self.openssl(&format!(
                "req {key} -subj /CN={name} -keyout {name}.key -out {name}.csr"
            ));
            self.openssl(&format!(
                "x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names \
                 -out {name}.pem"
            ));
        }
    }

    fn openssl(&self, words: &str) {
        let mut command = Command::new("openssl");
        command.args(words.split_whitespace());
        let output = command.current_dir(&self.directory).output().unwrap();
        assert!(output.status.success(), "{words}: {}", text(&output.stderr));
    }

    /// curl, as a client that etcd believes.
    fn curl(&self) -> Command {
        let mut command = self.namespace.command("curl");
        command.current_dir(&self.directory).arg("-sf");
        if self.secured {
            command.args([
                "--cacert", "ca.pem", "--cert", "unit.pem", "--key", "unit.key",
            ]);
        }
        command
    }

    fn wire(&self, site: &Site) {
        let topology = site.lab.topology();
        self.namespace
            .ip(&format!(
                "link add net type bridge\nlink set net up\naddress add {ETCD}/24 dev net\n"
            ))
            .unwrap();
        for unit in topology.units() {
            let there = topology.namespace(Host::Unit(unit));
            self.namespace
                .ip(&format!(
                    "link add u{unit} type veth peer name etcd0 netns {}\n\
                     link set u{unit} master net up\n",
                    there.name()
                ))
                .unwrap();
            there
                .ip(&format!(
                    "address add 10.78.0.{unit}/24 dev etcd0\nlink set etcd0 up\n"
                ))
                .unwrap();
        }
    }

    /// Starts it anew, or with what it knew before.
    fn start(&mut self) {
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.directory.join("log"))
            .unwrap();
        let peers = "http://127.0.0.1:2380";
        let clients = self.origin().replace(&ETCD.to_string(), "0.0.0.0");
        let mut command = self.namespace.command("etcd");
        command.current_dir(&self.directory);
        if self.secured {
            command.args(["--cert-file", "etcd.pem", "--key-file", "etcd.key"]);
            command.args(["--client-cert-auth", "--trusted-ca-file", "ca.pem"]);
        }
        command.arg("--data-dir").arg(self.directory.join("data"));
        command.args(["--listen-client-urls", &clients]);
        command.args(["--advertise-client-urls", &self.origin()]);
        command.args(["--listen-peer-urls", peers]);
        command.args(["--initial-advertise-peer-urls", peers]);
        command.args(["--initial-cluster", &format!("default={peers}")]);
        command.stdout(Stdio::null()).stderr(log);
        self.process = Some(command.spawn().unwrap());
        wait_for("etcd to answer", Duration::from_secs(20), || {
            let health = format!("{}/health", self.origin());
            let asked = self.curl().arg(health).output()?;
            Ok(if asked.status.success() {
                Found::Yes(())
            } else {
                Found::NotYet(text(&asked.stderr))
            })
        })
        .unwrap();
    }

    fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    /// Who is written down as the primary.
    fn written(&self) -> String {
        let mut command = self.curl();
        command.args(["-d", "{\"key\":\"L3RpZGVnYXRlLzcvcHJpbWFyeQ==\"}"]);
        command.arg(format!("{}/v3/kv/range", self.origin()));
        text(&command.output().unwrap().stdout)
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let log = fs::read_to_string(self.directory.join("log")).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!(
                "the end of etcd's log:\n{}",
                lines[lines.len().saturating_sub(5)..].join("\n")
            );
        }
        let _ = self.namespace.delete();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// Two units with a witness, one whole cluster.
fn witnessed() -> (Site, Etcd) {
    let site = Site::prepare();
    let etcd = Etcd::beside(&site, false);
    site.start();
    (site, etcd)
}

/// Frames that a unit sends into a segment, as the switch sees them come.
struct Capture {
    file: PathBuf,
    process: Child,
}

impl Capture {
    fn start(site: &Site, unit: u8, segment: Segment) -> Self {
        let port = format!("u{unit}-{}", segment.name());
        let file =
            std::env::temp_dir().join(format!("{}-{port}.pcap", site.lab.topology().prefix()));
        let mut command = site.switch().command("tcpdump");
        command
            .args(["-i", &port, "-Q", "in", "-U", "-w"])
            .arg(&file);
        let process = command.stderr(Stdio::null()).spawn().unwrap();
        let capture = Self { file, process };
        site.wait_until("tcpdump to capture", || capture.file.exists());
        capture
    }

    /// How many frames there are that a filter matches.
    fn count(&self, filter: &str) -> usize {
        let mut command = Command::new("tcpdump");
        command
            .args(["-nn", "-e", "-r"])
            .arg(&self.file)
            .arg(filter);
        text(&command.output().unwrap().stdout).lines().count()
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = fs::remove_file(&self.file);
    }
}

/// Frames from the virtual MACs of the lab's cluster.
const VIRTUAL: &str = "ether[6:4] = 0x02746700 and ether[10] = 0x07";
/// The units' own heartbeats.
const HEARTBEATS: &str = "ether proto 0x88b5";

#[test]
fn the_lease_follows_the_primary_and_a_dead_one_is_replaced_when_it_ran_out() {
    let (site, etcd) = witnessed();
    let primary = site.primary().id();
    let view: ClusterView = site.ask(primary, "cluster");
    let witness = view.witness.unwrap();
    assert!(witness.answers);
    assert_eq!(witness.holder, Some(primary));
    assert!(
        etcd.written().contains("\"count\":\"1\""),
        "{}",
        etcd.written()
    );
    assert!(text(&site.tidegate(primary, &["cluster"]).stdout).contains("has its lease"));

    // In order: the lease is given back, and nobody waits for its end.
    let (_, promotion) = site.survive(Fault::Planned);
    assert!(promotion.after < LEASE / 2, "{promotion:?}");
    site.lab.wait_whole().unwrap();

    let (_, promotion) = site.survive(Fault::Kill);
    assert!(promotion.after <= LEASE + SLACK, "{promotion:?}");
    let events: Vec<EventView> = site.ask(promotion.unit, "events");
    let waited = events.iter().any(|event| {
        event
            .message
            .contains("waiting for the lease of the witness")
    });
    assert!(waited, "{events:?}");
    assert_eq!(
        site.counter(promotion.unit, "cluster_leases_granted"),
        1 + u64::from(promotion.unit == primary)
    );
}

#[test]
fn of_units_that_hear_nothing_of_each_other_only_the_holder_of_the_lease_is_primary() {
    let (site, _etcd) = witnessed();
    let (primary, other) = (site.primary().id(), site.subordinate().id());
    let term = site.unit(primary).status().unwrap().term;
    let stream = site.start_stream();
    let rules = "add table bridge apart; add chain bridge apart beats { type filter hook prerouting priority 0 ; }; \
                 add rule bridge apart beats ether type 0x88b5 drop";
    let nft = |rules: &str| {
        let mut command = site.switch().command("nft");
        assert!(command.arg(rules).status().unwrap().success());
    };
    nft(rules);
    site.wait_until("the units to miss each other", || {
        !site.hears(primary, other) && !site.hears(other, primary)
    });
    let pause = Duration::from_millis(50);
    for _ in 0..(LEASE * 3).as_millis() / pause.as_millis() {
        let status = site.unit(other).status().unwrap();
        assert_ne!(status.role, Role::Primary);
        let status = site.unit(primary).status().unwrap();
        assert_eq!((status.role, status.term), (Role::Primary, term));
        std::thread::sleep(pause);
    }
    nft("delete table bridge apart");
    site.lab.wait_whole().unwrap();
    assert_eq!(site.primary().id(), primary);
    for unit in [1, 2] {
        assert_eq!(site.counter(unit, "cluster_dual_primaries"), 0);
    }
    assert_undisturbed(stream);
}

#[test]
fn a_primary_that_slept_beyond_its_lease_sends_nothing_from_the_virtual_mac_when_it_wakes() {
    let (site, _etcd) = witnessed();
    let stream = site.start_stream();
    // What is sent to it until the other one takes over waits in its rings when it wakes.
    let (strike, promotion) = site.strike(Fault::Silent);
    let captures =
        [Segment::Lan, Segment::Wan].map(|segment| Capture::start(&site, strike.unit, segment));
    let before = site.unit(promotion.unit).status().unwrap();
    site.unit(strike.unit).thaw().unwrap();
    site.lab.wait_whole().unwrap();
    site.wait_until("the capture of its heartbeats", || {
        captures.iter().all(|capture| capture.count(HEARTBEATS) > 0)
    });
    for capture in &captures {
        assert_eq!(capture.count(VIRTUAL), 0);
    }
    let counters = site.counters(strike.unit);
    let held_back = counters["drop_no_lease"] + counters["drop_not_primary"];
    assert!(held_back > 0, "nothing waited for it: {counters:?}");
    let why: Why = site.ask(strike.unit, "cluster why");
    let lost = why
        .transitions
        .iter()
        .any(|transition| transition.cause.contains("lease of the witness ran out"));
    assert!(lost, "{why:?}");
    assert_eq!(
        site.unit(promotion.unit).status().unwrap().term,
        before.term
    );
    // The same capture does see what leaves from the virtual MAC, and the stream still goes.
    stream.stop().unwrap();
    let capture = Capture::start(&site, promotion.unit, Segment::Wan);
    let sessions = site.open_tcp(3);
    site.wait_until("frames of the primary", || capture.count(VIRTUAL) > 0);
    assert_all_kept(sessions, 3);
}

#[test]
fn without_etcd_the_primary_stops_and_with_it_the_cluster_serves_again() {
    let (site, mut etcd) = witnessed();
    let sessions = site.open_tcp(5);
    let primary = site.primary().id();
    etcd.kill();
    site.wait_until("the primary to stop", || {
        site.unit(primary).status().unwrap().role == Role::Isolated
    });
    assert!(site.lab.primary().is_err());
    let view: ClusterView = site.ask(primary, "cluster");
    assert!(!view.witness.unwrap().answers);
    assert!(text(&site.tidegate(primary, &["cluster"]).stdout).contains("does not answer"));
    let why: Why = site.ask(primary, "cluster why");
    let last = why.transitions.last().unwrap();
    assert_eq!(
        (last.to, last.cause.as_str()),
        (Role::Isolated, "the lease of the witness ran out")
    );
    assert_eq!(site.counter(primary, "cluster_leases_lost"), 1);

    etcd.start();
    site.lab.wait_whole().unwrap();
    assert_all_kept(sessions, 5);
}

#[test]
fn etcd_is_asked_by_tls_and_believed_only_for_its_certificate() {
    let site = Site::prepare();
    let etcd = Etcd::beside(&site, true);
    site.start();
    let (primary, other) = (site.primary().id(), site.subordinate().id());
    let holder = |unit| {
        let view: ClusterView = site.ask(unit, "cluster");
        let witness = view.witness.unwrap();
        (witness.answers, witness.holder)
    };
    site.wait_until("both to know the holder of the lease", || {
        [primary, other].map(holder) == [(true, Some(primary)); 2]
    });
    assert!(etcd.written().contains("\"count\":\"1\""));

    // One that knows another authority does not believe it, and says so.
    site.unit(other).stop().unwrap();
    site.edit(other, "ca.pem", "other.pem");
    site.unit(other).start().unwrap();
    site.wait_until("its log to tell", || {
        let log = fs::read_to_string(site.unit(other).log()).unwrap();
        log.contains("invalid peer certificate")
    });
    assert!(!holder(other).0);
    assert_eq!(holder(primary), (true, Some(primary)));
}
