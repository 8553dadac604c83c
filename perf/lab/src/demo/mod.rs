//! The demonstration: a download through NAT that goes on while the primary is killed, and again
//! while the next primary loses its cable.

mod download;
mod narrator;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::clock;
use crate::failover::{Fault, Promotion, Strike};
use crate::lab::{Lab, LabSettings};
use crate::probe::{Loss, TcpSessions, UdpStream};
use crate::topology::{CLUSTER_LAN, Host, Segment};

use download::Download;
use narrator::{Narrator, Watch};

/// Datagrams per second of the stream that measures.
const STREAM_RATE: u32 = 1_000;
/// TCP connections besides the download.
const TCP_SESSIONS: usize = 20;
/// UDP and TCP sessions that the demonstration holds open at the least: those, the stream and the
/// download.
const SESSIONS_OPEN: u64 = TCP_SESSIONS as u64 + 2;
/// A blocked time that people at the other end of a call would put up with.
const BLOCKED_LIMIT: Duration = Duration::from_secs(1);

/// What the demonstration shows.
#[derive(Clone, Debug)]
pub struct Demonstration {
    /// The lab to build for it.
    pub lab: LabSettings,
    /// Size of the downloaded file in units of 2^20 bytes.
    pub megabytes: u32,
    /// Speed of the download in units of 2^20 bytes per second.
    pub megabytes_per_second: u32,
}

/// One failover of the demonstration, as the report tells it.
#[derive(Debug)]
struct Chapter {
    fault: Fault,
    struck: u8,
    promotion: Promotion,
    /// Datagrams offered when it began and when it was over.
    from: u64,
    to: u64,
}

impl Demonstration {
    /// Performs it and prints what happens as it happens, then a report. The lab and the files are
    /// removed at the end.
    ///
    /// # Errors
    ///
    /// When any of what it shows failed.
    pub fn perform(&self) -> Result<()> {
        let narrator = Arc::new(Narrator::new());
        narrator.say(format!(
            "building a client, a server, a switch and {} units in network namespaces",
            self.lab.units
        ));
        let lab = Arc::new(Lab::up(&self.lab)?);
        let watch = Watch::start(&lab, &narrator);
        let result = self.perform_in(&lab, &narrator);
        drop(watch);
        // The logs go with the lab.
        let logs: String = lab
            .units()
            .iter()
            .map(|unit| unit.log_end() + "\n")
            .collect();
        lab.down()?;
        result.with_context(|| format!("the end of the units' logs:\n{logs}"))
    }

    fn perform_in(&self, lab: &Lab, narrator: &Narrator) -> Result<()> {
        let client = lab.topology().namespace(Host::Client);
        let server = lab.topology().namespace(Host::Server);
        let mut download =
            Download::start(lab.topology(), self.megabytes, self.megabytes_per_second)?;
        narrator.say(format!(
            "curl downloads {} MB through NAT from {}",
            self.megabytes,
            download.server_name()
        ));
        let stream = UdpStream::start(&client, &server, STREAM_RATE)?;
        let tcp = TcpSessions::open(&client, &server, TCP_SESSIONS)?;
        narrator.say(format!(
            "beside it, {STREAM_RATE} UDP packets/s and {TCP_SESSIONS} TCP sessions"
        ));
        lab.wait_holding(SESSIONS_OPEN)?;

        download.wait_share(0.25)?;
        let first = self.strike(lab, narrator, &stream, Fault::Kill)?;
        download.wait_share(0.5)?;
        self.rejoin(lab, narrator, &first)?;
        download.wait_share(0.6)?;
        let second = self.strike(lab, narrator, &stream, Fault::Link)?;
        lab.topology().set_link(second.struck, Segment::Lan, true)?;
        narrator.say(format!(
            "the cable of u{} is plugged in again",
            second.struck
        ));

        let intact = download.finish()?;
        narrator.say("the download is complete");
        let tcp = tcp.finish()?;
        let record = stream.stop()?;
        narrator.report("");
        let mut ok = true;
        for chapter in [&first, &second] {
            ok &= report_chapter(narrator, chapter, record.loss(chapter.from..chapter.to));
        }
        let all_kept = tcp.kept == tcp.total;
        narrator.check(
            all_kept,
            format!(
                "TCP sessions kept: {} of {}, {} reset",
                tcp.kept, tcp.total, tcp.reset
            ),
        );
        narrator.check(intact.same, format!("SHA-256 of the file: {}", intact.text));
        let rejoined = format!(
            "u{} came back as a subordinate and held every session",
            first.struck
        );
        narrator.check(true, rejoined);
        ensure!(
            ok && all_kept && intact.same,
            "the demonstration failed: see the report"
        );
        Ok(())
    }

