//! This benchmark in the role of a server.

use std::{
    io,
    net::SocketAddr,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    process,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, anyhow, bail};
use hickory_server::{
    Server,
    proto::rr::Name,
    store::file::{FileConfig, FileZoneHandler},
    zone_handler::{AxfrPolicy, Catalog, ZoneType},
};
use kube::{
    Client,
    config::{KubeConfigOptions, Kubeconfig},
};
use landbridge_dns::{Config, DnsServer};
use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;

use super::scene::ZONE;

/// Landbridge, with one thread for UDP.
pub(crate) const OURS: &str = "landbridge";
/// hickory-server, with a zone in memory.
pub(crate) const HICKORY: &str = "hickory-server";
/// What sends every packet back.
pub(crate) const REFLECTOR: &str = "reflector";

/// Serves in the role that `role` says: who, where, and from which file. Says `ready` when it does.
pub(crate) async fn serve(role: &[String]) -> anyhow::Result<()> {
    let [who, listen, file] = role else {
        bail!("a server is told who it is, where it listens and which file it reads");
    };
    std::thread::spawn(|| {
        // Whoever measures us has gone.
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        process::exit(0);
    });
    let listen: SocketAddr = listen.parse()?;
    match who.as_str() {
        OURS => ours(listen, Path::new(file)).await,
        HICKORY => hickory(listen, file.into()).await,
        REFLECTOR => reflect(listen),
        other => bail!("nobody is called {other}"),
    }
}

async fn ours(listen: SocketAddr, kubeconfig: &Path) -> anyhow::Result<()> {
    let config =
        Config { listen: vec![listen], workers: NonZeroUsize::new(1), ..Config::default() };
    let kubeconfig = Kubeconfig::read_from(kubeconfig)?;
    let access =
        kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    let server =
        DnsServer::bind(config, Client::try_from(access)?, &mut Registry::default()).await?;
    let handle = server.handle();
    let ready = async {
        while !handle.is_ready() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        println!("ready");
        std::future::pending::<()>().await;
    };
    tokio::select! {
        ended = server.run(CancellationToken::new()) => ended.context("the server has ended"),
        () = ready => Ok(()),
    }
}

async fn hickory(listen: SocketAddr, zone_path: PathBuf) -> anyhow::Result<()> {
    let origin = Name::from_ascii(format!("{ZONE}."))?;
    let zone = FileZoneHandler::try_from_config(
        origin.clone(),
        ZoneType::Primary,
        AxfrPolicy::Deny,
        None,
        &FileConfig { zone_path },
    );
    let mut catalog = Catalog::new();
    catalog.upsert(origin.into(), vec![Arc::new(zone.map_err(|problem| anyhow!(problem))?)]);
    let mut server = Server::new(catalog);
    server.register_socket(tokio::net::UdpSocket::bind(listen).await?);
    println!("ready");
    Ok(server.block_until_done().await?)
}

/// Receives and sends as our server does, and does nothing in between but to say that it is an answer.
#[cfg(target_os = "linux")]
fn reflect(listen: SocketAddr) -> anyhow::Result<()> {
    use std::{
        array,
        io::{IoSlice, IoSliceMut},
        os::fd::AsRawFd as _,
    };

    use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrIn, recvmmsg, sendmmsg};

    const BATCH: usize = 32;
    let socket = std::net::UdpSocket::bind(listen)?;
    let mut packets = vec![[0_u8; 4096]; BATCH];
    let mut queries = MultiHeaders::<SockaddrIn>::preallocate(BATCH, None);
    let mut answers = MultiHeaders::<SockaddrIn>::preallocate(BATCH, None);
    println!("ready");
    loop {
        let (mut lengths, mut from, mut count) = ([0; BATCH], [None; BATCH], 0);
        let mut rooms = packets.iter_mut();
        let mut room: [[IoSliceMut<'_>; 1]; BATCH] = array::from_fn(|_| {
            [IoSliceMut::new(rooms.next().map_or(&mut [], |packet| &mut packet[..]))]
        });
        let flags = MsgFlags::MSG_WAITFORONE;
        let received = recvmmsg(socket.as_raw_fd(), &mut queries, room.iter_mut(), flags, None)?;
        for message in received {
            (lengths[count], from[count]) = (message.bytes, message.address);
            count += 1;
        }
        for packet in &mut packets[..count] {
            packet[2] |= 0x80;
        }
        let out: [[IoSlice<'_>; 1]; BATCH] =
            array::from_fn(|at| [IoSlice::new(&packets[at][..lengths[at]])]);
        let flags = MsgFlags::empty();
        sendmmsg(socket.as_raw_fd(), &mut answers, out.iter(), &from[..count], [], flags)?;
    }
}

#[cfg(not(target_os = "linux"))]
fn reflect(_: SocketAddr) -> anyhow::Result<()> {
    bail!("recvmmsg is Linux's")
}
