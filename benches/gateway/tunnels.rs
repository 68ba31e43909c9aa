//! A WireGuard tunnel between berlin and paris, whose ends are processes: it stands for the kernel's, which is not in
//! every kernel.

use std::{
    fs::File,
    io::Write as _,
    net::Ipv4Addr,
    path::Path,
    process::{self, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use landbridge_benches::child::Child;
use landbridge_xtask::{programs::crates::Crate, space::Space};

use super::{
    ground::{BERLIN, Ground, PARIS},
    pki::text,
};

/// Where the pods of paris are reached through the tunnel.
pub(crate) const INSIDE: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 2);
const PORT: u16 = 51_820;
/// What WireGuard takes of each packet, IPv6 outside included.
const MTU: &str = "1420";
const START: Duration = Duration::from_secs(10);

/// One end.
struct End<'a> {
    space: &'a Space,
    /// Its interface; its socket is in a folder that all namespaces share.
    interface: String,
    inside: Ipv4Addr,
    outside: Ipv4Addr,
    key: String,
}

/// Both ends; none where there is no `wg` or the program cannot be had.
pub(crate) fn start(ground: &Ground, program: Crate) -> anyhow::Result<Option<Vec<Child>>> {
    let Ok(path) = program.pinned() else {
        return Ok(None);
    };
    let Ok(keys) = [(); 2].map(|()| wg(&["genkey"], "")).into_iter().collect::<Result<Vec<_>, _>>()
    else {
        return Ok(None);
    };
    let end = |space, name: &str, inside, outside, key: &String| End {
        space,
        interface: format!("lb{name}{}", process::id()),
        inside,
        outside,
        key: key.clone(),
    };
    let ends = [
        end(&ground.berlin, "b", Ipv4Addr::new(10, 99, 0, 1), BERLIN, &keys[0]),
        end(&ground.paris, "p", INSIDE, PARIS, &keys[1]),
    ];
    let folder = ground.folder.path();
    let mut children = Vec::new();
    for (own, other) in [(&ends[0], &ends[1]), (&ends[1], &ends[0])] {
        children.push(own.start(&path, program, folder)?);
        own.join(other, folder)?;
    }
    Ok(Some(children))
}

impl End<'_> {
    fn start(&self, path: &Path, program: Crate, folder: &Path) -> anyhow::Result<Child> {
        let log = File::create(folder.join(format!("{}-{}.log", program.program, self.interface)))?;
        let mut command = self.space.command(path);
        command
            .args([
                "--foreground",
                "--disable-drop-privileges",
                "--verbosity=error",
                &self.interface,
            ])
            .stderr(log);
        let child = Child::start(&mut command)?;
        let begun = Instant::now();
        while self.space.ip(&["link", "show", &self.interface]).is_err() {
            ensure!(begun.elapsed() < START, "{} makes no interface", program.program);
            thread::sleep(Duration::from_millis(20));
        }
        Ok(child)
    }

    fn join(&self, other: &Self, folder: &Path) -> anyhow::Result<()> {
        let settings = folder.join(format!("{}.conf", self.interface));
        let public = wg(&["pubkey"], &other.key)?;
        std::fs::write(
            &settings,
            format!(
                "[Interface]\nPrivateKey = {}\nListenPort = {PORT}\n[Peer]\nPublicKey = {public}\n\
                 AllowedIPs = {}/32\nEndpoint = {}:{PORT}\n",
                self.key, other.inside, other.outside
            ),
        )?;
        let begun = Instant::now();
        // Its socket may come after its interface.
        while let Err(error) =
            self.space.exec(&["wg", "setconf", &self.interface, &text(&settings)])
        {
            ensure!(begun.elapsed() < START, "{error}");
            thread::sleep(Duration::from_millis(20));
        }
        let interface = self.interface.as_str();
        self.space.ip(&["address", "add", &format!("{}/24", self.inside), "dev", interface])?;
        self.space.ip(&["link", "set", interface, "mtu", MTU, "up"])?;
        Ok(())
    }
}

/// What `wg` says to some input.
fn wg(arguments: &[&str], input: &str) -> anyhow::Result<String> {
    let mut wg = Command::new("wg")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("there is no wg")?;
    if let Some(mut stdin) = wg.stdin.take() {
        stdin.write_all(input.as_bytes())?;
    }
    let said = wg.wait_with_output()?;
    ensure!(said.status.success(), "wg {}", arguments.join(" "));
    Ok(String::from_utf8(said.stdout)?.trim().to_owned())
}
