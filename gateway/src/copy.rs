//! A TCP connection and a stream, joined: bytes, half-closes and resets go through as they came.
//!
//! Back-pressure is that of the two ends: nothing is read that cannot be written. An idle connection holds no buffer.

use std::{
    cell::RefCell,
    future::poll_fn,
    io::{self, IoSlice},
    net::Shutdown,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Poll, ready},
    time::Duration,
};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prometheus_client::metrics::counter::Counter;
use socket2::{SockRef, TcpKeepalive};
use thiserror::Error;
use tokio::{
    io::AsyncReadExt as _,
    net::{TcpStream, tcp::ReadHalf},
};

use crate::{
    open::Tally,
    transport::{RecvStream, SendStream, StreamError},
};

/// What one read may bring: as much as a socket of usual size holds. With the nine bytes that HTTP/2 puts before them they
/// fill four TLS records.
const READ_MOST: usize = (64 << 10) - 9;
/// What has come is copied where it is less: it may wait long for its turn, and must not hold a whole buffer meanwhile.
const SMALL: usize = READ_MOST / 2;
/// Chunks that are written in one call. A chunk is what one datagram brought.
const CHUNKS: usize = 32;
/// A connection whose other end has vanished without a word is found out after about two minutes.
const KEEP_ALIVE: Duration = Duration::from_secs(60);
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(15);

thread_local! {
    /// Belongs to a worker, not to a connection.
    static READ: RefCell<BytesMut> = RefCell::new(BytesMut::new());
}

