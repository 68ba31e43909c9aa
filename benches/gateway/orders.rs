//! How the clients of berlin carry out their orders, in a process of their own.

use std::{
    fs,
    io::{self, BufRead as _, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket},
    process,
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use landbridge_benches::figures::percentile;
use serde_json::{Value, json};
use socket2::SockRef;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net,
    task::JoinSet,
    time::{MissedTickBehavior, interval, timeout},
};

use super::{
    load::{Asked, Beside, Bulk, Datagrams, Entries, Order, Requests, clock},
    pods::response,
};

/// Longer than anything takes that goes well.
const PATIENCE: Duration = Duration::from_secs(15);
const CHUNK: usize = 256 << 10;
/// Connections that requests at a pace go over in turn: at 100 a second each has 200 ms for one.
const IN_TURN: usize = 20;
/// How often it is read where calls go.
const FOLLOWED: Duration = Duration::from_millis(20);
const KEEP: &[u8] = b"GET / HTTP/1.1\r\nhost: http\r\n\r\n";
const LAST: &[u8] = b"GET / HTTP/1.1\r\nhost: http\r\nconnection: close\r\n\r\n";
/// Connections that are opened at once where thousands are.
const AT_ONCE: usize = 16;
/// Flows of datagrams, and how many of each are under way: fewer than an ordinary socket has room for.
const FLOWS: usize = 4;
const UNDER_WAY: u64 = 32;
/// A datagram that is away for so long is lost.
const LOST: Duration = Duration::from_millis(300);
/// Room for datagrams that wait: what is lost is to be the carrier's loss.
const DATAGRAM_ROOM: usize = 8 << 20;

/// Carries out orders until there are no more.
#[expect(clippy::print_stdout, reason = "this is how a role talks to its benchmark")]
pub(crate) fn follow() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut held = Vec::new();
    for line in io::stdin().lock().lines() {
        let order: Order = serde_json::from_str(&line?)?;
        let said = carry_out(&runtime, order, &mut held).map_err(|error| format!("{error:#}"));
        println!("{}", serde_json::to_string(&said)?);
    }
    process::exit(0);
}

fn carry_out(
    runtime: &tokio::runtime::Runtime,
    order: Order,
    held: &mut Vec<net::TcpStream>,
) -> anyhow::Result<Value> {
    Ok(match order {
        Order::Bulk { at, streams, lasts } => json!(bulk(at, streams, lasts)?),
        Order::Requests { at, connections, lasts, keep } => {
            json!(runtime.block_on(requests(at, connections, lasts, keep))?)
        }
        Order::Hold { at, connections } => {
            *held = runtime.block_on(hold(at, connections))?;
            json!(held.len())
        }
        Order::Release => json!(std::mem::take(held).len()),
        Order::Datagrams { at, size, lasts } => json!(datagrams(at, size, lasts)?),
        Order::Ask { at, prefix, every, lasts } => {
            json!(runtime.block_on(questions(&at, &prefix, every, lasts)))
        }
        Order::Beside { bulk: from, at, every, lasts } => {
            let heavy = thread::spawn(move || bulk(from, 1, lasts));
            let requests = runtime.block_on(paced(at, every, lasts))?;
            let bulk = heavy.join().map_err(|_| anyhow::anyhow!("a stream ended"))??;
            json!(Beside { bulk, requests })
        }
    })
}

