//! Which unit is asked.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::{fs, io};

use crate::failure::Failure;

/// Where units put their sockets unless configured.
pub(crate) const FOLDER: &str = "/run/tidegate";

/// The only socket in `folder` on which a unit listens. One that was killed leaves its own behind.
pub(crate) fn find(folder: &Path) -> Result<PathBuf, Failure> {
    let entries = fs::read_dir(folder).map_err(|error| unreadable(folder, &error))?;
    let mut sockets: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|name| name == "sock"))
        .filter(|path| is_served(path))
        .collect();
    sockets.sort_unstable();
    match sockets.len() {
        1 => Ok(sockets.remove(0)),
        0 => Err(Failure::NoSocket(folder.into())),
        _ => Err(Failure::ManySockets(sockets)),
    }
}

fn unreadable(folder: &Path, cause: &io::Error) -> Failure {
    match cause.kind() {
        io::ErrorKind::PermissionDenied => Failure::Closed(folder.into()),
        _ => Failure::NoSocket(folder.into()),
    }
}

/// Whether somebody listens, also if it is for others.
fn is_served(socket: &Path) -> bool {
    match UnixStream::connect(socket) {
        Ok(_) => true,
        Err(error) => error.kind() == io::ErrorKind::PermissionDenied,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn the_only_unit_is_taken_and_several_are_listed() {
        let folder = std::env::temp_dir().join(format!("tidegate-sockets-{}", std::process::id()));
        assert!(matches!(find(&folder), Err(Failure::NoSocket(_))));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("notes.txt"), "").unwrap();
        assert!(matches!(find(&folder), Err(Failure::NoSocket(_))));
        let listen = |name| UnixListener::bind(folder.join(name)).unwrap();
        let b = listen("gw-b.sock");
        assert_eq!(find(&folder).unwrap(), folder.join("gw-b.sock"));
        let a = listen("gw-a.sock");
        let message = find(&folder).unwrap_err().to_string();
        let [a_at, b_at] = ["gw-a.sock", "gw-b.sock"].map(|name| message.find(name).unwrap());
        assert!(a_at < b_at, "{message}");
        // As after a kill: the name stays.
        drop(a);
        assert_eq!(find(&folder).unwrap(), folder.join("gw-b.sock"));
        drop(b);
        assert!(matches!(find(&folder), Err(Failure::NoSocket(_))));
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn who_may_not_look_is_not_told_that_nobody_is_there() {
        let told = |kind: io::ErrorKind| {
            let folder = Path::new("/run/tidegate");
            unreadable(folder, &kind.into()).to_string()
        };
        let denied = told(io::ErrorKind::PermissionDenied);
        assert!(denied.contains("may not be read by this user"), "{denied}");
        let missing = told(io::ErrorKind::NotFound);
        assert!(missing.contains("is tidegated running?"), "{missing}");
    }
}
