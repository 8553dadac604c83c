//! The socket's place in the file system.

use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use tokio::net::UnixListener;

/// Binds the socket. One that a dead unit left behind is removed, one that a living unit serves is
/// not, and nor is anything else. Only the owner and its group may connect.
pub(super) fn listen(socket: &Path) -> Result<UnixListener> {
    let shown = socket.display();
    if let Some(folder) = socket.parent() {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("management.socket: cannot make {}", folder.display()))?;
    }
    if let Ok(there) = socket.symlink_metadata() {
        ensure!(
            there.file_type().is_socket(),
            "management.socket: {shown} exists and is no socket; remove it, or give this unit another socket"
        );
        match std::os::unix::net::UnixStream::connect(socket) {
            Ok(_) => bail!(
                "management.socket: {shown} is served by another process; stop that one, or give this unit another socket"
            ),
            Err(_) => std::fs::remove_file(socket)
                .with_context(|| format!("management.socket: cannot remove the old {shown}"))?,
        }
    }
    let listener = UnixListener::bind(socket)
        .with_context(|| format!("management.socket: cannot listen on {shown}"))?;
    std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o660))
        .with_context(|| format!("management.socket: cannot protect {shown}"))?;
    Ok(listener)
}

/// A file that the unit keeps beside its socket. Its name is the socket's and the suffix, so of two sockets
/// only one has it.
pub(crate) fn beside(socket: &Path, suffix: &str) -> PathBuf {
    let mut path = socket.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}

/// The socket's name in the file system, gone with this value.
#[derive(Debug)]
pub(super) struct SocketFile(PathBuf);

impl SocketFile {
    /// Of a socket that this process has bound.
    pub(super) fn of(socket: &Path) -> Self {
        Self(socket.to_owned())
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // An operator may have removed it.
        let _ = std::fs::remove_file(&self.0);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    /// A folder of its own, removed with the value.
    pub(crate) struct Folder(pub(crate) PathBuf);

    impl Folder {
        pub(crate) fn new() -> Self {
            static NEXT: AtomicU32 = AtomicU32::new(0);
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let name = format!("tidegated-test-{}-{number}", std::process::id());
            let folder = Self(std::env::temp_dir().join(name));
            std::fs::create_dir(&folder.0).unwrap();
            folder
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    /// True when somebody serves the socket.
    async fn is_served(socket: &Path) -> bool {
        tokio::net::UnixStream::connect(socket).await.is_ok()
    }

    #[tokio::test]
    async fn a_dead_socket_is_replaced_and_a_living_one_is_not() {
        let folder = Folder::new();
        // A folder that is missing is made.
        let socket = folder.0.join("units").join("unit.sock");
        let first = listen(&socket).unwrap();
        assert!(is_served(&socket).await);
        let error = listen(&socket).unwrap_err().to_string();
        assert!(error.contains("served by another process"), "{error}");
        drop(first);
        assert!(!is_served(&socket).await);
        let _second = listen(&socket).unwrap();
        assert!(is_served(&socket).await);
    }

    #[tokio::test]
    async fn what_is_no_socket_is_left_alone() {
        let folder = Folder::new();
        let [file, link, other] = ["gw.toml", "link.sock", "gw"].map(|name| folder.0.join(name));
        std::fs::write(&file, "id = 1").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        std::fs::create_dir(&other).unwrap();
        for path in [&file, &link, &other] {
            let error = listen(path).unwrap_err().to_string();
            let expected = format!("{} exists and is no socket; ", path.display());
            assert!(error.contains(&expected), "{error}");
        }
        assert_eq!(std::fs::read_to_string(&link).unwrap(), "id = 1");
    }
}
