//! Queries over TCP (RFC 7766): one connection, any number of queries, sent without waiting for answers.
//!
//! Answering from the zone takes no time worth mentioning, so such queries are answered in the order in which they come,
//! and all that came in one segment go back in one write. What others are asked for comes when it comes; nothing waits
//! for it. An idle connection holds no buffer.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    time::Duration,
};

use futures::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{
    io::AsyncWriteExt,
    net::TcpStream,
    time::{Instant, timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;

use crate::{
    answer::{Asked, Outcome, Transport, respond},
    forward::Forwarded,
    metrics::Unanswered,
    querylog::Sampler,
    server::{Served, seconds},
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
/// How many queries of a connection others are asked for at a time; more are not read until one is answered.
const MAX_ASKING: usize = 32;
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
    stream: TcpStream,
    from: SocketAddr,
    served: &Served,
    idle: Duration,
    stop: &CancellationToken,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let connection = Connection {
        asking: FuturesUnordered::new(),
        deadline: Instant::now() + idle,
        from,
        idle,
        inbox: Vec::new(),
        log: Sampler::new(served.log_one_in),
        out: Vec::new(),
        served,
        stream,
        turn: Turn::default(),
    };
    connection.run(stop).await
}

/// What there is to do next.
enum Next {
    /// Send what another has answered.
    Answer(Forwarded),
    /// Nothing: the client has been idle for too long.
    Idle,
    /// Read, for the last time perhaps.
    Read { last: bool },
}

enum Received {
    /// The client will send no more.
    Closed,
    Nothing,
    Some,
}

struct Connection<'a> {
    asking: FuturesUnordered<BoxFuture<'a, Forwarded>>,
    deadline: Instant,
    from: SocketAddr,
    idle: Duration,
    inbox: Vec<u8>,
    log: Sampler,
    out: Vec<u8>,
    served: &'a Served,
    stream: TcpStream,
    turn: Turn,
}

impl Connection<'_> {
    async fn run(mut self, stop: &CancellationToken) -> io::Result<()> {
        let mut last_chunks = 0..LAST_CHUNKS;
        loop {
            let last = match self.next(stop).await? {
                Next::Answer(answered) => {
                    self.take(answered);
                    self.send().await?;
                    continue;
                }
                Next::Idle => break,
                Next::Read { last } => last,
            };
            let received = self.receive()?;
            if !self.answer_all().await? {
                return Ok(());
            }
            let done = match received {
                Received::Closed => true,
                Received::Nothing => last,
                Received::Some => last && last_chunks.next().is_none(),
            };
            if done {
                break;
            }
            if self.inbox.is_empty() {
                (self.inbox, self.out) = (Vec::new(), Vec::new());
            }
        }
        // A client that sends no more may still wait for what others are asked for.
        while let Some(answered) = self.asking.next().await {
            self.take(answered);
            self.send().await?;
        }
        Ok(())
    }

    async fn next(&mut self, stop: &CancellationToken) -> io::Result<Next> {
        tokio::select! {
            biased;
            () = stop.cancelled() => {
                let readable = timeout(LAST_WAIT, self.stream.readable()).await;
                readable.unwrap_or(Ok(()))?;
                Ok(Next::Read { last: true })
            }
            Some(answered) = self.asking.next() => Ok(Next::Answer(answered)),
            readable = timeout_at(self.deadline, self.stream.readable()), if self.asking.len() < MAX_ASKING => {
                match readable {
                    Ok(readable) => readable.map(|()| Next::Read { last: false }),
                    Err(_) => Ok(Next::Idle),
                }
            }
        }
    }

    /// Takes what has come; at most one chunk, so that one busy client does not keep others waiting.
    fn receive(&mut self) -> io::Result<Received> {
        let mut chunk = [0; CHUNK];
        match self.stream.try_read(&mut chunk) {
            Ok(0) => Ok(Received::Closed),
            Ok(length) => {
                self.inbox.extend_from_slice(&chunk[..length]);
                Ok(Received::Some)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Received::Nothing),
            Err(error) => Err(error),
        }
    }

    /// Answers every query that is complete. False where something came that is none.
    async fn answer_all(&mut self) -> io::Result<bool> {
        let began = std::time::Instant::now();
        let inbox = std::mem::take(&mut self.inbox);
        let (mut taken, mut answered) = (0, 0);
        while let Some(query) = frame(&inbox[taken..]) {
            taken += 2 + query.len();
            answered += 1;
            if self.answer(query) == Outcome::Short {
                return Ok(false);
            }
            if self.out.len() >= FLUSH {
                self.send().await?;
            }
        }
        self.inbox = inbox;
        if taken > 0 {
            self.inbox.drain(..taken);
            self.deadline = Instant::now() + self.idle;
            self.send().await?;
            self.served.metrics.took(Transport::Tcp, began.elapsed(), answered);
        }
        Ok(true)
    }

    fn answer(&mut self, query: &[u8]) -> Outcome {
        let served = self.served;
        let snapshot = served.current.snapshot.load();
        let asked = Asked {
            now: seconds(),
            rules: &served.rules,
            snapshot: &snapshot,
            source: self.from.ip(),
            transport: Transport::Tcp,
            turn: self.turn.next(),
        };
        let mut message = Vec::new();
        let outcome = respond(query, asked, &mut message);
        self.log.note(query, outcome, self.from, Transport::Tcp);
        if outcome == Outcome::Elsewhere
            && let Some(forwarder) = &served.forwarder
        {
            let query = query.to_vec();
            self.asking
                .push(Box::pin(async move { forwarder.answer(&query, Transport::Tcp).await }));
        }
        served.metrics.count(outcome, Transport::Tcp, 1);
        self.push(&message);
        outcome
    }

    /// Takes the answer of another.
    fn take(&mut self, answered: Forwarded) {
        if let Some((message, outcome)) = answered {
            self.served.metrics.count(outcome, Transport::Tcp, 1);
            self.push(&message);
        }
    }

    /// Puts a message where [`Self::send`] finds it. It is never larger than what its length can tell; nothing is sent
    /// of one that is empty.
    fn push(&mut self, message: &[u8]) {
        if let Ok(length @ 1..) = u16::try_from(message.len()) {
            self.out.extend_from_slice(&length.to_be_bytes());
            self.out.extend_from_slice(message);
        }
    }

    async fn send(&mut self) -> io::Result<()> {
        let write = self.stream.write_all(&self.out);
        let sent = timeout(WRITE, write).await.map_err(io::Error::from).flatten();
        self.out.clear();
        if sent.is_err() {
            self.served.metrics.dropped(Unanswered::Send);
        }
        sent
    }
}

/// The first query of `bytes`, once it is complete: two octets of length, then the message (RFC 1035 section 4.2.2).
fn frame(bytes: &[u8]) -> Option<&[u8]> {
    let (length, rest) = bytes.split_first_chunk()?;
    rest.get(..usize::from(u16::from_be_bytes(*length)))
}
