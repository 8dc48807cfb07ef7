//! Volume contents that come from the gateway: first-boot media, and images that somebody uploads.
//!
//! libvirt's streams block, and what is uploaded comes from an asynchronous source: a bounded channel is between them,
//! so that never more than a few pieces are in memory.

use babelvisor_core::backend::{ByteStream, CallContext};
use babelvisor_core::model::{BackendId, Volume, VolumeFormat, VolumeSpec};
use babelvisor_core::{Error, ErrorKind};
use tokio::io::AsyncReadExt as _;
use tokio::sync::mpsc;
use virt::connect::Connect;
use virt::storage_vol::StorageVol;
use virt::stream::Stream;

use crate::connection::CallError;
use crate::error::code;
use crate::qcow;
use crate::volumes::{check_name, describe, in_free_place, pool};
use crate::xml::host::VolumeSpec as VolumeDefinition;

/// Bytes sent to a stream at once.
const CHUNK: usize = 256 * 1024;
/// Pieces that wait between source and stream.
const WAITING: usize = 4;
/// NO_SUPPORT.
const NO_SUPPORT: u32 = 3;

/// A part of an upload.
pub(crate) enum Piece {
    /// The next bytes.
    Bytes(Vec<u8>),
    /// There are no more.
    End,
    /// The source broke, with the reason.
    Broken(String),
}

/// The two ends of an upload's channel.
pub(crate) fn channel() -> (mpsc::Sender<Piece>, mpsc::Receiver<Piece>) {
    mpsc::channel(WAITING)
}

/// Reads the source to its end; stops when nobody takes the pieces any more.
pub(crate) async fn pump(
    mut source: ByteStream,
    pieces: mpsc::Sender<Piece>,
    total: u64,
    call: &CallContext,
) {
    let mut sent: u64 = 0;
    loop {
        let mut buffer = Vec::with_capacity(CHUNK);
        let mut end = Piece::End;
        while buffer.len() < CHUNK {
            match source.read_buf(&mut buffer).await {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) => {
                    end = Piece::Broken(error.to_string());
                    break;
                }
            }
        }
        let last = buffer.len() < CHUNK;
        sent = sent.saturating_add(u64::try_from(buffer.len()).unwrap_or(u64::MAX));
        if !buffer.is_empty() && pieces.send(Piece::Bytes(buffer)).await.is_err() {
            return;
        }
        if let Some(percent) = sent.saturating_mul(99).checked_div(total) {
            call.report(u8::try_from(percent.min(99)).unwrap_or(99));
        }
        if last {
            // Whoever has gone needs no end.
            let _ = pieces.send(end).await;
            return;
        }
    }
}

/// Makes a volume and fills it.
pub(crate) fn receive(
    connection: &Connect,
    backend: &BackendId,
    spec: &VolumeSpec,
    mut pieces: mpsc::Receiver<Piece>,
    call: &CallContext,
) -> Result<Volume, CallError> {
    check_name(&spec.name)?;
    let pool = pool(connection, &spec.pool)?;
    let mut head = Vec::new();
    let mut ended = false;
    while !ended && head.len() < qcow::HEADER {
        match pieces.blocking_recv() {
            Some(Piece::Bytes(bytes)) if head.is_empty() => head = bytes,
            Some(Piece::Bytes(bytes)) => head.extend_from_slice(&bytes),
            Some(Piece::End) => ended = true,
            broken => return Err(interrupted(broken)),
        }
    }
    let definition = definition(spec, &head)?.to_xml()?;
    let volume = in_free_place(&pool, &spec.name, call, || {
        Ok(StorageVol::create_xml(&pool, &definition, 0)?)
    })?;
    let filled = (|| {
        let mut upload = Upload::begin(connection, &volume, spec.capacity)?;
        upload.send(&head)?;
        while !ended {
            match pieces.blocking_recv() {
                Some(Piece::Bytes(bytes)) => upload.send(&bytes)?,
                Some(Piece::End) => ended = true,
                broken => return Err(interrupted(broken)),
            }
        }
        upload.check_whole()?;
        upload.finish()
    })();
    match filled {
        Ok(()) => describe(backend, &spec.pool, &volume, call),
        Err(error) => {
            discard(&volume, &spec.name);
            Err(error)
        }
    }
}

fn interrupted(piece: Option<Piece>) -> CallError {
    let reason = match piece {
        Some(Piece::Broken(reason)) => reason,
        Some(Piece::Bytes(_) | Piece::End) | None => "nobody sends any more".to_owned(),
    };
    Error::new(
        ErrorKind::Conflict,
        format!("the upload was interrupted: {reason}; nothing is kept of it"),
    )
    .into()
}

/// The volume for an upload that begins with `head`, judged by what is declared.
fn definition(spec: &VolumeSpec, head: &[u8]) -> Result<VolumeDefinition, CallError> {
    let refused = |text: &str| Err(Error::invalid("format", text.to_owned()).into());
    let (format, capacity, allocation) = match (spec.format, qcow::read(head)) {
        (VolumeFormat::Raw, None) => ("raw", spec.capacity, spec.capacity),
        // It would be taken for what it looks like as soon as libvirt reads the pool again.
        (VolumeFormat::Raw, Some(_)) => {
            return refused("declared raw, but the content is a qcow2 image; declare it as qcow2");
        }
        (VolumeFormat::Qcow2, None) => return refused("declared qcow2, but the content is no qcow2 image"),
        (VolumeFormat::Qcow2, Some(image)) if image.backing || image.data_file => {
            return refused(
                "a qcow2 image with a backing file or data file is not taken; make it self-contained first",
            );
        }
        (VolumeFormat::Qcow2, Some(image)) => ("qcow2", image.size, 0),
        (VolumeFormat::Other, _) => return refused("only raw and qcow2 images can be uploaded"),
    };
    Ok(VolumeDefinition {
        name: spec.name.clone(),
        capacity,
        allocation,
        format: format.to_owned(),
        backing: None,
    })
}