fn bulk(at: SocketAddr, streams: usize, lasts: Duration) -> anyhow::Result<Bulk> {
    let open = |_| {
        let mut stream = TcpStream::connect_timeout(&at, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(b"!")?;
        Ok(stream)
    };
    let streams: io::Result<Vec<TcpStream>> = (0..streams).map(open).collect();
    let (begun, bytes) = (Instant::now(), AtomicU64::new(0));
    thread::scope(|scope| {
        let readers: Vec<_> = streams?
            .into_iter()
            .map(|mut stream| {
                let bytes = &bytes;
                scope.spawn(move || -> anyhow::Result<()> {
                    let mut buffer = vec![0; CHUNK];
                    while begun.elapsed() < lasts {
                        let count = stream.read(&mut buffer).context("a bulk stream")?;
                        ensure!(count > 0, "a bulk stream has ended");
                        bytes.fetch_add(count as u64, Ordering::Relaxed);
                    }
                    Ok(())
                })
            })
            .collect();
        readers.into_iter().try_for_each(|reader| {
            reader.join().map_err(|_| anyhow::anyhow!("a reader has panicked"))?
        })
    })?;
    Ok(Bulk { bytes: bytes.into_inner(), seconds: begun.elapsed().as_secs_f64() })
}

async fn requests(
    at: SocketAddr,
    connections: usize,
    lasts: Duration,
    keep: bool,
) -> anyhow::Result<Requests> {
    let (begun, length) = (Instant::now(), response().len());
    let mut tasks = JoinSet::new();
    for _ in 0..connections {
        tasks.spawn(async move {
            let (mut took, mut failed, mut kept) = (Vec::new(), 0_u64, None);
            while begun.elapsed() < lasts {
                let asked = Instant::now();
                match timeout(PATIENCE, request(at, &mut kept, keep, length)).await {
                    Ok(Ok(())) => took.push(asked.elapsed().as_secs_f64() * 1e6),
                    _ => {
                        failed += 1;
                        kept = None;
                    }
                }
            }
            (took, failed)
        });
    }
    gathered(tasks, begun).await
}

async fn gathered(mut tasks: JoinSet<(Vec<f64>, u64)>, begun: Instant) -> anyhow::Result<Requests> {
    let (mut took, mut failed) = (Vec::new(), 0);
    while let Some(ended) = tasks.join_next().await {
        let (more, lost) = ended?;
        took.extend(more);
        failed += lost;
    }
    summary(&took, failed, begun.elapsed())
}

fn summary(took: &[f64], failed: u64, lasted: Duration) -> anyhow::Result<Requests> {
    let p = |percent| percentile(took, percent).context("no request has been answered");
    Ok(Requests {
        done: took.len() as u64,
        failed,
        seconds: lasted.as_secs_f64(),
        p50: p(50)?,
        p99: p(99)?,
    })
}

/// One request, on the connection that was kept or on a new one.
async fn request(
    at: SocketAddr,
    kept: &mut Option<net::TcpStream>,
    keep: bool,
    length: usize,
) -> io::Result<()> {
    let mut stream = match kept.take() {
        Some(stream) => stream,
        None => {
            let stream = net::TcpStream::connect(at).await?;
            stream.set_nodelay(true)?;
            stream
        }
    };
    stream.write_all(if keep { KEEP } else { LAST }).await?;
    let (mut buffer, mut got) = ([0; 4_096], 0);
    while got < length {
        let count = stream.read(&mut buffer).await?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        got += count;
    }
    if keep {
        *kept = Some(stream);
    } else if stream.read(&mut buffer).await? > 0 {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok(())
}

/// Requests at a pace, on so many connections in turn that none has to wait for the one before it. Each is timed from when
/// it was due.
async fn paced(at: SocketAddr, every: Duration, lasts: Duration) -> anyhow::Result<Requests> {
    let (begun, length) = (Instant::now(), response().len());
    let turn = every * u32::try_from(IN_TURN)?;
    let mut tasks = JoinSet::new();
    for place in 0..u32::try_from(IN_TURN)? {
        tasks.spawn(async move {
            let (mut took, mut failed, mut kept) = (Vec::new(), 0_u64, None);
            for number in 0_u32.. {
                let due = begun + every * place + turn * number;
                if due > begun + lasts {
                    break;
                }
                tokio::time::sleep_until(due.into()).await;
                match timeout(PATIENCE, request(at, &mut kept, true, length)).await {
                    Ok(Ok(())) => took.push(due.elapsed().as_secs_f64() * 1e6),
                    _ => {
                        failed += 1;
                        kept = None;
                    }
                }
            }
            (took, failed)
        });
    }
    gathered(tasks, begun).await
}

async fn hold(at: SocketAddr, connections: usize) -> anyhow::Result<Vec<net::TcpStream>> {
    let mut tasks = JoinSet::new();
    for worker in 0..AT_ONCE {
        let share = connections / AT_ONCE + usize::from(worker < connections % AT_ONCE);
        tasks.spawn(async move {
            let mut open = Vec::with_capacity(share);
            for _ in 0..share {
                let mut stream = net::TcpStream::connect(at).await?;
                stream.write_all(b"are you there?").await?;
                stream.read_exact(&mut [0; 14]).await?;
                open.push(stream);
            }
            io::Result::Ok(open)
        });
    }
    let mut held = Vec::with_capacity(connections);
    while let Some(ended) = tasks.join_next().await {
        held.extend(ended??);
    }
    Ok(held)
}

fn datagrams(at: SocketAddr, size: usize, lasts: Duration) -> anyhow::Result<Datagrams> {
    let begun = Instant::now();
    let flows: Vec<_> =
        (0..FLOWS).map(|_| thread::spawn(move || flow(at, size, begun, lasts))).collect();
    let mut all = Datagrams { sent: 0, back: 0, seconds: 0.0 };
    for flow in flows {
        let (sent, back) = flow.join().map_err(|_| anyhow::anyhow!("a flow has panicked"))??;
        all.sent += sent;
        all.back += back;
    }
    all.seconds = begun.elapsed().as_secs_f64();
    Ok(all)
}

/// Keeps a number of datagrams under way; what comes back after it was given up is not counted.
fn flow(at: SocketAddr, size: usize, begun: Instant, lasts: Duration) -> io::Result<(u64, u64)> {
    let any: SocketAddr = if at.is_ipv4() { ([0; 4], 0).into() } else { ([0_u16; 8], 0).into() };
    let socket = UdpSocket::bind(any)?;
    socket.connect(at)?;
    socket.set_read_timeout(Some(LOST))?;
    SockRef::from(&socket).set_recv_buffer_size(DATAGRAM_ROOM)?;
    let mut packet = vec![0; size];
    let (mut sent, mut back, mut given_up, mut under_way) = (0_u64, 0, 0, 0);
    loop {
        while under_way < UNDER_WAY && begun.elapsed() < lasts {
            packet[..8].copy_from_slice(&sent.to_be_bytes());
            socket.send(&packet)?;
            sent += 1;
            under_way += 1;
        }
        if under_way == 0 {
            return Ok((sent, back));
        }
        match socket.recv(&mut packet) {
            Ok(count) if count == size => {
                let number = packet[..8].try_into().map_or(0, u64::from_be_bytes);
                if number >= given_up {
                    back += 1;
                    under_way -= 1;
                }
            }
            Ok(_) => return Err(io::ErrorKind::InvalidData.into()),
            Err(_) => {
                given_up = sent;
                under_way = 0;
            }
        }
    }
}

async fn questions(at: &Entries, prefix: &str, every: Duration, lasts: Duration) -> Vec<Asked> {
    let begun = Instant::now();
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let (mut tasks, mut entries, mut read) = (JoinSet::new(), Vec::new(), begun);
    for number in 0_usize.. {
        ticks.tick().await;
        if begun.elapsed() > lasts {
            break;
        }
        if entries.is_empty() || read.elapsed() > FOLLOWED {
            (entries, read) = (known(at), Instant::now());
        }
        let (question, at) = (format!("{prefix}-{number}"), entries[number % entries.len()]);
        tasks.spawn(async move {
            let (begun, watch) = (clock(), Instant::now());
            let answer = timeout(PATIENCE, ask(at, &question)).await;
            let answer = answer.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
            let answer = answer.map_err(|error| error.to_string());
            Asked { begun, took: watch.elapsed().as_secs_f64(), answer }
        });
    }
    let mut asked = tasks.join_all().await;
    asked.sort_by(|one, other| one.begun.total_cmp(&other.begun));
    asked
}

/// Where calls go now. Where nothing is known, nobody is there to call.
fn known(at: &Entries) -> Vec<SocketAddr> {
    let known = match at {
        Entries::Fixed(at) => vec![*at],
        Entries::Followed(file) => {
            let lines = fs::read_to_string(file).unwrap_or_default();
            lines.lines().filter_map(|line| line.parse().ok()).collect()
        }
    };
    if known.is_empty() { vec![(Ipv4Addr::LOCALHOST, 1).into()] } else { known }
}

async fn ask(at: SocketAddr, question: &str) -> io::Result<String> {
    let mut stream = net::TcpStream::connect(at).await?;
    stream.write_all(question.as_bytes()).await?;
    stream.shutdown().await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    if answer.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(answer)
}
