//! Pure: the datagrams of UDP flows, on their way between two gateways.
//!
//! A flow is named by the number of the stream that opened it, which both ends know. Its datagrams go as QUIC
//! datagrams, `[flow: varint] payload`, and one that is too large for that goes alone on a stream, in the same form.
//! What a client sends before the flow is answered follows the header on its stream as frames, `[length: u16] payload`,
//! so that the first question needs no round trip of its own.

use bytes::{BufMut, Bytes, BytesMut};

/// The most that one UDP datagram carries: a length field of 16 bits less the header.
pub(crate) const MAX_PAYLOAD: usize = 65_527;
/// What comes before a frame's payload.
pub(crate) const FRAME_PREFIX: usize = 2;

/// Names the flow of a datagram. A variable-length integer of QUIC (RFC 9000 section 16): a stream's number fits.
#[must_use]
pub(crate) fn encode_datagram(flow: u64, payload: &[u8]) -> Bytes {
    let mut whole = BytesMut::with_capacity(8 + payload.len());
    #[expect(clippy::cast_possible_truncation, reason = "each arm has the range that fits")]
    match flow {
        0..=0x3f => whole.put_u8(flow as u8),
        0x40..=0x3fff => whole.put_u16(flow as u16 | 0x4000),
        0x4000..=0x3fff_ffff => whole.put_u32(flow as u32 | 0x8000_0000),
        _ => whole.put_u64(flow | 0xc000_0000_0000_0000),
    }
    whole.extend_from_slice(payload);
    whole.freeze()
}

/// Reads the flow's name off a datagram; none where it is too short to have one.
#[must_use]
pub(crate) fn decode_datagram(mut whole: Bytes) -> Option<(u64, Bytes)> {
    let first = *whole.first()?;
    // The two highest bits tell the length.
    let length = 1_usize << (first >> 6);
    if whole.len() < length {
        return None;
    }
    let name = whole.split_to(length);
    let rest = name[1..].iter();
    let flow = rest.fold(u64::from(first & 0x3f), |flow, byte| (flow << 8) | u64::from(*byte));
    Some((flow, whole))
}

/// Appends a frame. A payload that no UDP datagram can have is cut.
pub(crate) fn encode_frame(to: &mut Vec<u8>, payload: &[u8]) {
    let payload = &payload[..payload.len().min(MAX_PAYLOAD)];
    let length = u16::try_from(payload.len()).unwrap_or(u16::MAX);
    to.extend_from_slice(&length.to_be_bytes());
    to.extend_from_slice(payload);
}
