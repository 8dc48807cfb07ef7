//! The body of an answer as a stream of bytes that ends well or fails: never silently short or endless.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use hyper::body::{Body as _, Incoming};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::client::{Answer, Connection};
use crate::backend::ByteStream;
use crate::error::{Error, ErrorKind, Result};

/// Told how many bytes have come, and how many there will be.
type Watch = Box<dyn Fn(u64, Option<u64>) + Send>;

/// An image that is being fetched.
pub struct Download {
    /// How many bytes it has, if the other side says so.
    pub length: Option<u64>,
    /// The bytes.
    pub bytes: ByteStream,
    origin: String,
}

impl std::fmt::Debug for Download {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Download({}, {:?} bytes)", self.origin, self.length)
    }
}

impl Download {
    pub(super) fn begin(
        answer: Answer,
        origin: String,
        most: u64,
        idle: Duration,
        watch: Watch,
    ) -> Result<Self> {
        let Answer { response, connection } = answer;
        let status = response.status();
        if status.is_redirection() {
            let text =
                format!("{origin} answers {status}, and redirects are not followed; name the final address");
            return Err(Error::invalid("url", text));
        }
        if status.is_server_error() {
            let text = format!("{origin} answers {status}");
            return Err(Error::new(ErrorKind::BackendUnavailable, text));
        }
        if status.as_u16() != 200 {
            return Err(Error::invalid(
                "url",
                format!("{origin} answers {status} instead of the image"),
            ));
        }
        let body = response.into_body();
        let length = body.size_hint().exact();
        if length.is_some_and(|length| length > most) {
            return Err(Error::invalid("url", too_large(&origin, most)));
        }
        let reader = Reader {
            body,
            piece: Bytes::new(),
            come: 0,
            length,
            most,
            idle,
            pause: Box::pin(tokio::time::sleep(idle)),
            watch,
            origin: origin.clone(),
            _connection: connection,
        };
        let bytes: ByteStream = Box::pin(reader);
        Ok(Self {
            length,
            bytes,
            origin,
        })
    }

    /// Reads everything into `sink`; returns how many bytes it was.
    pub(super) async fn copy_to<W: AsyncWrite + Unpin + Send>(mut self, sink: &mut W) -> Result<u64> {
        use tokio::io::AsyncReadExt as _;
        let mut buffer = vec![0; 64 << 10];
        let mut total = 0;
        loop {
            let read = self
                .bytes
                .read(&mut buffer)
                .await
                .map_err(|error| match error.kind() {
                    io::ErrorKind::InvalidData => Error::invalid("url", error.to_string()),
                    io::ErrorKind::TimedOut => Error::new(ErrorKind::Timeout, error.to_string()),
                    _ => Error::new(ErrorKind::BackendUnavailable, error.to_string()),
                })?;
            let written =
                |error: io::Error| Error::internal(format!("a download cannot be written: {error}"));
            if read == 0 {
                sink.flush().await.map_err(written)?;
                return Ok(total);
            }
            let piece = buffer.get(..read).unwrap_or_default();
            sink.write_all(piece).await.map_err(written)?;
            total += read as u64;
        }
    }
}

fn too_large(origin: &str, most: u64) -> String {
    format!("{origin} sends more than the {most} bytes that are allowed")
}

struct Reader {
    body: Incoming,
    piece: Bytes,
    come: u64,
    length: Option<u64>,
    most: u64,
    idle: Duration,
    pause: Pin<Box<Sleep>>,
    watch: Watch,
    origin: String,
    _connection: Connection,
}

impl Reader {
    /// Makes `piece` the next bytes; false at the end.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        loop {
            let frame = match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Ready(frame) => frame,
                Poll::Pending => {
                    ready!(self.pause.as_mut().poll(cx));
                    let text = format!("{} sent nothing for {:?}", self.origin, self.idle);
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, text)));
                }
            };
            self.pause.as_mut().reset(Instant::now() + self.idle);
            match frame {
                None => return Poll::Ready(Ok(false)),
                Some(Err(error)) => {
                    let text = format!("{} ended early: {error}", self.origin);
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::UnexpectedEof, text)));
                }
                Some(Ok(frame)) => {
                    let Ok(piece) = frame.into_data() else { continue };
                    self.come += piece.len() as u64;
                    if self.come > self.most {
                        let text = too_large(&self.origin, self.most);
                        return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, text)));
                    }
                    if !piece.is_empty() {
                        (self.watch)(self.come, self.length);
                        self.piece = piece;
                        return Poll::Ready(Ok(true));
                    }
                }
            }
        }
    }
}

impl AsyncRead for Reader {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.piece.is_empty() && !ready!(this.poll_piece(cx))? {
            return Poll::Ready(Ok(()));
        }
        let part = this.piece.len().min(out.remaining());
        out.put_slice(this.piece.get(..part).unwrap_or_default());
        this.piece.advance(part);
        Poll::Ready(Ok(()))
    }
}
