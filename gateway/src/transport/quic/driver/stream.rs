//! The two halves of a stream.

use std::{
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use quinn_proto::{Chunks, ClosedStream, ConnectionError, FinishError, StreamId, VarInt, Written};
use thiserror::Error;

use super::{
    connection::Handle,
    drive::{State, Waiting},
};

/// Why nothing more can be written.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub(in crate::transport::quic) enum WriteError {
    /// This side has finished or reset it.
    #[error("the stream is over")]
    Closed,
    /// The connection is over.
    #[error("connection lost: {0}")]
    Lost(#[from] ConnectionError),
    /// The peer wants no more.
    #[error("stopped by the peer: {0}")]
    Stopped(VarInt),
}

/// Why nothing more can be read.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub(in crate::transport::quic) enum ReadError {
    /// This side has stopped it.
    #[error("the stream is over")]
    Closed,
    /// The connection is over.
    #[error("connection lost: {0}")]
    Lost(#[from] ConnectionError),
    /// The peer has given it up.
    #[error("reset by the peer: {0}")]
    Reset(VarInt),
}

/// The half that is written to. Dropped before it was finished, it is reset.
#[derive(Debug)]
pub(in crate::transport::quic) struct SendStream {
    connection: Arc<Handle>,
    id: StreamId,
    /// Finished or reset.
    over: bool,
}

impl SendStream {
    pub(super) fn new(connection: Arc<Handle>, id: StreamId) -> Self {
        Self { connection, id, over: false }
    }

    /// Its number, which the peer knows it by as well.
    pub(in crate::transport::quic) fn id(&self) -> StreamId {
        self.id
    }

    /// Writes some of `bytes` and says how many. Given up before it is done, it has written none.
    pub(in crate::transport::quic) async fn write(
        &mut self,
        bytes: &[u8],
    ) -> Result<usize, WriteError> {
        poll_fn(|context| self.poll_write(context, bytes)).await
    }

    /// The same, asked for again when `context` is woken.
    pub(in crate::transport::quic) fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<Result<usize, WriteError>> {
        self.poll(context, |stream| stream.write(bytes))
    }

    /// Writes all of `bytes`.
    pub(in crate::transport::quic) async fn write_all(
        &mut self,
        mut bytes: &[u8],
    ) -> Result<(), WriteError> {
        while !bytes.is_empty() {
            let written = self.write(bytes).await?;
            bytes = &bytes[written..];
        }
        Ok(())
    }

    /// Writes all of `bytes` without copying them.
    pub(in crate::transport::quic) async fn write_chunk(
        &mut self,
        bytes: Bytes,
    ) -> Result<(), WriteError> {
        let mut chunks = [bytes];
        while !chunks[0].is_empty() {
            poll_fn(|context| self.poll_chunks(context, &mut chunks)).await?;
        }
        Ok(())
    }

    /// Writes some of `chunks`, which are emptied of what was written.
    fn poll_chunks(
        &mut self,
        context: &mut Context<'_>,
        chunks: &mut [Bytes],
    ) -> Poll<Result<Written, WriteError>> {
        self.poll(context, |stream| stream.write_chunks(chunks))
    }

    fn poll<T>(
        &mut self,
        context: &mut Context<'_>,
        write: impl FnOnce(&mut quinn_proto::SendStream<'_>) -> Result<T, quinn_proto::WriteError>,
    ) -> Poll<Result<T, WriteError>> {
        let id = self.id;
        self.connection.shared().with(|state| {
            if let Some(error) = &state.error {
                return Poll::Ready(Err(WriteError::Lost(error.clone())));
            }
            match write(&mut state.proto.send_stream(id)) {
                Ok(written) => {
                    state.dirty = true;
                    Poll::Ready(Ok(written))
                }
                Err(quinn_proto::WriteError::Blocked) => {
                    wait(&mut state.writers, id, context.waker());
                    Poll::Pending
                }
                Err(quinn_proto::WriteError::Stopped(code)) => {
                    Poll::Ready(Err(WriteError::Stopped(code)))
                }
                Err(quinn_proto::WriteError::ClosedStream) => Poll::Ready(Err(WriteError::Closed)),
            }
        })
    }

    /// Nothing more comes. What was written goes on its way.
    pub(in crate::transport::quic) fn finish(&mut self) {
        self.over = true;
        let id = self.id;
        self.connection.shared().with(|state| {
            state.dirty |= match state.proto.send_stream(id).finish() {
                Ok(()) => true,
                // One that the peer has stopped is over either way, and forgotten once that is said.
                Err(FinishError::Stopped(code)) => state.proto.send_stream(id).reset(code).is_ok(),
                Err(FinishError::ClosedStream) => false,
            };
        });
    }

    /// Gives it up: what was written may not arrive.
    pub(in crate::transport::quic) fn reset(&mut self, code: VarInt) {
        self.over = true;
        let id = self.id;
        self.connection.shared().with(|state| {
            state.dirty |= state.error.is_none() && state.proto.send_stream(id).reset(code).is_ok();
        });
    }

    /// Waits until the peer has acknowledged all of it, or wants no more.
    pub(in crate::transport::quic) async fn stopped(
        &mut self,
    ) -> Result<Option<VarInt>, ConnectionError> {
        let id = self.id;
        let poll = |state: &mut State, waker: &Waker| match state.proto.send_stream(id).stopped() {
            Err(ClosedStream { .. }) => Poll::Ready(Ok(None)),
            Ok(Some(code)) => Poll::Ready(Ok(Some(code))),
            Ok(None) => match &state.error {
                Some(error) => Poll::Ready(Err(error.clone())),
                None => {
                    wait(&mut state.finishers, id, waker);
                    Poll::Pending
                }
            },
        };
        poll_fn(|context| self.connection.shared().with(|state| poll(state, context.waker()))).await
    }
}

impl Drop for SendStream {
    fn drop(&mut self) {
        if !self.over {
            self.reset(VarInt::from_u32(0));
        }
        let id = self.id;
        // Waits that were given up.
        self.connection
            .shared()
            .with(|state| (state.writers.remove(&id), state.finishers.remove(&id)));
    }
}

/// The half that is read from. Dropped before its end, the peer is told to stop.
#[derive(Debug)]
pub(in crate::transport::quic) struct RecvStream {
    connection: Arc<Handle>,
    id: StreamId,
    /// Nothing more comes.
    over: bool,
    /// It was reset after what was read last.
    reset: Option<VarInt>,
}

impl RecvStream {
    pub(super) fn new(connection: Arc<Handle>, id: StreamId) -> Self {
        Self { connection, id, over: false, reset: None }
    }

    /// Reads what is there, at most one chunk for each of `buffers`; none at the end. Chunks are not copied. Given up
    /// before it is done, it has read none.
    pub(in crate::transport::quic) async fn read_chunks(
        &mut self,
        buffers: &mut [Bytes],
    ) -> Result<Option<usize>, ReadError> {
        let read = poll_fn(|context| {
            self.poll(context, |chunks| {
                let mut count = 0;
                while count < buffers.len() {
                    match chunks.next(usize::MAX) {
                        Ok(Some(chunk)) => {
                            buffers[count] = chunk.bytes;
                            count += 1;
                        }
                        Ok(None) => return (count, End::Finished),
                        Err(quinn_proto::ReadError::Blocked) => return (count, End::Blocked),
                        Err(quinn_proto::ReadError::Reset(code)) => {
                            return (count, End::Reset(code));
                        }
                    }
                }
                (count, End::Blocked)
            })
        });
        read.await
    }

    /// Fills `buffer`, and says how many bytes there were of it where the stream has ended before. Given up before it is
    /// done, what was read is lost.
    pub(in crate::transport::quic) async fn read_exact(
        &mut self,
        buffer: &mut [u8],
    ) -> Result<usize, ReadError> {
        let mut filled = 0;
        while filled < buffer.len() {
            let rest = &mut buffer[filled..];
            let read = poll_fn(|context| self.poll_read(context, rest)).await?;
            match read {
                Some(count) => filled += count,
                None => break,
            }
        }
        Ok(filled)
    }

    /// Reads what is there into `buffer` and says how many bytes that were, none at the end; asked for again when `context` is
    /// woken.
    pub(in crate::transport::quic) fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<Result<Option<usize>, ReadError>> {
        self.poll(context, |chunks| {
            let mut count = 0;
            while count < buffer.len() {
                match chunks.next(buffer.len() - count) {
                    Ok(Some(chunk)) => {
                        buffer[count..count + chunk.bytes.len()].copy_from_slice(&chunk.bytes);
                        count += chunk.bytes.len();
                    }
                    Ok(None) => return (count, End::Finished),
                    Err(quinn_proto::ReadError::Blocked) => return (count, End::Blocked),
                    Err(quinn_proto::ReadError::Reset(code)) => return (count, End::Reset(code)),
                }
            }
            (count, End::Blocked)
        })
    }

    /// Reads with `read`, which says how much and why no more. None at the end.
    fn poll(
        &mut self,
        context: &mut Context<'_>,
        read: impl FnOnce(&mut Chunks<'_>) -> (usize, End),
    ) -> Poll<Result<Option<usize>, ReadError>> {
        if let Some(code) = self.reset {
            self.over = true;
            return Poll::Ready(Err(ReadError::Reset(code)));
        }
        if self.over {
            return Poll::Ready(Ok(None));
        }
        let id = self.id;
        let read = self.connection.shared().with(|state| {
            let (count, end) = {
                let mut stream = state.proto.recv_stream(id);
                // It is read in order only.
                let mut chunks = stream.read(true).map_err(|_| ReadError::Closed)?;
                let read = read(&mut chunks);
                state.dirty |= chunks.finalize().should_transmit();
                read
            };
            if count == 0 && end == End::Blocked {
                if let Some(error) = &state.error {
                    return Err(ReadError::Lost(error.clone()));
                }
                wait(&mut state.readers, id, context.waker());
            }
            Ok((count, end))
        });
        match read? {
            (0, End::Blocked) => Poll::Pending,
            (count, End::Blocked) => Poll::Ready(Ok(Some(count))),
            (count, End::Finished) => {
                self.over = true;
                Poll::Ready(Ok((count > 0).then_some(count)))
            }
            (count, End::Reset(code)) => {
                self.reset = Some(code);
                if count > 0 {
                    return Poll::Ready(Ok(Some(count)));
                }
                self.over = true;
                Poll::Ready(Err(ReadError::Reset(code)))
            }
        }
    }

    /// Wants no more of it.
    pub(in crate::transport::quic) fn stop(&mut self, code: VarInt) {
        self.over = true;
        let id = self.id;
        self.connection.shared().with(|state| {
            state.readers.remove(&id);
            state.dirty |= state.error.is_none() && state.proto.recv_stream(id).stop(code).is_ok();
        });
    }
}

impl Drop for RecvStream {
    fn drop(&mut self) {
        if !self.over {
            self.stop(VarInt::from_u32(0));
        }
    }
}

/// Why a read has brought no more.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum End {
    Blocked,
    Finished,
    Reset(VarInt),
}

fn wait(waiting: &mut Waiting, id: StreamId, waker: &Waker) {
    waiting
        .entry(id)
        .and_modify(|waiting| waiting.clone_from(waker))
        .or_insert_with(|| waker.clone());
}
