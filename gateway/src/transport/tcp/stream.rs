//! The two halves of a stream of HTTP/2.
//!
//! What differs from QUIC: a reset ends both halves, and so does giving up the reading one before its end once the other
//! is finished. Nobody here gives up one half alone.

use std::{future::poll_fn, sync::Arc, task::Poll};

use bytes::{Buf, Bytes};
use h2::{Reason, client::ResponseFuture};
use http::StatusCode;
use tokio::sync::oneshot;

use super::shared::Shared;
use crate::transport::StreamError;

/// Bytes on their way, and somebody who waits until they have been written.
#[derive(Debug, Default)]
pub(super) struct Chunk {
    bytes: Bytes,
    /// Dropped with the chunk, which HTTP/2 does once it has been written.
    _written: Option<oneshot::Sender<()>>,
}

impl From<Bytes> for Chunk {
    fn from(bytes: Bytes) -> Self {
        Self { bytes, _written: None }
    }
}

impl Buf for Chunk {
    fn remaining(&self) -> usize {
        self.bytes.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.bytes.chunk()
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
    }
}

/// What became of a stream.
pub(super) fn stream_error(error: &h2::Error) -> StreamError {
    if error.is_reset() { StreamError::Reset } else { StreamError::Lost(error.to_string()) }
}

/// The half that is written to. Dropped before [`SendStream::finish`], the stream is reset.
#[derive(Debug)]
pub(in crate::transport) struct SendStream {
    inner: h2::SendStream<Chunk>,
    number: u64,
    shared: Arc<Shared>,
    finished: bool,
    /// Tells that the end has been written.
    written: Option<oneshot::Receiver<()>>,
}

impl SendStream {
    pub(super) fn new(inner: h2::SendStream<Chunk>, number: u64, shared: Arc<Shared>) -> Self {
        Self { inner, number, shared, finished: false, written: None }
    }

    pub(in crate::transport) fn number(&self) -> u64 {
        self.number
    }

    /// Waits for room for some of `wanted` bytes, and says for how many.
    async fn room(&mut self, wanted: usize) -> Result<usize, StreamError> {
        self.inner.reserve_capacity(wanted);
        loop {
            let room = self.inner.capacity();
            if room > 0 {
                return Ok(room.min(wanted));
            }
            match poll_fn(|cx| self.inner.poll_capacity(cx)).await {
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(stream_error(&error)),
                None => return Err(self.over()),
            }
        }
    }

    /// Why nothing more can be written.
    fn over(&self) -> StreamError {
        match self.shared.closed_by() {
            Some(error) => StreamError::Lost(error.to_string()),
            None => StreamError::Reset,
        }
    }

    pub(in crate::transport) async fn write(&mut self, bytes: &[u8]) -> Result<usize, StreamError> {
        if bytes.is_empty() {
            return Ok(0);
        }
        let count = self.room(bytes.len()).await?;
        self.put(Bytes::copy_from_slice(&bytes[..count]).into(), false)?;
        Ok(count)
    }

    pub(in crate::transport) async fn write_all(
        &mut self,
        bytes: &[u8],
    ) -> Result<(), StreamError> {
        self.write_chunk(Bytes::copy_from_slice(bytes)).await
    }

    pub(in crate::transport) async fn write_chunk(
        &mut self,
        mut bytes: Bytes,
    ) -> Result<(), StreamError> {
        while !bytes.is_empty() {
            let count = self.room(bytes.len()).await?;
            self.put(bytes.split_to(count).into(), false)?;
        }
        Ok(())
    }

    fn put(&mut self, chunk: Chunk, last: bool) -> Result<(), StreamError> {
        self.inner.send_data(chunk, last).map_err(|_| self.over())
    }

    /// Waits until all of it has been written, and the peer has answered to what went after it.
    pub(in crate::transport) async fn acknowledged(&mut self) {
        let Some(written) = self.written.take() else { return };
        tokio::select! {
            // It is dropped, never sent.
            _ = written => self.shared.answered().await,
            () = self.shared.ended() => {}
        }
    }

    pub(in crate::transport) fn finish(&mut self) {
        if self.finished {
            return;
        }
        self.finished = true;
        let (written, told) = oneshot::channel();
        self.written = Some(told);
        // A stream that the peer has reset is over either way.
        let _ = self.put(Chunk { bytes: Bytes::new(), _written: Some(written) }, true);
    }

    /// Gives the stream up, for a reason of the peer's concern.
    pub(super) fn reset(mut self, reason: Reason) {
        self.finished = true;
        self.inner.send_reset(reason);
    }

