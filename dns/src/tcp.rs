//! Queries over TCP (RFC 7766): one connection, any number of queries, sent without waiting for answers.
//!
//! Answering takes no time worth mentioning, so queries are answered in the order in which they come, and all that
//! came in one segment go back in one write. An idle connection holds no buffer.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    time::Duration,
};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::{
    io::AsyncWriteExt,
    net::TcpStream,
    time::{Instant, timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;

use crate::{
    answer::{Outcome, Transport, respond},
    metrics::Unanswered,
    server::Served,
    udp::Turn,
};

/// How long a connection may go without a complete query (RFC 7766 section 6.2.3: "on the order of a few seconds"
/// at least, more where there is room).
pub(crate) const IDLE: Duration = Duration::from_secs(30);
/// The same where more than half of the connections that there may be are in use.
pub(crate) const IDLE_CROWDED: Duration = Duration::from_secs(2);
/// How long a client may take to receive an answer.
const WRITE: Duration = Duration::from_secs(5);
/// How much is read at once: some eighty queries of usual size.
const CHUNK: usize = 4_096;
/// When answers are sent before more queries are answered: one of the largest is always among what is held.
const FLUSH: usize = 65_536;
/// How many chunks are still answered after the end was called for: what a client can have sent ahead without
/// being slow, and no more, so that a busy one cannot keep the server from ending.
const LAST_CHUNKS: usize = 64;
/// How long a query that is on its way is waited for then.
const LAST_WAIT: Duration = Duration::from_millis(20);
/// Connections that wait for being accepted.
const BACKLOG: i32 = 1_024;

/// Binds and listens. Nobody else can listen there, so a second server on the same port is found out here, although
/// the UDP sockets could share.
pub(crate) fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // Connections of a server that has just ended do not keep the next one from starting.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Serves one connection until its client ends it, is idle for longer than `idle`, or sends what is no query; or
/// until `stop`, after having answered what was received.
pub(crate) async fn serve(
    mut stream: TcpStream,
    served: &Served,
    idle: Duration,
    stop: &CancellationToken,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (mut inbox, mut out) = (Vec::new(), Vec::new());
    let mut turn = Turn::default();
    let mut deadline = Instant::now() + idle;
    let mut last_chunks = 0..LAST_CHUNKS;
    loop {
        let last = tokio::select! {
            biased;
            () = stop.cancelled() => {
                let readable = timeout(LAST_WAIT, stream.readable()).await;
                readable.unwrap_or(Ok(()))?;
                true
            }
            readable = timeout_at(deadline, stream.readable()) => match readable {
                Ok(readable) => { readable?; false }
                Err(_) => return Ok(()),
            },
        };
        let received = receive(&stream, &mut inbox)?;
        let mut taken = 0;
        while let Some(query) = frame(&inbox[taken..]) {
            taken += 2 + query.len();
            let outcome = answer(query, served, turn.next(), &mut out);
            if outcome == Outcome::Short {
                return Ok(());
            }
            if out.len() >= FLUSH {
                send(&mut stream, served, &mut out).await?;
            }
        }
        if taken > 0 {
            inbox.drain(..taken);
            deadline = Instant::now() + idle;
            send(&mut stream, served, &mut out).await?;
        }
        let done = match received {
            Received::Closed => true,
            Received::Nothing => last,
            Received::Some => last && last_chunks.next().is_none(),
        };
        if done {
            return Ok(());
        }
        if inbox.is_empty() {
            (inbox, out) = (Vec::new(), Vec::new());
        }
    }
}

enum Received {
    /// The client will send no more.
    Closed,
    Nothing,
    Some,
}

/// Takes what has come; at most one chunk, so that one busy client does not keep others waiting.
fn receive(stream: &TcpStream, inbox: &mut Vec<u8>) -> io::Result<Received> {
    let mut chunk = [0; CHUNK];
    match stream.try_read(&mut chunk) {
        Ok(0) => Ok(Received::Closed),
        Ok(length) => {
            inbox.extend_from_slice(&chunk[..length]);
            Ok(Received::Some)
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Received::Nothing),
        Err(error) => Err(error),
    }
}

/// The first query of `bytes`, once it is complete: two octets of length, then the message (RFC 1035 section 4.2.2).
fn frame(bytes: &[u8]) -> Option<&[u8]> {
    let (length, rest) = bytes.split_first_chunk()?;
    rest.get(..usize::from(u16::from_be_bytes(*length)))
}

fn answer(query: &[u8], served: &Served, turn: usize, out: &mut Vec<u8>) -> Outcome {
    let mut message = Vec::new();
    let snapshot = served.current.snapshot.load();
    let outcome = respond(query, &snapshot, Transport::Tcp, turn, &mut message);
    served.metrics.count(outcome, Transport::Tcp);
    // An answer is never larger than what its length can tell; nothing is sent of one that is empty.
    if let (Ok(length @ 1..), false) = (u16::try_from(message.len()), message.is_empty()) {
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(&message);
    }
    outcome
}

async fn send(stream: &mut TcpStream, served: &Served, out: &mut Vec<u8>) -> io::Result<()> {
    let sent = timeout(WRITE, stream.write_all(out)).await.map_err(io::Error::from).flatten();
    out.clear();
    if sent.is_err() {
        served.metrics.dropped(Unanswered::Send);
    }
    sent
}
