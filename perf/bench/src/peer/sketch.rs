//! The sketch of a NAT gateway in C (`sketch/gwbench.c`): the floor that a whole gateway is held
//! against, on the same harness.

use std::fs;
use std::path::PathBuf;

use anyhow::Result;

use super::child::Child;
use super::{Site, Workshop, number_after, start};

const SOURCE: &str = include_str!("../../sketch/gwbench.c");

/// The program, compiled.
#[derive(Debug)]
pub(crate) struct Program(PathBuf);

impl Program {
    /// Compiles it.
    pub(crate) fn compile(workshop: &Workshop) -> Result<Self> {
        let source = workshop.path().join("gwbench.c");
        fs::write(&source, SOURCE)?;
        workshop.compile("gwbench", &[source], &[]).map(Self)
    }

    /// Starts it with so many sessions.
    pub(crate) fn start(&self, site: &Site, sessions: u32) -> Result<Sketch> {
        let devices = ["net_null0,size=60", "net_null1,no-rx=1"];
        let mut arguments = site.eal("sketch", &[site.core], &devices);
        arguments.push(sessions.to_string());
        let mut child = start("gwbench", &self.0, &arguments)?;
        child.expect(|line| (line == "ready").then_some(()))?;
        Ok(Sketch(child))
    }
}

/// The sketch, with its sessions.
pub(crate) struct Sketch(Child);

impl Sketch {
    /// Cycles per packet of the whole sketch, source and sink included: two million packets.
    pub(crate) fn measure(&mut self) -> Result<f64> {
        self.0.say("translate")?;
        self.0.expect(|line| number_after(line, "cycles "))
    }
}
