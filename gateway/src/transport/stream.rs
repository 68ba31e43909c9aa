//! The two halves of a stream, and datagrams, whatever carries them.

use std::sync::Arc;

use bytes::Bytes;
use thiserror::Error;

use super::{quic, tcp};

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

/// Why a datagram was not sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Dropped {
    /// More is under way than the path takes.
    Full,
    /// The connection is gone.
    Lost,
}

/// The half that is written to. Dropped before [`SendStream::finish`], it is reset.
#[derive(Debug)]
pub(crate) struct SendStream {
    inner: Sends,
    /// Tells that a stream is open.
    _half: Option<Arc<()>>,
}

#[derive(Debug)]
enum Sends {
    Quic(quic::SendStream),
    Tcp(tcp::SendStream),
}

impl SendStream {
    pub(super) fn quic(inner: quic::SendStream, half: Option<Arc<()>>) -> Self {
        Self { inner: Sends::Quic(inner), _half: half }
    }

    pub(super) fn tcp(inner: tcp::SendStream, half: Option<Arc<()>>) -> Self {
        Self { inner: Sends::Tcp(inner), _half: half }
    }

    /// The stream's number, which its other end knows it by as well.
    pub(crate) fn number(&self) -> u64 {
        match &self.inner {
            Sends::Quic(inner) => inner.number(),
            Sends::Tcp(inner) => inner.number(),
        }
    }

    /// Writes some of `bytes` and says how many. Given up before it is done, it has written none.
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> Result<usize, StreamError> {
        match &mut self.inner {
            Sends::Quic(inner) => inner.write(bytes).await,
            Sends::Tcp(inner) => inner.write(bytes).await,
        }
    }

    /// Writes all of `bytes`.
    pub(crate) async fn write_all(&mut self, bytes: &[u8]) -> Result<(), StreamError> {
        match &mut self.inner {
            Sends::Quic(inner) => inner.write_all(bytes).await,
            Sends::Tcp(inner) => inner.write_all(bytes).await,
        }
    }

    /// Writes all of `bytes` without copying them.
    pub(crate) async fn write_chunk(&mut self, bytes: Bytes) -> Result<(), StreamError> {
        match &mut self.inner {
            Sends::Quic(inner) => inner.write_chunk(bytes).await,
            Sends::Tcp(inner) => inner.write_chunk(bytes).await,
        }
    }

    /// Waits until the other side has got all of it, or wants no more. Acknowledgements take their time: not for a path
    /// on which anybody waits.
    pub(crate) async fn acknowledged(&mut self) {
        match &mut self.inner {
            Sends::Quic(inner) => inner.acknowledged().await,
            Sends::Tcp(inner) => inner.acknowledged().await,
        }
    }

    /// Nothing more comes.
    pub(crate) fn finish(&mut self) {
        match &mut self.inner {
            Sends::Quic(inner) => inner.finish(),
            Sends::Tcp(inner) => inner.finish(),
        }
    }
}

/// The half that is read from. Dropped before its end, the other side is told to stop.
#[derive(Debug)]
pub(crate) struct RecvStream {
    inner: Receives,
    /// Tells that a stream is open.
    _half: Option<Arc<()>>,
}

#[derive(Debug)]
enum Receives {
    Quic(quic::RecvStream),
    Tcp(tcp::RecvStream),
}

impl RecvStream {
    pub(super) fn quic(inner: quic::RecvStream, half: Option<Arc<()>>) -> Self {
        Self { inner: Receives::Quic(inner), _half: half }
    }

    pub(super) fn tcp(inner: tcp::RecvStream, half: Option<Arc<()>>) -> Self {
        Self { inner: Receives::Tcp(inner), _half: half }
    }

    /// Fills `buffer`. Given up before it is done, what was read is lost.
    pub(crate) async fn read_exact(&mut self, buffer: &mut [u8]) -> Result<(), StreamError> {
        match &mut self.inner {
            Receives::Quic(inner) => inner.read_exact(buffer).await,
            Receives::Tcp(inner) => inner.read_exact(buffer).await,
        }
    }

    /// Reads what is there, at most one chunk for each of `buffers`; none at the end.
    pub(crate) async fn read_chunks(
        &mut self,
        buffers: &mut [Bytes],
    ) -> Result<Option<usize>, StreamError> {
        match &mut self.inner {
            Receives::Quic(inner) => inner.read_chunks(buffers).await,
            Receives::Tcp(inner) => inner.read_chunks(buffers).await,
        }
    }
}

/// The datagrams that come in, in any order.
#[derive(Debug)]
pub(crate) struct Datagrams(Comes);

#[derive(Debug)]
enum Comes {
    Quic(quic::Datagrams),
    Tcp(tcp::Datagrams),
}

impl Datagrams {
    pub(super) fn quic(inner: quic::Datagrams) -> Self {
        Self(Comes::Quic(inner))
    }

    pub(super) fn tcp(inner: tcp::Datagrams) -> Self {
        Self(Comes::Tcp(inner))
    }

    /// The next one. Given up before it is done, nothing is lost.
    pub(crate) async fn next(&mut self) -> Result<Bytes, StreamError> {
        match &mut self.0 {
            Comes::Quic(inner) => inner.next().await,
            Comes::Tcp(inner) => inner.next().await,
        }
    }
}
