//! A large file, a web server in the server's namespace, and curl in the client's.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::clock::{Found, wait_for};
use crate::namespace::Namespace;
use crate::tool;
use crate::topology::{Host, SERVER_WAN, Topology};

/// Where the files are while the download lasts: on disk, since `/run` is small.
const FILES: &str = "/var/tmp";
/// The name of the file that is downloaded.
const NAME: &str = "tide.bin";
/// The longest that a download may stand still before it counts as failed.
const STALL_LIMIT: Duration = Duration::from_secs(30);

/// A download under way. Dropping it ends both ends and removes the files.
#[derive(Debug)]
pub(crate) struct Download {
    directory: PathBuf,
    server: Child,
    server_name: &'static str,
    curl: Child,
    bytes: u64,
}

/// Whether the file arrived as it was.
#[derive(Debug)]
pub(crate) struct Intact {
    pub(crate) same: bool,
    /// The checksum, or both where they differ.
    pub(crate) text: String,
}

impl Download {
    /// Makes a file of so many times 2^20 bytes, serves it, and starts to download it through the
    /// gateway.
    pub(crate) fn start(
        topology: &Topology,
        megabytes: u32,
        megabytes_per_second: u32,
    ) -> Result<Self> {
        let directory = Path::new(FILES).join(format!("tidegate-{}", topology.prefix()));
        // What an interrupted run left, if anything.
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(directory.join("www"))?;
        write_noise(&directory.join("www").join(NAME), megabytes)
            .context("the file to download cannot be written")?;
        let namespace = topology.namespace(Host::Server);
        let (mut server, server_name) = start_server(&namespace, &directory)?;
        let curl = wait_served(&namespace, &mut server).and_then(|()| {
            start_curl(
                &topology.namespace(Host::Client),
                &directory,
                megabytes_per_second,
            )
        });
        let curl = match curl {
            Ok(curl) => curl,
            Err(error) => {
                end(&mut server);
                return Err(error);
            }
        };
        Ok(Self {
            directory,
            server,
            server_name,
            curl,
            bytes: u64::from(megabytes) << 20,
        })
    }

    /// The program that serves the file.
    pub(crate) fn server_name(&self) -> &'static str {
        self.server_name
    }

    /// Waits until that share of the file has arrived.
    pub(crate) fn wait_share(&mut self, share: f64) -> Result<()> {
        #[expect(
            clippy::cast_precision_loss,
            reason = "a file of 2^53 bytes is not downloaded here"
        )]
        let arrived = |path: &Path, bytes: u64| {
            fs::metadata(path).map_or(0, |file| file.len()) as f64 / bytes as f64
        };
        let path = self.directory.join(NAME);
        wait_for("the download to go on", STALL_LIMIT, || {
            let now = arrived(&path, self.bytes);
            if let Some(status) = self.curl.try_wait()? {
                ensure!(
                    status.success(),
                    "curl failed ({status}) at {:.0} %",
                    now * 100.0
                );
            }
            Ok(if now >= share {
                Found::Yes(())
            } else {
                Found::NotYet(format!("{:.0} % of the file have arrived", now * 100.0))
            })
        })
    }

    /// Waits for the end of the download and compares what arrived with what was served.
    pub(crate) fn finish(mut self) -> Result<Intact> {
        self.wait_share(1.0)?;
        let status = self.curl.wait()?;
        ensure!(status.success(), "curl failed ({status})");
        let served = checksum(&self.directory.join("www").join(NAME))?;
        let arrived = checksum(&self.directory.join(NAME))?;
        let same = served == arrived;
        let text = if same {
            format!("{arrived}, equal")
        } else {
            format!("{arrived}, served was {served}")
        };
        Ok(Intact { same, text })
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        end(&mut self.curl);
        end(&mut self.server);
        // The next run removes it if this one cannot.
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// Kills a child and collects it. One that has ended is no error.
fn end(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}

/// Writes bytes that neither compress nor repeat, the same in every run (xorshift64).
fn write_noise(path: &Path, megabytes: u32) -> Result<()> {
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..u64::from(megabytes) << 17 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        file.write_all(&state.to_ne_bytes())?;
    }
    file.flush()?;
    Ok(())
}

/// nginx where it is installed, else Python's.
fn start_server(namespace: &Namespace, directory: &Path) -> Result<(Child, &'static str)> {
    let log = File::create(directory.join("server.log"))?;
    let have_nginx = Path::new("/usr/sbin/nginx").exists();
    let mut command = if have_nginx {
        let config = directory.join("nginx.conf");
        let (root, pid) = (directory.join("www"), directory.join("nginx.pid"));
        fs::write(
            &config,
            format!(
                "daemon off;\nworker_processes 1;\npid {};\nerror_log stderr;\nevents {{ }}\nhttp {{\n  \
             access_log off;\n  sendfile on;\n  server {{\n    listen {SERVER_WAN}:80;\n    root {};\n  }}\n}}\n",
                pid.display(),
                root.display()
            ),
        )?;
        let mut command = namespace.command("/usr/sbin/nginx");
        command.arg("-e").arg("stderr").arg("-c").arg(config);
        command
    } else {
        let mut command = namespace.command("python3");
        command.args([
            "-m",
            "http.server",
            "80",
            "--bind",
            &SERVER_WAN.to_string(),
            "--directory",
        ]);
        command.arg(directory.join("www"));
        command
    };
    command
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log);
    let child = command
        .spawn()
        .map_err(|error| tool::explain(&command, error))?;
    Ok((
        child,
        if have_nginx {
            "nginx"
        } else {
            "Python's http.server"
        },
    ))
}

fn wait_served(namespace: &Namespace, server: &mut Child) -> Result<()> {
    wait_for("the web server", Duration::from_secs(10), || {
        if let Some(status) = server.try_wait()? {
            anyhow::bail!("the web server ended ({status})");
        }
        namespace.run(|| {
            Ok(match TcpStream::connect((SERVER_WAN, 80)) {
                Ok(_) => Found::Yes(()),
                Err(error) => Found::NotYet(error.to_string()),
            })
        })
    })
}

fn start_curl(namespace: &Namespace, directory: &Path, megabytes_per_second: u32) -> Result<Child> {
    let mut command = namespace.command("curl");
    command.args([
        "--silent",
        "--show-error",
        "--fail",
        "--noproxy",
        "*",
        "--limit-rate",
    ]);
    command.arg(format!("{megabytes_per_second}M"));
    command
        .arg("--output")
        .arg(directory.join(NAME))
        .arg(format!("http://{SERVER_WAN}/{NAME}"));
    command
        .spawn()
        .map_err(|error| tool::explain(&command, error))
}

fn checksum(path: &Path) -> Result<String> {
    let sum = tool::output(Command::new("sha256sum").arg(path))?;
    let (sum, _) = sum.split_once(' ').context("sha256sum writes a checksum")?;
    Ok(sum.to_owned())
}
