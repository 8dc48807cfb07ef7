//! Pictures of a running domain's screen.

use babelvisor_core::Error;
use babelvisor_core::model::Screenshot;
use uuid::Uuid;
use virt::connect::Connect;
use virt::stream::Stream;

use crate::connection::CallError;
use crate::define::lookup;

/// Most bytes of a picture: four bytes for each of 4096 × 4096 points.
const LARGEST: usize = 64 << 20;
const CHUNK: usize = 256 * 1024;

/// The first screen as it is now.
pub(crate) fn picture(connection: &Connect, uuid: Uuid) -> Result<Screenshot, CallError> {
    let domain = lookup(connection, uuid)?.ok_or_else(|| Error::not_found("vm", uuid))?;
    if !domain.is_active()? {
        let detail = "the VM is off; it has a screen only while it runs";
        return Err(Error::illegal_state("vm", uuid, detail).into());
    }
    let stream = Stream::new(connection, 0)?;
    let media_type = domain.screenshot(&stream, 0, 0)?;
    let mut bytes = Vec::new();
    let mut buffer = vec![0_u8; CHUNK];
    loop {
        let read = match stream.recv(&mut buffer) {
            Ok(read) => usize::try_from(read).unwrap_or(0),
            Err(error) => {
                // The first error says more than the abort's.
                let _ = stream.abort();
                return Err(error.into());
            }
        };
        if read == 0 {
            break;
        }
        bytes.extend_from_slice(buffer.get(..read).unwrap_or_default());
        if bytes.len() > LARGEST {
            stream.abort()?;
            return Err(Error::unsupported(format!("the picture has more than {LARGEST} bytes")).into());
        }
    }
    stream.finish()?;
    Ok(Screenshot {
        media_type,
        bytes: bytes.into(),
    })
}