/// Why two ends were parted.
#[derive(Debug, Error)]
pub(crate) enum CopyError {
    /// The stream, or the link below it.
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// The TCP connection.
    #[error(transparent)]
    Tcp(#[from] io::Error),
}

/// Payload, counted in each direction.
#[derive(Clone, Debug)]
pub(crate) struct Counters {
    /// From the TCP connection to the stream.
    pub(crate) sent: Counter,
    /// From the stream to the TCP connection.
    pub(crate) received: Counter,
    /// The same of this connection alone.
    pub(crate) tally: Arc<Tally>,
}

/// What has already come from the TCP connection.
#[derive(Debug, Default)]
pub(crate) struct Prefix {
    /// How many bytes the stream has got already.
    pub(crate) ahead: usize,
    /// Bytes that the stream has yet to get.
    pub(crate) bytes: Bytes,
    /// Whether nothing more will come.
    pub(crate) ended: bool,
}

/// The counter of a peer, and of one connection.
type Counts<'a> = (&'a Counter, &'a AtomicU64);

/// Carries both directions until both have ended. The stream that comes back has got all, and its other end may not
/// have it yet.
///
/// # Errors
/// Why they did not end well. The caller resets the TCP connection; the stream is reset with this call.
pub(crate) async fn both(
    tcp: &mut TcpStream,
    send: SendStream,
    recv: RecvStream,
    prefix: Prefix,
    counters: &Counters,
) -> Result<SendStream, CopyError> {
    let (read, write) = tcp.split();
    let up = up(read, send, prefix, (&counters.sent, &counters.tally.sent));
    let down = down(write.as_ref(), recv, (&counters.received, &counters.tally.received));
    tokio::try_join!(up, down).map(|(send, ())| send)
}

async fn up(
    mut tcp: ReadHalf<'_>,
    mut send: SendStream,
    prefix: Prefix,
    (counter, own): Counts<'_>,
) -> Result<SendStream, CopyError> {
    let taken = (prefix.ahead + prefix.bytes.len()) as u64;
    counter.inc_by(taken);
    own.fetch_add(taken, Ordering::Relaxed);
    if !prefix.bytes.is_empty() {
        send.write_chunk(prefix.bytes).await?;
    }
    let mut ended = prefix.ended;
    while !ended {
        let bytes = next(&mut tcp).await?;
        if bytes.is_empty() {
            ended = true;
        } else {
            counter.inc_by(bytes.len() as u64);
            own.fetch_add(bytes.len() as u64, Ordering::Relaxed);
            send.write_chunk(bytes).await?;
            tokio::task::coop::consume_budget().await;
        }
    }
    send.finish();
    Ok(send)
}

/// Reads what comes next, at most [`READ_MOST`] bytes; none at the end. Where less has come than there is room for, that
/// was all, which the runtime then knows without asking once more.
async fn next(tcp: &mut ReadHalf<'_>) -> io::Result<Bytes> {
    poll_fn(|context| {
        READ.with_borrow_mut(|buffer| {
            buffer.reserve(READ_MOST);
            let mut room = (&mut *buffer).limit(READ_MOST);
            let count = ready!(pin!(tcp.read_buf(&mut room)).poll(context))?;
            Poll::Ready(Ok(take(buffer, count)))
        })
    })
    .await
}

/// Reads what is there, at most `most` bytes; none at the end.
pub(crate) fn read(tcp: &TcpStream, most: usize) -> io::Result<Bytes> {
    READ.with_borrow_mut(|buffer| {
        buffer.reserve(READ_MOST);
        let count = tcp.try_read_buf(&mut (&mut *buffer).limit(most.min(READ_MOST)))?;
        Ok(take(buffer, count))
    })
}

/// The `count` bytes that were read into a buffer.
fn take(buffer: &mut BytesMut, count: usize) -> Bytes {
    if count >= SMALL {
        return buffer.split().freeze();
    }
    let bytes = Bytes::copy_from_slice(buffer);
    buffer.clear();
    bytes
}

async fn down(
    tcp: &TcpStream,
    mut recv: RecvStream,
    (counter, own): Counts<'_>,
) -> Result<(), CopyError> {
    let mut chunks: [Bytes; CHUNKS] = std::array::from_fn(|_| Bytes::new());
    while let Some(count) = recv.read_chunks(&mut chunks).await? {
        let bytes: usize = chunks[..count].iter().map(Bytes::len).sum();
        write(tcp, &mut chunks[..count]).await?;
        counter.inc_by(bytes as u64);
        own.fetch_add(bytes as u64, Ordering::Relaxed);
        tokio::task::coop::consume_budget().await;
    }
    // A client that has gone meanwhile needs no end.
    let _ = SockRef::from(tcp).shutdown(Shutdown::Write);
    Ok(())
}

/// Writes all chunks and leaves them empty.
async fn write(tcp: &TcpStream, chunks: &mut [Bytes]) -> io::Result<()> {
    let mut first = 0;
    while first < chunks.len() {
        let written = {
            let mut slices = [IoSlice::new(&[]); CHUNKS];
            for (slice, chunk) in slices.iter_mut().zip(&chunks[first..]) {
                *slice = IoSlice::new(chunk);
            }
            tcp.try_write_vectored(&slices[..chunks.len() - first])
        };
        match written {
            Ok(mut written) => {
                while first < chunks.len() && written >= chunks[first].len() {
                    written -= chunks[first].len();
                    chunks[first] = Bytes::new();
                    first += 1;
                }
                if first < chunks.len() {
                    chunks[first].advance(written);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => tcp.writable().await?,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Sets what every TCP connection of a gateway needs: bytes go at once, and a vanished other end is noticed.
pub(crate) fn prepare(tcp: &TcpStream) {
    let keep_alive = TcpKeepalive::new().with_time(KEEP_ALIVE).with_interval(KEEP_ALIVE_INTERVAL);
    // Without either of them a connection works all the same.
    let _ = tcp.set_nodelay(true);
    let _ = SockRef::from(tcp).set_tcp_keepalive(&keep_alive);
}

/// Ends a TCP connection so that its other end sees a reset.
pub(crate) fn reset(tcp: TcpStream) {
    let _ = SockRef::from(&tcp).set_linger(Some(Duration::ZERO));
    drop(tcp);
}

/// Joins two TCP connections of this cluster, the client's and a pod's.
///
/// # Errors
/// Why they did not end well. The caller resets both.
pub(crate) async fn local(
    client: &TcpStream,
    pod: &TcpStream,
    prefix: Prefix,
    tally: &Tally,
) -> io::Result<()> {
    tally.sent.fetch_add(prefix.bytes.len() as u64, Ordering::Relaxed);
    write(pod, &mut [prefix.bytes]).await?;
    // A client that has ended is found to have ended again.
    tokio::try_join!(pass(client, pod, &tally.sent), pass(pod, client, &tally.received)).map(drop)
}

async fn pass(from: &TcpStream, to: &TcpStream, count: &AtomicU64) -> io::Result<()> {
    loop {
        match read(from, READ_MOST) {
            Ok(bytes) if bytes.is_empty() => break,
            Ok(bytes) => {
                count.fetch_add(bytes.len() as u64, Ordering::Relaxed);
                write(to, &mut [bytes]).await?;
                tokio::task::coop::consume_budget().await;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => from.readable().await?,
            Err(error) => return Err(error),
        }
    }
    // One that has gone meanwhile needs no end.
    let _ = SockRef::from(to).shutdown(Shutdown::Write);
    Ok(())
}