    /// Writes `bytes` at once or not at all.
    pub(super) fn try_write(&mut self, bytes: Bytes) -> Result<bool, StreamError> {
        self.inner.reserve_capacity(bytes.len());
        if self.inner.capacity() >= bytes.len() {
            return self.put(bytes.into(), false).map(|()| true);
        }
        // Nobody waits for room.
        self.inner.reserve_capacity(0);
        let is_over = self.shared.closed_by().is_some();
        if is_over { Err(self.over()) } else { Ok(false) }
    }
}

impl Drop for SendStream {
    fn drop(&mut self) {
        if !self.finished {
            self.inner.send_reset(Reason::CANCEL);
        }
    }
}

/// Where the reading half comes from.
#[derive(Debug)]
enum Body {
    Here(h2::RecvStream),
    /// The peer has yet to take the stream.
    Waits(ResponseFuture),
}

/// The half that is read from.
#[derive(Debug)]
pub(in crate::transport) struct RecvStream {
    body: Body,
    /// What has come and was not asked for yet.
    rest: Bytes,
}

impl RecvStream {
    pub(super) fn accepted(inner: h2::RecvStream) -> Self {
        Self { body: Body::Here(inner), rest: Bytes::new() }
    }

    pub(super) fn opened(response: ResponseFuture) -> Self {
        Self { body: Body::Waits(response), rest: Bytes::new() }
    }

    async fn body(&mut self) -> Result<&mut h2::RecvStream, StreamError> {
        if let Body::Waits(response) = &mut self.body {
            let response = response.await.map_err(|error| stream_error(&error))?;
            if response.status() != StatusCode::OK {
                return Err(StreamError::Reset);
            }
            self.body = Body::Here(response.into_body());
        }
        match &mut self.body {
            Body::Here(inner) => Ok(inner),
            Body::Waits(_) => Err(StreamError::Reset),
        }
    }

    /// The next chunk; none at the end.
    async fn chunk(&mut self) -> Result<Option<Bytes>, StreamError> {
        if !self.rest.is_empty() {
            return Ok(Some(std::mem::take(&mut self.rest)));
        }
        let body = self.body().await?;
        loop {
            match body.data().await {
                Some(Ok(bytes)) if bytes.is_empty() => {}
                Some(Ok(bytes)) => {
                    release(body, bytes.len());
                    return Ok(Some(bytes));
                }
                Some(Err(error)) => return Err(stream_error(&error)),
                None => return Ok(None),
            }
        }
    }

    pub(in crate::transport) async fn read_exact(
        &mut self,
        buffer: &mut [u8],
    ) -> Result<(), StreamError> {
        let mut filled = 0;
        while filled < buffer.len() {
            let mut bytes = self.chunk().await?.ok_or(StreamError::Ended)?;
            let count = bytes.len().min(buffer.len() - filled);
            bytes.copy_to_slice(&mut buffer[filled..filled + count]);
            filled += count;
            self.rest = bytes;
        }
        Ok(())
    }

    pub(in crate::transport) async fn read_chunks(
        &mut self,
        buffers: &mut [Bytes],
    ) -> Result<Option<usize>, StreamError> {
        let Some(first) = self.chunk().await? else { return Ok(None) };
        let [place, others @ ..] = buffers else { return Ok(Some(0)) };
        *place = first;
        let Body::Here(body) = &mut self.body else { return Ok(Some(1)) };
        // What else is there already; how it ends is for the next call to say.
        let more = poll_fn(|cx| {
            let mut count = 0;
            while count < others.len()
                && !body.is_end_stream()
                && let Poll::Ready(Some(Ok(bytes))) = body.poll_data(cx)
            {
                release(body, bytes.len());
                others[count] = bytes;
                count += 1;
            }
            Poll::Ready(count)
        });
        Ok(Some(1 + more.await))
    }

    /// What became of it. Bytes that come meanwhile are of no concern.
    pub(super) async fn ends(&mut self) -> Option<Reason> {
        let Ok(body) = self.body().await else { return None };
        loop {
            match body.data().await {
                Some(Ok(bytes)) => release(body, bytes.len()),
                Some(Err(error)) => return error.reason(),
                None => return None,
            }
        }
    }
}

/// Lets the peer send as much again.
fn release(body: &mut h2::RecvStream, count: usize) {
    // It fails only for more than has come.
    let _ = body.flow_control().release_capacity(count);
}