    /// Breaks the primary and tells what comes of it.
    fn strike(
        &self,
        lab: &Lab,
        narrator: &Narrator,
        stream: &UdpStream,
        fault: Fault,
    ) -> Result<Chapter> {
        let (unit, _) = lab.primary()?;
        narrator.stress(match fault {
            Fault::Kill => format!(
                "SIGKILL of {}, the primary, in the middle of the download",
                unit.name()
            ),
            Fault::Link => format!("the lan cable of {}, the primary, is pulled", unit.name()),
            Fault::Silent | Fault::Asleep => format!("{}, the primary, is stopped", unit.name()),
            Fault::Planned => format!("{}, the primary, is asked to hand over", unit.name()),
        });
        let from = stream.offered();
        let strike = Strike::perform(lab, fault)?;
        let promotion = strike.wait_promotion(lab)?;
        stream.wait_steady(stream.offered())?;
        narrator.say(format!(
            "{} is promoted in term {}, {} ms after the fault: {}",
            promotion.name,
            promotion.term,
            promotion.after.as_millis(),
            promotion.cause
        ));
        if let Some((mac, port)) = gateway_port(lab)? {
            narrator.say(format!(
                "the switch now finds {CLUSTER_LAN} ({mac}) behind port {port}"
            ));
        }
        Ok(Chapter {
            fault,
            struck: strike.unit,
            promotion,
            from,
            to: stream.offered(),
        })
    }

    /// Starts the dead unit again and waits until it holds what the primary holds.
    fn rejoin(&self, lab: &Lab, narrator: &Narrator, dead: &Chapter) -> Result<()> {
        let unit = lab.unit(dead.struck)?;
        narrator.say(format!("{} is started again", unit.name()));
        let start = clock::now();
        unit.start()?;
        lab.wait_holding(SESSIONS_OPEN)?;
        let took = (clock::now() - start).as_secs_f32();
        let status = unit.status()?;
        ensure!(
            status.role == api::Role::Subordinate,
            "{} came back as {}, not as a subordinate",
            unit.name(),
            status.role
        );
        narrator.say(format!(
            "{} is a subordinate and holds {} sessions, {took:.1} s after its start",
            unit.name(),
            status.sessions.total
        ));
        Ok(())
    }
}

/// Prints one failover of the report. Returns whether it was good enough.
fn report_chapter(narrator: &Narrator, chapter: &Chapter, loss: Loss) -> bool {
    let Promotion { name, term, .. } = &chapter.promotion;
    let good = loss.blocked <= BLOCKED_LIMIT;
    narrator.check(
        good,
        format!(
            "{} of u{}: {name} became the primary in term {term}; blocked for {} ms ({} of {} packets lost)",
            chapter.fault,
            chapter.struck,
            loss.blocked.as_millis(),
            loss.lost,
            loss.offered
        ),
    );
    good
}

/// The gateway's MAC as the client knows it, and the switch's port behind which it is.
fn gateway_port(lab: &Lab) -> Result<Option<(String, String)>> {
    let client = lab.topology().namespace(Host::Client);
    let gateway = CLUSTER_LAN.to_string();
    let shown = crate::tool::run(
        "ip",
        &["-n", client.name(), "neighbour", "show", "to", &gateway],
    )?;
    // ADDRESS dev INTERFACE lladdr MAC STATE
    let Some(mac) = shown
        .split_whitespace()
        .skip_while(|word| *word != "lladdr")
        .nth(1)
    else {
        return Ok(None);
    };
    let port = lab.topology().learned_port(Segment::Lan, mac)?;
    Ok(port.map(|port| (mac.to_owned(), port)))
}
