//! What storing a job costs at least: a write that is on disk, or one pipeline to Redis.

use super::Outcome;
use super::figures::{middle, time};
use std::io::{Read, Seek, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

/// A page that is written and on disk.
pub(crate) fn disk(directory: &Path) -> Outcome<Duration> {
    let mut file = std::fs::File::create(directory.join("probe"))?;
    let page = [7_u8; 4096];
    let taken = time(200, || {
        file.rewind()?;
        file.write_all(&page)?;
        file.sync_data()?;
        Ok(())
    })?;
    std::fs::remove_file(directory.join("probe"))?;
    middle(&mut { taken })
}

/// A job's hash, a line in a stream and two times to live, in one pipeline.
pub(crate) fn redis(address: SocketAddr) -> Outcome<Duration> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let job = "x".repeat(800);
    let mut pipeline = Vec::new();
    for command in [
        &["HSET", "probe:job", "json", &job][..],
        &["XADD", "probe:stream", "MAXLEN", "~", "1000", "*", "job", "1"],
        &["EXPIRE", "probe:job", "60"],
        &["EXPIRE", "probe:stream", "60"],
    ] {
        write!(pipeline, "*{}\r\n", command.len())?;
        for word in command {
            write!(pipeline, "${}\r\n{word}\r\n", word.len())?;
        }
    }
    let mut answer = [0; 1024];
    let taken = time(500, || {
        stream.write_all(&pipeline)?;
        // A number, a bulk string (two lines) and two numbers.
        let mut lines = 0;
        while lines < 5 {
            let read = stream.read(&mut answer)?;
            if read == 0 {
                return Err("redis hung up".into());
            }
            lines += answer.iter().take(read).filter(|byte| **byte == b'\n').count();
        }
        Ok(())
    })?;
    middle(&mut { taken })
}