/// Half a volume is worse than none.
fn discard(volume: &StorageVol, name: &str) {
    if let Err(error) = volume.delete(0) {
        tracing::warn!(volume = name, %error, "a volume whose upload failed could not be removed");
    }
}

/// Stores a ready-made image as a raw volume.
pub(crate) fn store(
    connection: &Connect,
    backend: &BackendId,
    pool_name: &str,
    name: &str,
    content: &[u8],
    call: &CallContext,
) -> Result<Volume, CallError> {
    check_name(name)?;
    let pool = pool(connection, pool_name)?;
    let size = u64::try_from(content.len()).unwrap_or(u64::MAX);
    let xml = VolumeDefinition {
        name: name.to_owned(),
        capacity: size,
        allocation: size,
        format: "raw".to_owned(),
        backing: None,
    }
    .to_xml()?;
    let volume = in_free_place(&pool, name, call, || Ok(StorageVol::create_xml(&pool, &xml, 0)?))?;
    if let Err(error) = fill(connection, &volume, content) {
        discard(&volume, name);
        return Err(error);
    }
    describe(backend, pool_name, &volume, call)
}

/// Writes another image of the same size over a volume, by its path.
pub(crate) fn refill(connection: &Connect, path: &str, content: &[u8]) -> Result<(), CallError> {
    fill(connection, &connection.lookup_storage_vol_by_path(path)?, content)
}

fn fill(connection: &Connect, volume: &StorageVol, content: &[u8]) -> Result<(), CallError> {
    let size = u64::try_from(content.len()).unwrap_or(u64::MAX);
    let mut upload = Upload::begin(connection, volume, size)?;
    upload.send(content)?;
    upload.check_whole()?;
    upload.finish()
}

/// A stream into a volume; dropped before it is finished, it is aborted.
struct Upload {
    stream: Option<Stream>,
    expected: u64,
    sent: u64,
}

impl Upload {
    /// `expected` is 0 when the size is not known beforehand.
    fn begin(connection: &Connect, volume: &StorageVol, expected: u64) -> Result<Upload, CallError> {
        let stream = Stream::new(connection, 0)?;
        volume.upload(&stream, 0, expected, 0)?;
        Ok(Upload {
            stream: Some(stream),
            expected,
            sent: 0,
        })
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), CallError> {
        let more = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        self.sent = self.sent.saturating_add(more);
        if self.expected > 0 && self.sent > self.expected {
            return Err(self.wrong_size("more than"));
        }
        let Some(stream) = &self.stream else {
            return Err(Error::internal("an upload goes on after its end").into());
        };
        for chunk in bytes.chunks(CHUNK) {
            let mut rest = chunk;
            while !rest.is_empty() {
                let sent = usize::try_from(stream.send(rest)?).unwrap_or(0);
                match rest.get(sent..) {
                    Some(next) if sent > 0 => rest = next,
                    _ => return Err(Error::internal("libvirt took no bytes of an upload").into()),
                }
            }
        }
        Ok(())
    }

    fn check_whole(&self) -> Result<(), CallError> {
        if self.expected > 0 && self.sent != self.expected {
            return Err(self.wrong_size("of"));
        }
        Ok(())
    }

    fn wrong_size(&self, how: &str) -> CallError {
        let text = format!(
            "the upload brought {} bytes, {how} the {} that were announced; nothing is kept of it",
            self.sent, self.expected
        );
        Error::invalid("capacity", text).into()
    }

    fn finish(mut self) -> Result<(), CallError> {
        match self.stream.take() {
            Some(stream) => Ok(stream.finish()?),
            None => Ok(()),
        }
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if let Some(stream) = self.stream.take() {
            // The error that led here says more than the abort's.
            let _ = stream.abort();
        }
    }
}

/// Refuses a qcow2 image whose data are in another file, which libvirt's description does not tell.
pub(crate) fn refuse_data_file(
    connection: &Connect,
    volume: &StorageVol,
    name: &str,
) -> Result<(), CallError> {
    let stream = Stream::new(connection, 0)?;
    let wanted = u64::try_from(qcow::HEADER).unwrap_or(0);
    match volume.download(&stream, 0, wanted, 0) {
        Ok(()) => {}
        // A driver without volume contents has no such images either.
        Err(error) if code(&error) == NO_SUPPORT => return Ok(()),
        Err(error) => return Err(error.into()),
    }
    let mut head = [0_u8; qcow::HEADER];
    let mut read = 0;
    while let Some(room) = head.get_mut(read..).filter(|room| !room.is_empty()) {
        match usize::try_from(stream.recv(room)?).unwrap_or(0) {
            0 => break,
            more => read += more,
        }
    }
    // A stream ends well only after its end was read; otherwise it is given up.
    match stream.recv(&mut [0_u8; 1]) {
        Ok(0) => stream.finish()?,
        Ok(_) | Err(_) => stream.abort()?,
    }
    match qcow::read(head.get(..read).unwrap_or_default()) {
        Some(image) if image.data_file => Err(Error::new(
            ErrorKind::Unsupported,
            format!("image {name} has its data in another file; only self-contained images are taken"),
        )
        .about("image", name)
        .into()),
        Some(_) | None => Ok(()),
    }
}
