//! The pods of a cluster: a process that serves all of its services until its standard input ends.

use std::{
    collections::BTreeMap,
    io::{self, BufRead as _, Read as _, Write as _},
    net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket},
    process,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use landbridge_benches::child::Child;
use landbridge_xtask::space::Space;
use socket2::SockRef;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::ground::{ASK, BULK, DATAGRAMS, ECHO, HTTP};

pub(crate) const ROLE: &str = "pods";
/// What an HTTP request gets, besides a header.
const BODY: usize = 1_024;
/// Room for datagrams that wait: what is lost is to be the carrier's loss.
const DATAGRAM_ROOM: usize = 8 << 20;
const CHUNK: usize = 256 << 10;

/// What a request is answered with.
pub(crate) fn response() -> Vec<u8> {
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {BODY}\r\n\r\n");
    [head.into_bytes(), vec![b'x'; BODY]].concat()
}

/// Pods that run.
pub(crate) struct Pods(Child);

impl Pods {
    /// The pods of the cluster `name`, in its namespace.
    pub(crate) fn start(space: &Space, name: &str) -> anyhow::Result<Self> {
        let command = space.command(&std::env::current_exe()?);
        let mut child = Child::own_by(command, &[ROLE, name])?;
        child.line()?;
        Ok(Self(child))
    }

    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }

    /// What [`ASK`] was asked since the last time, and how often.
    pub(crate) fn heard(&mut self) -> anyhow::Result<BTreeMap<String, u32>> {
        self.0.tell("heard")?;
        Ok(serde_json::from_str(&self.0.line()?)?)
    }
}

type Heard = Arc<Mutex<BTreeMap<String, u32>>>;

/// Serves in this role.
#[expect(clippy::print_stdout, reason = "this is how a role talks to its benchmark")]
pub(crate) fn serve(name: &str) -> anyhow::Result<()> {
    let listen = |port| TcpListener::bind((Ipv4Addr::UNSPECIFIED, port));
    let heard = Heard::default();
    let (bulk, ask) = (listen(BULK.target)?, listen(ASK.target)?);
    let (http, echo) = (listen(HTTP.target)?, listen(ECHO.target)?);
    let datagrams = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, DATAGRAMS.target))?;
    SockRef::from(&datagrams).set_recv_buffer_size(DATAGRAM_ROOM)?;
    thread::spawn(move || each(&bulk, send));
    thread::spawn(move || send_back(&datagrams));
    let (name, writes) = (name.to_owned(), Arc::clone(&heard));
    thread::spawn(move || {
        each(&ask, move |stream| answer(stream, &name, &writes));
    });
    thread::spawn(move || many(http, echo));
    println!("serving");
    for line in io::stdin().lock().lines() {
        if line? == "heard" {
            let heard = std::mem::take(&mut *heard.lock().unwrap_or_else(PoisonError::into_inner));
            println!("{}", serde_json::to_string(&heard)?);
        }
    }
    process::exit(0);
}

/// A thread for each connection.
fn each(listener: &TcpListener, serve: impl Fn(TcpStream) + Clone + Send + 'static) {
    for stream in listener.incoming().map_while(Result::ok) {
        let serve = serve.clone();
        thread::spawn(move || serve(stream));
    }
}

/// Sends for as long as the other end reads, once it has said something.
fn send(mut stream: TcpStream) {
    let chunk = vec![b'x'; CHUNK];
    if stream.read_exact(&mut [0]).is_ok() {
        while stream.write_all(&chunk).is_ok() {}
    }
}

/// Reads a question to its end, writes it down, and answers.
fn answer(mut stream: TcpStream, name: &str, heard: &Heard) {
    let mut question = String::new();
    // Somebody who vanishes in the middle of a question has asked nothing.
    let _ = stream.set_read_timeout(Some(Duration::from_secs(10)));
    if stream.read_to_string(&mut question).is_ok() && !question.is_empty() {
        let mut heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
        *heard.entry(question).or_default() += 1;
        drop(heard);
        let _ = stream.write_all(name.as_bytes());
    }
}

fn send_back(socket: &UdpSocket) {
    let mut buffer = [0; 2_048];
    loop {
        // An address that cannot be reached any more tells itself by an error.
        if let Ok((count, from)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(&buffer[..count], from);
        }
    }
}

/// What has many connections shares one thread: this is not what is measured.
fn many(http: TcpListener, echo: TcpListener) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async move {
        let own = |listener: TcpListener| {
            listener.set_nonblocking(true)?;
            tokio::net::TcpListener::from_std(listener)
        };
        let (http, echo) = (own(http)?, own(echo)?);
        let response: Arc<[u8]> = response().into();
        loop {
            tokio::select! {
                Ok((stream, _)) = http.accept() => {
                    tokio::spawn(respond(stream, Arc::clone(&response)));
                }
                Ok((stream, _)) = echo.accept() => {
                    tokio::spawn(echoes(stream));
                }
            }
        }
    })
}

/// Answers requests, one after the other; one that asks for the end gets it after its answer.
async fn respond(mut stream: tokio::net::TcpStream, response: Arc<[u8]>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = Vec::with_capacity(1_024);
    loop {
        while !buffer.ends_with(b"\r\n\r\n") {
            if stream.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        }
        let is_last = buffer.windows(6).any(|window| window == b"close\r");
        buffer.clear();
        stream.write_all(&response).await?;
        if is_last {
            return stream.shutdown().await;
        }
    }
}

async fn echoes(mut stream: tokio::net::TcpStream) -> io::Result<()> {
    let mut buffer = [0; 64];
    loop {
        let count = stream.read(&mut buffer).await?;
        if count == 0 {
            return Ok(());
        }
        stream.write_all(&buffer[..count]).await?;
    }
}
