//! The two halves of a stream of QUIC.

use bytes::Bytes;
use quinn_proto::{ConnectionError, VarInt};

use super::driver::{self, ReadError, WriteError};
use crate::transport::StreamError;

/// Sent when a transfer is given up: the other side resets its connection in turn.
pub(super) const ABORTED: VarInt = VarInt::from_u32(1);

impl From<ConnectionError> for StreamError {
    fn from(error: ConnectionError) -> Self {
        Self::Lost(error.to_string())
    }
}

impl From<WriteError> for StreamError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Lost(error) => error.into(),
            WriteError::Closed | WriteError::Stopped(_) => Self::Reset,
        }
    }
}

impl From<ReadError> for StreamError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Lost(error) => error.into(),
            ReadError::Closed | ReadError::Reset(_) => Self::Reset,
        }
    }
}

/// The half that is written to. Dropped before [`SendStream::finish`], it is reset.
#[derive(Debug)]
pub(in crate::transport) struct SendStream {
    inner: driver::SendStream,
    finished: bool,
}

impl SendStream {
    pub(super) fn new(inner: driver::SendStream) -> Self {
        Self { inner, finished: false }
    }

    /// The stream's number, which its other end knows it by as well.
    pub(in crate::transport) fn number(&self) -> u64 {
        VarInt::from(self.inner.id()).into_inner()
    }

    /// Writes some of `bytes` and says how many. Given up before it is done, it has written none.
    pub(in crate::transport) async fn write(&mut self, bytes: &[u8]) -> Result<usize, StreamError> {
        Ok(self.inner.write(bytes).await?)
    }

    /// Writes all of `bytes`.
    pub(in crate::transport) async fn write_all(
        &mut self,
        bytes: &[u8],
    ) -> Result<(), StreamError> {
        Ok(self.inner.write_all(bytes).await?)
    }

    /// Writes all of `bytes` without copying them.
    pub(in crate::transport) async fn write_chunk(
        &mut self,
        bytes: Bytes,
    ) -> Result<(), StreamError> {
        Ok(self.inner.write_chunk(bytes).await?)
    }

    /// Waits until the other side has got all of it, or wants no more. Acknowledgements take their time: not for a path
    /// on which anybody waits.
    pub(in crate::transport) async fn acknowledged(&mut self) {
        // A link that is lost acknowledges nothing.
        let _ = self.inner.stopped().await;
    }

    /// Nothing more comes.
    pub(in crate::transport) fn finish(&mut self) {
        self.finished = true;
        self.inner.finish();
    }
}

impl Drop for SendStream {
    fn drop(&mut self) {
        if !self.finished {
            self.inner.reset(ABORTED);
        }
    }
}

/// The half that is read from. Dropped before its end, the other side is told to stop.
#[derive(Debug)]
pub(in crate::transport) struct RecvStream(driver::RecvStream);

impl RecvStream {
    pub(super) fn new(inner: driver::RecvStream) -> Self {
        Self(inner)
    }

    /// Fills `buffer`. Given up before it is done, what was read is lost.
    pub(in crate::transport) async fn read_exact(
        &mut self,
        buffer: &mut [u8],
    ) -> Result<(), StreamError> {
        let count = self.0.read_exact(buffer).await?;
        if count < buffer.len() { Err(StreamError::Ended) } else { Ok(()) }
    }

    /// Reads what is there, at most one chunk for each of `buffers`; none at the end.
    pub(in crate::transport) async fn read_chunks(
        &mut self,
        buffers: &mut [Bytes],
    ) -> Result<Option<usize>, StreamError> {
        Ok(self.0.read_chunks(buffers).await?)
    }
}
