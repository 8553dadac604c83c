//! Persistent TCP connections through the cluster, some busy and some idle. One is kept when the
//! same connection still carries data, right and in order, after the fault.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};

use crate::clock;
use crate::namespace::Namespace;
use crate::topology::SERVER_WAN;

/// The port on which the server echoes.
const PORT: u16 = 7;
/// Bytes of one exchange.
const MESSAGE: usize = 512;
/// The pause of a busy connection between two exchanges.
const BUSY_INTERVAL: Duration = Duration::from_millis(20);
/// How long an exchange may take. TCP doubles its retransmission timeout from 0.2 s, so that an
/// outage of one second is over for it after less than three.
const PATIENCE: Duration = Duration::from_secs(20);

/// Open connections from the client to the server.
#[derive(Debug)]
pub struct TcpSessions {
    finish: Arc<AtomicBool>,
    clients: Vec<JoinHandle<Life>>,
}

/// What became of the connections.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TcpOutcome {
    /// Connections opened.
    pub total: usize,
    /// Those that still carried data at the end.
    pub kept: usize,
    /// Those that were reset.
    pub reset: usize,
    /// The longest that any of the busy ones waited for an answer.
    pub longest_stall: Duration,
}

impl TcpSessions {
    /// Opens `total` connections, each of which exchanges data once; after that every second one
    /// goes on doing so and the others are idle.
    ///
    /// # Errors
    ///
    /// When a connection cannot be opened.
    pub fn open(client: &Namespace, server: &Namespace, total: usize) -> Result<Self> {
        let listener = server.run(|| {
            TcpListener::bind((SERVER_WAN, PORT)).context("the server has no TCP echo port")
        })?;
        let finish = Arc::new(AtomicBool::new(false));
        let mut clients = Vec::with_capacity(total);
        for index in 0..total {
            let stream = client.run(|| {
                TcpStream::connect_timeout(&(SERVER_WAN, PORT).into(), Duration::from_secs(10))
                    .with_context(|| {
                        format!("TCP connection {} of {total} cannot be opened", index + 1)
                    })
            })?;
            let (peer, _) = listener.accept().context("the server did not accept")?;
            thread::spawn(move || echo(peer));
            let mut connection = Connection::new(stream, index)?;
            connection
                .exchange()
                .context("a new TCP connection carries no data")?;
            let busy = index % 2 == 0;
            let finish = Arc::clone(&finish);
            clients.push(thread::spawn(move || connection.live(busy, &finish)));
        }
        Ok(Self { finish, clients })
    }

    /// Lets every connection, the idle ones too, exchange data once more, closes it, and counts.
    ///
    /// # Errors
    ///
    /// When a thread panicked.
    pub fn finish(self) -> Result<TcpOutcome> {
        self.finish.store(true, Ordering::Release);
        let mut outcome = TcpOutcome {
            total: self.clients.len(),
            ..TcpOutcome::default()
        };
        for client in self.clients {
            client.thread().unpark();
            let life = client
                .join()
                .map_err(|_| anyhow!("a TCP connection's thread panicked"))?;
            outcome.longest_stall = outcome.longest_stall.max(life.longest_stall);
            match life.end {
                Ok(()) => outcome.kept += 1,
                Err(error) if error.kind() == ErrorKind::ConnectionReset => outcome.reset += 1,
                // Timed out or cut short: not kept, and counted as such.
                Err(_) => {}
            }
        }
        Ok(outcome)
    }
}

/// The client's end of one connection.
#[derive(Debug)]
struct Connection {
    stream: TcpStream,
    /// The first byte of the next message, so that none looks like the one before it.
    next: u8,
    longest_stall: Duration,
}

/// How a connection fared.
#[derive(Debug)]
struct Life {
    end: io::Result<()>,
    /// The longest that it waited for an answer while it was busy.
    longest_stall: Duration,
}

impl Connection {
    fn new(stream: TcpStream, index: usize) -> Result<Self> {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            next: u8::try_from(index % 251)?,
            longest_stall: Duration::ZERO,
        })
    }

    fn live(mut self, busy: bool, finish: &AtomicBool) -> Life {
        let end = self.talk(busy, finish);
        Life {
            end,
            longest_stall: self.longest_stall,
        }
    }

    fn talk(&mut self, busy: bool, finish: &AtomicBool) -> io::Result<()> {
        while !finish.load(Ordering::Acquire) {
            if busy {
                let asked = clock::now();
                let exchanged = self.exchange();
                self.longest_stall = self.longest_stall.max(clock::now() - asked);
                exchanged?;
                thread::park_timeout(BUSY_INTERVAL);
            } else {
                thread::park();
            }
        }
        self.exchange()
    }

    /// Sends a message and reads it back.
    fn exchange(&mut self) -> io::Result<()> {
        let mut message = [0; MESSAGE];
        for byte in &mut message {
            *byte = self.next;
            self.next = self.next.wrapping_add(1);
        }
        self.next = self.next.wrapping_add(1);
        self.stream.write_all(&message)?;
        let mut answer = [0; MESSAGE];
        self.stream.read_exact(&mut answer)?;
        if answer == message {
            Ok(())
        } else {
            Err(io::Error::new(
                ErrorKind::InvalidData,
                "the answer differs from the message",
            ))
        }
    }
}

/// The server's end of one connection. It ends with the connection, however that ends: the
/// client's end tells.
fn echo(mut stream: TcpStream) {
    let mut buffer = [0; MESSAGE];
    while let Ok(length @ 1..) = stream.read(&mut buffer) {
        if stream.write_all(&buffer[..length]).is_err() {
            return;
        }
    }
}
