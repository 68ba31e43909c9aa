//! The end of `landbridge verify` that answers: over TCP and UDP, with the name of its cluster.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use anyhow::{Context, Result};
use futures::{StreamExt, stream};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
    time::{sleep, timeout},
};

use super::{MAX_QUESTION, answer};

/// How many are answered at the same time: some clusters call, each a few times.
const AT_ONCE: usize = 64;
/// How long whoever connects may take to ask. A kubelet that only looks says nothing.
const PATIENCE: Duration = Duration::from_secs(5);
/// After a connection could not be taken, for want of descriptors above all.
const PAUSE: Duration = Duration::from_millis(50);

/// What listens.
pub(crate) struct Server {
    tcp: TcpListener,
    udp: UdpSocket,
}

impl Server {
    /// On every address of the pod, of both families where there are both.
    ///
    /// # Errors
    /// As the operating system has it.
    pub(crate) async fn bind(port: u16) -> Result<Self> {
        let all: [SocketAddr; 2] =
            [(Ipv6Addr::UNSPECIFIED, port).into(), (Ipv4Addr::UNSPECIFIED, port).into()];
        let tcp = TcpListener::bind(&all[..]).await.context("TCP")?;
        // Port 0 is chosen once, for both.
        let at = tcp.local_addr().context("TCP")?;
        let udp = UdpSocket::bind(at).await.context("UDP")?;
        Ok(Self { tcp, udp })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// As the operating system has it.
    pub(crate) fn port(&self) -> io::Result<u16> {
        Ok(self.tcp.local_addr()?.port())
    }

    /// Answers for `cluster` until it is dropped.
    pub(crate) async fn run(self, cluster: &str) {
        let Self { tcp, udp } = self;
        let connections = stream::unfold(tcp, async |tcp| {
            loop {
                match tcp.accept().await {
                    Ok((connection, _)) => return Some((connection, tcp)),
                    Err(_) => sleep(PAUSE).await,
                }
            }
        });
        let connections = connections.for_each_concurrent(AT_ONCE, async |connection| {
            // Whoever goes away has no answer.
            let _ = timeout(PATIENCE, connected(cluster, connection)).await;
        });
        tokio::join!(connections, datagrams(cluster, &udp));
    }
}

async fn connected(cluster: &str, mut connection: TcpStream) -> io::Result<()> {
    let mut question = Vec::new();
    let mut buffer = [0; MAX_QUESTION];
    while !question.ends_with(b"\n") && question.len() < MAX_QUESTION {
        let read = connection.read(&mut buffer).await?;
        if read == 0 {
            break;
        }
        question.extend_from_slice(&buffer[..read]);
    }
    if let Some(text) = answer(cluster, &question) {
        connection.write_all(text.as_bytes()).await?;
    }
    connection.shutdown().await
}

async fn datagrams(cluster: &str, udp: &UdpSocket) {
    let mut buffer = [0; MAX_QUESTION + 1];
    loop {
        match udp.recv_from(&mut buffer).await {
            Ok((length, from)) => {
                if let Some(text) = answer(cluster, &buffer[..length]) {
                    // One that is lost is asked for again.
                    let _ = udp.send_to(text.as_bytes(), from).await;
                }
            }
            Err(_) => sleep(PAUSE).await,
        }
    }
}
