//! Payload that a client sends before anyone has answered: sent ahead, and kept until an answer says that it arrived.

use std::{io, sync::Arc};

use bytes::{Bytes, BytesMut};
use tokio::net::TcpStream;

use crate::{
    copy::{self, Prefix},
    core::Core,
    health::LinkState,
    links::Link,
    transport::{SendStream, StreamError},
};

/// The most that is kept for one client; then reading stops until there is an answer.
const LIMIT: usize = 64 << 10;
/// What is read at a time: kept small, since most first messages are.
const PIECE: usize = 16 << 10;

/// What one client has sent so far.
#[derive(Debug)]
pub(super) struct Early {
    core: Arc<Core>,
    kept: BytesMut,
    taken: usize,
    ended: bool,
    /// How much of it the current stream has got.
    sent: usize,
    finished: bool,
}

/// Why no more comes.
#[derive(Debug)]
pub(super) enum Stop {
    /// The client has reset its connection.
    Client(io::Error),
    /// The link was lost.
    Link,
}

impl Early {
    pub(super) fn new(core: Arc<Core>) -> Self {
        Self { core, kept: BytesMut::new(), taken: 0, ended: false, sent: 0, finished: false }
    }

    /// Whether the current stream has got any payload.
    pub(super) fn any_sent(&self) -> bool {
        self.sent > 0
    }

    /// A new stream, or a pod of this cluster, starts from the beginning.
    pub(super) fn restart(&mut self) {
        self.sent = 0;
        self.finished = false;
    }

    /// What the stream that was answered has yet to get. Giving it back to the budget is the end of keeping it.
    pub(super) fn into_prefix(mut self) -> Prefix {
        let mut bytes = std::mem::take(&mut self.kept);
        let rest = bytes.split_off(self.sent);
        Prefix {
            ahead: self.sent,
            bytes: if rest.is_empty() { Bytes::new() } else { rest.freeze() },
            ended: self.ended,
        }
    }

    /// Reads from the client and sends ahead, until something stops it; given up at any point, nothing is lost.
    ///
    /// A link that has been quiet for longer than usual gets nothing: what is not sent can still go elsewhere.
    pub(super) async fn pump(
        &mut self,
        client: &TcpStream,
        link: &Link,
        send: &mut SendStream,
    ) -> Stop {
        let mut state = link.watch();
        loop {
            if self.sent < self.kept.len() {
                if state.wait_for(|state| *state == LinkState::Healthy).await.is_err() {
                    return Stop::Link;
                }
                match send.write(&self.kept[self.sent..]).await {
                    Ok(count) => self.sent += count,
                    // The answer says why the other side has stopped reading.
                    Err(StreamError::Reset) => return std::future::pending().await,
                    Err(_) => return Stop::Link,
                }
            } else if self.ended {
                if !self.finished {
                    self.finished = true;
                    send.finish();
                }
                return std::future::pending().await;
            } else if let Err(error) = self.read(client).await {
                return Stop::Client(error);
            }
        }
    }

    async fn read(&mut self, client: &TcpStream) -> io::Result<()> {
        loop {
            client.readable().await?;
            let room = PIECE.min(LIMIT - self.kept.len());
            if room == 0 || !self.core.kept.take(room) {
                return std::future::pending().await;
            }
            let read = copy::read(client, room);
            let count = read.as_ref().map_or(0, Bytes::len);
            self.core.kept.give(room - count);
            match read {
                Ok(bytes) => {
                    self.ended = bytes.is_empty();
                    self.kept.extend_from_slice(&bytes);
                    self.taken += count;
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl Drop for Early {
    fn drop(&mut self) {
        self.core.kept.give(self.taken);
    }
}
