//! A real Redis server of the test's own, on a free port of the loopback.

use std::process::{Child, Command, Stdio};

use super::*;
use crate::store::redis::RedisStore;

/// A running server; it ends with this value.
pub(in crate::store) struct RedisServer {
    directory: tempfile::TempDir,
    options: Vec<String>,
    port: u16,
    process: Child,
}

impl RedisServer {
    /// A server that keeps what it acknowledged.
    pub(in crate::store) async fn start() -> Self {
        Self::start_with(&["--appendonly", "yes", "--appendfsync", "always"]).await
    }

    /// A server with options of its own.
    pub(in crate::store) async fn start_with(options: &[&str]) -> Self {
        let mut directory = tempfile::tempdir().unwrap();
        let options: Vec<String> = options.iter().map(|&option| option.to_owned()).collect();
        // Another process may take the port between the look and the start: then look again.
        for _ in 0..10 {
            let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let port = free.local_addr().unwrap().port();
            drop(free);
            let process = spawn(port, &directory, &options);
            let mut server = Self {
                directory,
                options: options.clone(),
                port,
                process,
            };
            if server.answers().await {
                return server;
            }
            server.kill();
            directory = std::mem::replace(&mut server.directory, tempfile::tempdir().unwrap());
        }
        panic!("redis-server does not start");
    }

    pub(in crate::store) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    /// Kills the server with no chance to write anything.
    pub(in crate::store) fn kill(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    /// Starts it again on the same port and files.
    pub(in crate::store) async fn revive(&mut self) {
        self.process = spawn(self.port, &self.directory, &self.options);
        assert!(self.answers().await, "redis-server does not start again");
    }

    /// Kills it and starts it again.
    pub(in crate::store) async fn restart(&mut self) {
        self.kill();
        self.revive().await;
    }

    async fn answers(&mut self) -> bool {
        let client = ::redis::Client::open(self.url()).unwrap();
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            if self.process.try_wait().unwrap().is_some() {
                return false;
            }
            if let Ok(mut connection) = client.get_multiplexed_async_connection().await
                && ::redis::cmd("PING")
                    .query_async::<String>(&mut connection)
                    .await
                    .is_ok()
            {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        false
    }
}

fn spawn(port: u16, directory: &tempfile::TempDir, options: &[String]) -> Child {
    Command::new("redis-server")
        .args(["--bind", "127.0.0.1", "--save", "", "--port"])
        .arg(port.to_string())
        .arg("--dir")
        .arg(directory.path())
        .args(options)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("redis-server must be installed for these tests")
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}

pub(super) struct RedisRig {
    server: RedisServer,
    store: Arc<RedisStore>,
}

pub(super) async fn redis() -> RedisRig {
    let server = RedisServer::start().await;
    let store = Arc::new(connect(&server).await);
    RedisRig { server, store }
}

pub(in crate::store) async fn connect(server: &RedisServer) -> RedisStore {
    RedisStore::connect(&server.url(), "test:1:").await.unwrap()
}

#[async_trait]
impl Rig for RedisRig {
    fn store(&self) -> Arc<dyn Store> {
        Arc::clone(&self.store) as Arc<dyn Store>
    }

    async fn other(&self) -> Arc<dyn Store> {
        Arc::new(connect(&self.server).await)
    }

    async fn crash(&mut self) {
        self.server.restart().await;
        self.store = Arc::new(connect(&self.server).await);
    }
}
