//! A target that a test plays, and scenarios in a folder of their own.

#![allow(dead_code, reason = "each test program uses its own part")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on shall panic")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use babelvisor_conformance::runner::{Library, Options, Report, run};
use babelvisor_schemas::Dialect;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

type Answering = dyn Fn(&str, &str, &str) -> (u16, String) + Send + Sync;
type Watching = dyn Fn(&str, bool) + Send + Sync;

/// An HTTP server that answers what the test says and remembers what it was asked.
pub struct Fake {
    address: std::net::SocketAddr,
    seen: Arc<Mutex<Vec<String>>>,
    heads: Arc<Mutex<Vec<String>>>,
    serving: tokio::task::JoinHandle<()>,
}

impl Fake {
    /// Answers each method, path and body.
    pub async fn start(answer: impl Fn(&str, &str, &str) -> (u16, String) + Send + Sync + 'static) -> Self {
        Self::serve(Duration::ZERO, Arc::new(answer), Arc::new(|_, _| {})).await
    }

    /// Answers `{}` after a while; `watch` hears when a request begins (true) and ends (false).
    pub async fn start_slow(pause: Duration, watch: impl Fn(&str, bool) + Send + Sync + 'static) -> Self {
        Self::serve(pause, Arc::new(|_, _, _| (200, "{}".to_owned())), Arc::new(watch)).await
    }

    async fn serve(pause: Duration, answer: Arc<Answering>, watch: Arc<Watching>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let remembered = Arc::clone(&seen);
        let heads = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&heads);
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (answer, watch, seen) =
                    (Arc::clone(&answer), Arc::clone(&watch), Arc::clone(&remembered));
                let heads = Arc::clone(&kept);
                tokio::spawn(async move {
                    let _ = exchange(stream, pause, &*answer, &*watch, &seen, &heads).await;
                });
            }
        });
        Self {
            address,
            seen,
            heads,
            serving,
        }
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Method and path of every request, in order.
    pub fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }

    /// The whole heads of all requests, names of headers in small letters, in order.
    pub fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn exchange(
    mut stream: TcpStream,
    pause: Duration,
    answer: &Answering,
    watch: &Watching,
    seen: &Mutex<Vec<String>>,
    heads: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    let mut bytes = Vec::new();
    let (head, body) = loop {
        let mut buffer = [0_u8; 4096];
        let length = stream.read(&mut buffer).await?;
        // A probe that connects and says nothing is no request.
        if length == 0 {
            return Ok(());
        }
        bytes.extend_from_slice(&buffer[..length]);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| {
                line.to_lowercase()
                    .strip_prefix("content-length:")?
                    .trim()
                    .parse::<usize>()
                    .ok()
            });
            if body.len() >= length.unwrap_or(0) {
                break (head.to_owned(), body.to_owned());
            }
        }
    };
    let mut words = head.split_whitespace();
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    seen.lock().unwrap().push(format!("{method} {path}"));
    heads.lock().unwrap().push(head.clone());
    watch(path, true);
    tokio::time::sleep(pause).await;
    watch(path, false);
    let (status, text) = answer(method, path, &body);
    let head = format!(
        "HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        text.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(text.as_bytes()).await
}

/// A folder with these files for guest-rest.
pub fn folder(files: &[(&str, &str)]) -> TempDir {
    folder_of(Dialect::GuestRest, files)
}

/// A folder with these files for a dialect.
pub fn folder_of(dialect: Dialect, files: &[(&str, &str)]) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let inside = directory.path().join(dialect.name());
    for (name, text) in files {
        let file = inside.join(name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, text).unwrap();
    }
    directory
}

/// A library of these files.
pub fn library_of(dialect: Dialect, files: &[(&str, &str)]) -> Library {
    Library::read(folder_of(dialect, files).path(), dialect).unwrap()
}

/// The report of a run of these files.
pub async fn played(fake: &Fake, files: &[(&str, &str)]) -> Report {
    let directory = folder(files);
    let library = Library::read(directory.path(), Dialect::GuestRest).unwrap();
    run(library, Options::new(fake.url()), |_| {}).await.unwrap()
}

/// What is wrong with these files.
pub fn read_wrong(files: &[(&str, &str)]) -> String {
    let directory = folder(files);
    Library::read(directory.path(), Dialect::GuestRest)
        .unwrap_err()
        .to_string()
}
