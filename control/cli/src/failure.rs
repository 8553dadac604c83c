//! Why a command ends otherwise than well.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

/// Why a command ends otherwise than well.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// There is no answer, or it is no.
    #[error(transparent)]
    Api(#[from] api::Error),
    /// No unit runs on this machine.
    #[error("no unit listens in {}; is tidegated running? Give its socket by --socket PATH", .0.display())]
    NoSocket(PathBuf),
    /// The folder of the sockets may not be read by this user.
    #[error("{} may not be read by this user; run as root, or join the folder's group", .0.display())]
    Closed(PathBuf),
    /// Several units run on this machine.
    #[error("several units run on this machine; give one of them by --socket PATH:{}", list(.0))]
    ManySockets(Vec<PathBuf>),
    /// The configuration is wrong.
    #[error("{0}")]
    Configuration(config::Problems),
    /// Standard output can't be written.
    #[error("can't write the answer: {0}")]
    Output(#[from] io::Error),
    /// The answer is no JSON of the expected shape.
    #[error("can't understand the answer: {0}; are tidegate and tidegated of one version?")]
    Answer(#[from] serde_json::Error),
}

fn list(paths: &[PathBuf]) -> String {
    paths
        .iter()
        .map(|path| format!("\n  {}", path.display()))
        .collect()
}

impl Failure {
    /// Whoever read the output has read enough, as `head` does.
    pub(crate) fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }

    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::ManySockets(_) | Self::Configuration(_) => 2,
            Self::Api(_)
            | Self::NoSocket(_)
            | Self::Closed(_)
            | Self::Output(_)
            | Self::Answer(_) => 1,
        })
    }
}
