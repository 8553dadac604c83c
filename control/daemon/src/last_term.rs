//! The term in which this unit was primary last, kept for its next start.
//!
//! A unit that starts alone hears from nobody what its earlier start was. It would be promoted in the same term
//! again, and sessions that both starts wrote would have no order. So the term is written before the workers
//! hear of a promotion, to a file beside the management socket. In `/run`, which is memory, that is one system
//! call that waits for no disk; it is gone when the machine restarts.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::management::socket::beside;

/// The open file. Owned by the control core.
#[derive(Debug)]
pub(crate) struct LastTerm(File);

impl LastTerm {
    /// The file beside this socket, and the term in it; 0 when the unit was never primary.
    pub(crate) fn open(socket: &Path) -> Result<(Self, u32)> {
        let path = beside(socket, ".term");
        let open = || {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).mode(0o600);
            let mut file = options.open(&path)?;
            let mut text = String::new();
            file.read_to_string(&mut text)?;
            Ok::<_, io::Error>((file, text))
        };
        let (file, text) = open().with_context(|| path.display().to_string())?;
        let term = match text.trim() {
            "" => 0,
            term => term.parse().with_context(|| {
                format!("{}: no term of a cluster; remove the file", path.display())
            })?,
        };
        Ok((Self(file), term))
    }

    /// The unit becomes primary in this term. Of one width, so that nothing of an earlier one is left behind it.
    pub(crate) fn keep(&self, term: u32) -> io::Result<()> {
        self.0.write_all_at(format!("{term:10}\n").as_bytes(), 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::management::socket::tests::Folder;

    #[test]
    fn a_later_start_finds_the_last_term() {
        let folder = Folder::new();
        let socket = folder.0.join("gw.sock");
        let (file, term) = LastTerm::open(&socket).unwrap();
        assert_eq!(term, 0);
        file.keep(16_777_215).unwrap();
        file.keep(31).unwrap();
        assert_eq!(LastTerm::open(&socket).unwrap().1, 31);
        let (other, _) = LastTerm::open(&folder.0.join("gw.a")).unwrap();
        other.keep(47).unwrap();
        assert_eq!(LastTerm::open(&folder.0.join("gw.b")).unwrap().1, 0);
        std::fs::write(folder.0.join("gw.sock.term"), "thirty").unwrap();
        let error = format!("{:#}", LastTerm::open(&socket).unwrap_err());
        let expected = "gw.sock.term: no term of a cluster";
        assert!(error.contains(expected), "{error}");
    }
}
