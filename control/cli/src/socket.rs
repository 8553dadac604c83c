//! Which unit is asked.

use std::fs;
use std::path::{Path, PathBuf};

use crate::failure::Failure;

/// Where units put their sockets unless configured.
pub(crate) const FOLDER: &str = "/run/tidegate";

/// The only socket in `folder`.
pub(crate) fn find(folder: &Path) -> Result<PathBuf, Failure> {
    let entries = fs::read_dir(folder).map_err(|_| Failure::NoSocket(folder.into()))?;
    let mut sockets: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "sock")
        })
        .collect();
    sockets.sort_unstable();
    match sockets.len() {
        1 => Ok(sockets.remove(0)),
        0 => Err(Failure::NoSocket(folder.into())),
        _ => Err(Failure::ManySockets(sockets)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_only_socket_is_taken_and_several_are_listed() {
        let folder = std::env::temp_dir().join(format!("tidegate-sockets-{}", std::process::id()));
        assert!(matches!(find(&folder), Err(Failure::NoSocket(_))));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("notes.txt"), "").unwrap();
        assert!(matches!(find(&folder), Err(Failure::NoSocket(_))));
        fs::write(folder.join("gw-b.sock"), "").unwrap();
        assert_eq!(find(&folder).unwrap(), folder.join("gw-b.sock"));
        fs::write(folder.join("gw-a.sock"), "").unwrap();
        let message = find(&folder).unwrap_err().to_string();
        let (a, b) = (
            message.find("gw-a.sock").unwrap(),
            message.find("gw-b.sock").unwrap(),
        );
        assert!(a < b, "{message}");
        fs::remove_dir_all(&folder).unwrap();
    }
}
