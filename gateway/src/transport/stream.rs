//! The two halves of a stream.

use std::sync::Arc;

use bytes::Bytes;
use quinn::{ConnectionError, ReadError, ReadExactError, VarInt, WriteError};
use thiserror::Error;

/// Sent when a transfer is given up: the other side resets its connection in turn.
pub(super) const ABORTED: VarInt = VarInt::from_u32(1);

/// Why a stream cannot go on.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub(crate) enum StreamError {
    /// It ended in the middle of something.
    #[error("the stream ended early")]
    Ended,
    /// The connection below it is gone.
    #[error("the link was lost: {0}")]
    Lost(String),
    /// The other side has given it up.
    #[error("the stream was reset")]
    Reset,
}

impl From<ConnectionError> for StreamError {
    fn from(error: ConnectionError) -> Self {
        Self::Lost(error.to_string())
    }
}

impl From<WriteError> for StreamError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::ConnectionLost(error) => error.into(),
            WriteError::ClosedStream | WriteError::Stopped(_) | WriteError::ZeroRttRejected => {
                Self::Reset
            }
        }
    }
}

impl From<ReadError> for StreamError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::ConnectionLost(error) => error.into(),
            _ => Self::Reset,
        }
    }
}

/// The half that is written to. Dropped before [`SendStream::finish`], it is reset.
#[derive(Debug)]
pub(crate) struct SendStream {
    inner: quinn::SendStream,
    finished: bool,
    /// Tells that a stream is open.
    _half: Option<Arc<()>>,
}

impl SendStream {
    pub(super) fn new(inner: quinn::SendStream, half: Option<Arc<()>>) -> Self {
        Self { inner, finished: false, _half: half }
    }

    /// The stream's number, which its other end knows it by as well.
    pub(crate) fn number(&self) -> u64 {
        VarInt::from(self.inner.id()).into_inner()
    }

    /// Writes some of `bytes` and says how many. Given up before it is done, it has written none.
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> Result<usize, StreamError> {
        Ok(self.inner.write(bytes).await?)
    }

    /// Writes all of `bytes`.
    pub(crate) async fn write_all(&mut self, bytes: &[u8]) -> Result<(), StreamError> {
        Ok(self.inner.write_all(bytes).await?)
    }

    /// Writes all of `bytes` without copying them.
    pub(crate) async fn write_chunk(&mut self, bytes: Bytes) -> Result<(), StreamError> {
        Ok(self.inner.write_chunk(bytes).await?)
    }

    /// Waits until the other side has got all of it, or wants no more. Acknowledgements take their time: not for a path
    /// on which anybody waits.
    pub(crate) async fn acknowledged(&mut self) {
        // A link that is lost acknowledges nothing.
        let _ = self.inner.stopped().await;
    }

    /// Nothing more comes.
    pub(crate) fn finish(&mut self) {
        self.finished = true;
        // A stream that the peer has stopped is over either way.
        let _ = self.inner.finish();
    }
}

impl Drop for SendStream {
    fn drop(&mut self) {
        if !self.finished {
            let _ = self.inner.reset(ABORTED);
        }
    }
}

/// The half that is read from. Dropped before its end, the other side is told to stop.
#[derive(Debug)]
pub(crate) struct RecvStream {
    inner: quinn::RecvStream,
    /// Tells that a stream is open.
    _half: Option<Arc<()>>,
}

impl RecvStream {
    pub(super) fn new(inner: quinn::RecvStream, half: Option<Arc<()>>) -> Self {
        Self { inner, _half: half }
    }

    /// Fills `buffer`. Given up before it is done, what was read is lost.
    pub(crate) async fn read_exact(&mut self, buffer: &mut [u8]) -> Result<(), StreamError> {
        match self.inner.read_exact(buffer).await {
            Ok(()) => Ok(()),
            Err(ReadExactError::FinishedEarly(_)) => Err(StreamError::Ended),
            Err(ReadExactError::ReadError(error)) => Err(error.into()),
        }
    }

    /// Reads what is there, at most one chunk for each of `buffers`; none at the end.
    pub(crate) async fn read_chunks(
        &mut self,
        buffers: &mut [Bytes],
    ) -> Result<Option<usize>, StreamError> {
        Ok(self.inner.read_chunks(buffers).await?)
    }
}
