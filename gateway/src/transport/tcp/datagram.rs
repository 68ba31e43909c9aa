//! Datagrams of UDP flows over TCP: one after the other on a stream of their own in each direction, each with its length.
//!
//! A lost packet of TCP holds up all that follows, whatever the stream: more than one would bring nothing. What finds no
//! room is dropped, as over QUIC.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::sync::oneshot;

use super::{
    shared::Shared,
    stream::{RecvStream, SendStream},
};
use crate::transport::{Dropped, StreamError};

/// What comes before a datagram: its length.
const PREFIX: usize = 2;
/// Chunks that are taken from the stream at once.
const CHUNKS: usize = 16;

/// Where datagrams are sent.
#[derive(Debug)]
pub(super) struct Sender {
    stream: Mutex<SendStream>,
    /// The half that nothing comes by.
    _other: RecvStream,
}

impl Sender {
    pub(super) fn new(stream: SendStream, other: RecvStream) -> Self {
        Self { stream: Mutex::new(stream), _other: other }
    }

    /// Sends a datagram, or drops it.
    pub(super) fn send(&self, datagram: &Bytes) -> Result<(), Dropped> {
        // The longest is exactly as long as can be told.
        let length = u16::try_from(datagram.len()).map_err(|_| Dropped::Full)?;
        let mut whole = BytesMut::with_capacity(PREFIX + datagram.len());
        whole.put_u16(length);
        whole.put_slice(datagram);
        let mut stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
        match stream.try_write(whole.freeze()) {
            Ok(true) => Ok(()),
            Ok(false) => Err(Dropped::Full),
            Err(_) => Err(Dropped::Lost),
        }
    }
}

/// What comes in.
#[derive(Debug)]
pub(in crate::transport) struct Datagrams {
    shared: Arc<Shared>,
    waits: Option<oneshot::Receiver<RecvStream>>,
    stream: Option<RecvStream>,
    read: BytesMut,
}

impl Datagrams {
    pub(super) fn new(shared: Arc<Shared>, waits: Option<oneshot::Receiver<RecvStream>>) -> Self {
        Self { shared, waits, stream: None, read: BytesMut::new() }
    }

    /// The next one. Given up before it is done, nothing is lost.
    pub(in crate::transport) async fn next(&mut self) -> Result<Bytes, StreamError> {
        loop {
            if let Some(datagram) = first(&mut self.read) {
                return Ok(datagram);
            }
            let stream = match (&mut self.stream, &mut self.waits) {
                (Some(stream), _) => stream,
                (none, Some(waits)) => {
                    let came = waits.await;
                    self.waits = None;
                    none.insert(came.map_err(|_| StreamError::Reset)?)
                }
                (None, None) => {
                    // Nobody sends any, and the end of the link is the end of this.
                    self.shared.ended().await;
                    return Err(StreamError::Ended);
                }
            };
            let mut chunks: [Bytes; CHUNKS] = std::array::from_fn(|_| Bytes::new());
            let count = stream.read_chunks(&mut chunks).await?.ok_or(StreamError::Ended)?;
            for chunk in &chunks[..count] {
                self.read.extend_from_slice(chunk);
            }
        }
    }
}

/// Takes the first datagram, if it is whole.
fn first(read: &mut BytesMut) -> Option<Bytes> {
    let prefix = read.first_chunk::<PREFIX>()?;
    let length = usize::from(u16::from_be_bytes(*prefix));
    if read.len() < PREFIX + length {
        return None;
    }
    read.advance(PREFIX);
    Some(read.split_to(length).freeze())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datagrams_are_found_in_whatever_pieces_they_come() {
        let whole = [0, 3, b'a', b'b', b'c', 0, 0, 0, 1, b'd'];
        for cut in 0..whole.len() {
            let mut read = BytesMut::new();
            let mut found = Vec::new();
            for piece in [&whole[..cut], &whole[cut..]] {
                read.extend_from_slice(piece);
                while let Some(datagram) = first(&mut read) {
                    found.push(datagram);
                }
            }
            assert_eq!(found, [&b"abc"[..], b"", b"d"], "cut at {cut}");
        }
    }
}
