//! Request bodies: read within a size and a time, or thrown away within both.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use tokio::time::timeout;

/// Why a body could not be had.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum BodyFault {
    TooLarge,
    TooSlow,
    /// The peer went away or broke the framing.
    Broken,
}

/// Reads the whole body, at most `limit` bytes in at most `time`.
pub(crate) async fn read(body: &mut Incoming, limit: usize, time: Duration) -> Result<Bytes, BodyFault> {
    if body.is_end_stream() {
        return Ok(Bytes::new());
    }
    if body.size_hint().lower() > limit as u64 {
        return Err(BodyFault::TooLarge);
    }
    timeout(time, collect(body, limit))
        .await
        .unwrap_or(Err(BodyFault::TooSlow))
}

async fn collect(body: &mut Incoming, limit: usize) -> Result<Bytes, BodyFault> {
    // Most bodies arrive in one piece, which is then passed on without a copy.
    let mut first = Bytes::new();
    let mut joined = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(piece) = frame.map_err(|_| BodyFault::Broken)?.into_data() else {
            continue; // trailers
        };
        if first.len() + joined.len() + piece.len() > limit {
            return Err(BodyFault::TooLarge);
        }
        if first.is_empty() && joined.is_empty() {
            first = piece;
        } else {
            if joined.is_empty() {
                joined.extend_from_slice(&std::mem::take(&mut first));
            }
            joined.extend_from_slice(&piece);
        }
    }
    Ok(if joined.is_empty() { first } else { joined.freeze() })
}

/// Throws away what is left of a refused request's body, so that the peer, still sending, can read the answer
/// instead of a reset. Bounded: beyond `limit` bytes or `time` the connection is simply closed after the answer.
/// Returns whether the body was read to its end.
pub(crate) async fn discard(body: &mut Incoming, limit: usize, time: Duration) -> bool {
    if body.is_end_stream() {
        return true;
    }
    let drained = timeout(time, async {
        let mut seen = 0;
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame else { return false };
            seen += frame.data_ref().map_or(0, Bytes::len);
            if seen > limit {
                return false;
            }
        }
        true
    });
    drained.await.unwrap_or(false)
}
