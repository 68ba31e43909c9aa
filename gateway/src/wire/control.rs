//! Pure: the control stream, which each side opens once a connection stands.
//!
//! TLS 1.3 tells the dialling side that the handshake is done before the other has looked at its certificate. The
//! first message of the other side is what shows that it was accepted.

use super::{
    WireError,
    bytes::{Reader, Writer},
};

/// The longest control message: a list of every version there can be is 255 bytes.
pub(crate) const MAX_CONTROL: usize = 1024;

const HELLO: u8 = 1;
const DRAINING: u8 = 2;

/// A message of the control stream.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Control {
    /// The sender is about to go: it takes no new streams.
    Draining,
    /// The sender takes the connection, and reads headers of these versions.
    Hello {
        /// The versions.
        spoken: Vec<u8>,
    },
    /// A message of a later version, of no concern here.
    Unknown(u8),
}

/// Writes a message: kind, length, body.
#[must_use]
pub(crate) fn encode_control(message: &Control) -> Vec<u8> {
    let mut whole = Writer::default();
    match message {
        Control::Draining => {
            whole.u8(DRAINING);
            whole.counted(&[]);
        }
        Control::Hello { spoken } => {
            whole.u8(HELLO);
            let mut body = Writer::default();
            body.counted_u8(spoken);
            whole.counted(&body.finish());
        }
        Control::Unknown(kind) => {
            whole.u8(*kind);
            whole.counted(&[]);
        }
    }
    whole.finish()
}

/// Reads a message from its kind and body.
///
/// # Errors
/// [`WireError`] where a body is too short.
pub(crate) fn decode_control(kind: u8, body: &[u8]) -> Result<Control, WireError> {
    match kind {
        DRAINING => Ok(Control::Draining),
        HELLO => {
            let mut body = Reader::new(body);
            let count = usize::from(body.u8("versions")?);
            let spoken = body.rest().get(..count);
            let spoken = spoken.ok_or(WireError::Truncated { field: "versions" })?;
            Ok(Control::Hello { spoken: spoken.to_vec() })
        }
        other => Ok(Control::Unknown(other)),
    }
}
