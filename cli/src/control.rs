//! The control socket: how `mytunnel status` learns what the other processes of this user are doing.
//!
//! A running share or relay answers every connection on `CONFIG_DIR/run/PID.sock` with one JSON object and closes.
//! Nothing is read from the other end, so nothing can be asked or changed; the socket and its directory are
//! the owner's alone.

use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::context::Context;
use crate::files;

/// A process that does not answer in this time is left out.
const PATIENCE: Duration = Duration::from_millis(500);
/// Answers are a few hundred bytes per tunnel.
const MAX_ANSWER: u64 = 4 * 1024 * 1024;

/// The socket of this process; dropping it removes the file.
#[derive(Debug)]
pub(crate) struct ControlSocket {
    listener: UnixListener,
    path: PathBuf,
}

impl ControlSocket {
    /// Binds `run/PID.sock`. A file that a crashed process with this PID left behind is replaced.
    pub(crate) fn bind(run: &Path) -> anyhow::Result<Self> {
        files::create_private_dir(run)?;
        let path = run.join(format!("{}.sock", std::process::id()));
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            Ok(()) | Err(_) => {}
        }
        let listener = UnixListener::bind(&path)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        Ok(Self { listener, path })
    }

    /// Answers with what `state` says at that moment, until cancelled.
    pub(crate) async fn serve(self, state: impl Fn() -> Value, stop: CancellationToken) {
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => return,
                accepted = self.listener.accept() => accepted,
            };
            match accepted {
                Ok((mut stream, _)) => {
                    let answer = state().to_string();
                    // One at a time: whoever may connect is this user, and the answer fits the socket's buffer.
                    let written = tokio::time::timeout(PATIENCE, async {
                        stream.write_all(answer.as_bytes()).await?;
                        stream.shutdown().await
                    });
                    if let Ok(Err(error)) | Err(error) = written.await.map_err(io::Error::from) {
                        tracing::debug!(%error, "status was not taken");
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "control socket");
                    tokio::time::sleep(PATIENCE).await;
                }
            }
        }
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        // If it is gone already, that is what was wanted.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Lets `mytunnel status` ask this process. A share or relay without that still does its work.
pub(crate) fn serve_status(
    context: &Context,
    state: impl Fn() -> Value + Send + 'static,
    stop: &CancellationToken,
    tasks: &mut JoinSet<()>,
) {
    let socket = match context.config_dir() {
        Ok(config) => ControlSocket::bind(&config.run()),
        Err(failure) => Err(anyhow::anyhow!("{}", failure.message())),
    };
    match socket {
        Ok(socket) => {
            tasks.spawn(socket.serve(state, stop.clone()));
        }
        Err(error) => tracing::warn!("`mytunnel status` will not know of this process: {error:#}"),
    }
}

/// Asks every process with a socket in `run`; sockets nobody listens on are removed.
pub(crate) fn collect(run: &Path) -> io::Result<Vec<Value>> {
    let entries = match std::fs::read_dir(run) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut paths = entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<io::Result<Vec<_>>>()?
        .into_iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "sock"))
        .collect::<Vec<_>>();
    paths.sort();
    Ok(paths.iter().filter_map(|path| ask(path)).collect())
}

fn ask(path: &Path) -> Option<Value> {
    let stream = match UnixStream::connect(path) {
        Ok(stream) => stream,
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            // Its process died without cleaning up.
            let _ = std::fs::remove_file(path);
            return None;
        }
        Err(_) => return None,
    };
    let mut answer = Vec::new();
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    stream.take(MAX_ANSWER).read_to_end(&mut answer).ok()?;
    serde_json::from_slice(&answer).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[tokio::test]
    async fn a_running_process_answers_and_a_dead_socket_is_swept() {
        let dir = tempfile::tempdir().unwrap();
        let run = dir.path().join("run");
        let socket = ControlSocket::bind(&run).unwrap();
        let path = socket.path.clone();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let dead = run.join("1.sock");
        drop(std::os::unix::net::UnixListener::bind(&dead).unwrap());

        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(socket.serve(|| json!({"tunnels": []}), stop.clone()));
        let from = run.clone();
        let answers = tokio::task::spawn_blocking(move || collect(&from)).await.unwrap().unwrap();

        assert_eq!(answers, [json!({"tunnels": []})]);
        assert!(!dead.exists());
        stop.cancel();
        tasks.join_all().await;
        assert!(!path.exists());
    }

    #[test]
    fn no_directory_means_nothing_runs() {
        let dir = tempfile::tempdir().unwrap();
        assert!(collect(&dir.path().join("none")).unwrap().is_empty());
    }
}
