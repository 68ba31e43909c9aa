//! One loss, with calls before and after it.

use std::{collections::BTreeMap, net::SocketAddr, process::Command, thread, time::Duration};

use anyhow::ensure;
use landbridge_benches::child::Child;
use landbridge_xtask::space::Space;

use super::{
    gateway::{
        ground::{self, ASK, BERLIN, Folder, GATEWAY, PARIS},
        load::{Asked, Clients, Entries, Order, clock},
        pki::Pki,
        pods::Pods,
        site::{LINK, Site},
    },
    relay,
};

const TOKYO: &str = "198.51.100.13";
/// Where berlin dials: whoever is there takes his time to hand on.
const RELAY: &str = "198.51.100.20";
/// 200 calls a second.
pub(crate) const EVERY: Duration = Duration::from_millis(5);
/// Calls before the loss, and after it.
const BEFORE: Duration = Duration::from_secs(1);
const AFTER: Duration = Duration::from_secs(3);
/// Of the calls that began within so long after the loss it is told how they went: later ones are as before.
const WATCHED: f64 = 1.0;

/// What is lost of paris.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Loss {
    Gateway,
    Link,
    Cluster,
}

impl Loss {
    pub(crate) const ALL: [Self; 3] = [Self::Gateway, Self::Link, Self::Cluster];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Gateway => "gateway stopped",
            Self::Link => "link cut",
            Self::Cluster => "cluster gone",
        }
    }
}

/// How calls went.
#[derive(Debug)]
pub(crate) struct Told {
    /// Seconds that calls took which began after the loss and were answered.
    pub(crate) answered: Vec<f64>,
    /// Calls that failed.
    pub(crate) failed: usize,
    /// When the last one of those began, in seconds after the loss.
    pub(crate) last_failed: f64,
    /// The longest that one of those waited to learn it.
    pub(crate) reset_after: f64,
    /// Calls that pods got more than once.
    pub(crate) twice: usize,
}

/// Three clusters, of which two serve.
pub(crate) struct Trial {
    switch: Space,
    gateways: Vec<Child>,
    clients: Clients,
    paris: Pods,
    tokyo: Pods,
    _spaces: [Space; 3],
    _sites: [Site; 3],
    _folder: Folder,
}

impl Trial {
    pub(crate) fn start(round_trip: Duration) -> anyhow::Result<Self> {
        let folder = Folder::new()?;
        let pki = Pki::new(folder.path(), &["berlin", "paris", "tokyo"])?;
        let switch = ground::switch()?;
        switch.ip(&["address", "add", &format!("{RELAY}/24"), "dev", "switch"])?;
        let join = |address: &str, port: &str| -> anyhow::Result<Space> {
            let space = ground::space()?;
            space.cable(("wan", &format!("{address}/24")), &switch, port)?;
            switch.plug(port)?;
            Ok(space)
        };
        let spaces = [
            join(&BERLIN.to_string(), "berlin")?,
            join(&PARIS.to_string(), "paris")?,
            join(TOKYO, "tokyo")?,
        ];
        let site = |name, at: usize| Site::start(name, &spaces[at], &folder, &pki);
        let sites = [site("berlin", 0)?, site("paris", 1)?, site("tokyo", 2)?];
        let mut gateways = Vec::new();
        for (site, space) in sites.iter().zip(&spaces) {
            gateways.push(site.gateway(space, "gw-0", GATEWAY, ([0; 4], LINK).into(), false)?);
        }
        for (name, address, port) in
            [("paris", PARIS.to_string(), LINK), ("tokyo", TOKYO.to_owned(), LINK + 1)]
        {
            let front: SocketAddr = format!("{RELAY}:{port}").parse()?;
            relay::start(&switch, front, format!("{address}:{LINK}").parse()?, round_trip)?;
            sites[0].knows(name, &[front])?;
        }
        for site in &sites[1..] {
            site.knows("berlin", &[])?;
            site.exports()?;
        }
        sites[0].imports(&["paris", "tokyo"])?;
        let paris = Pods::start(&spaces[1], "paris")?;
        let tokyo = Pods::start(&spaces[2], "tokyo")?;
        let clients = Clients::start(&spaces[0])?;
        let mut trial = Self {
            switch,
            gateways,
            clients,
            paris,
            tokyo,
            _spaces: spaces,
            _sites: sites,
            _folder: folder,
        };
        trial.settle()?;
        Ok(trial)
    }

    /// Waits until both clusters answer.
    fn settle(&mut self) -> anyhow::Result<()> {
        for turn in 0..40 {
            let asked = self.ask(&format!("warm-{turn}"), Duration::from_millis(500))?;
            let by = |name: &str| asked.iter().any(|asked| asked.answer.as_deref() == Ok(name));
            if by("paris") && by("tokyo") && asked.iter().all(|asked| asked.answer.is_ok()) {
                return Ok(());
            }
        }
        anyhow::bail!("calls do not come through")
    }

    fn order(prefix: &str, lasts: Duration) -> Order {
        Order::Ask {
            at: Entries::Fixed((GATEWAY, ASK.entry).into()),
            prefix: prefix.to_owned(),
            every: EVERY,
            lasts,
        }
    }

    fn ask(&mut self, prefix: &str, lasts: Duration) -> anyhow::Result<Vec<Asked>> {
        self.clients.carry_out(&Self::order(prefix, lasts))
    }

    /// Loses paris in the midst of calls.
    pub(crate) fn lose(mut self, loss: Loss) -> anyhow::Result<Told> {
        self.clients.begin(&Self::order("call", BEFORE + AFTER))?;
        thread::sleep(BEFORE);
        let lost = clock();
        match loss {
            Loss::Gateway => signal("-STOP", self.gateways[1].id())?,
            Loss::Link => self.switch.ip(&["link", "set", "paris", "down"])?,
            Loss::Cluster => {
                signal("-KILL", self.gateways[1].id())?;
                self.switch.ip(&["link", "set", "paris", "down"])?;
            }
        }
        let asked: Vec<Asked> = self.clients.end()?;
        if loss == Loss::Gateway {
            // What waits in its sockets is delivered now, if it ever is.
            signal("-CONT", self.gateways[1].id())?;
            thread::sleep(Duration::from_secs(1));
        }
        let mut heard = self.tokyo.heard()?;
        for (question, times) in self.paris.heard()? {
            *heard.entry(question).or_default() += times;
        }
        let told = judge(&asked, lost, twice(&heard));
        ensure!(!told.answered.is_empty(), "no call has been answered");
        Ok(told)
    }
}

/// How many questions were heard more than once.
pub(crate) fn twice(heard: &BTreeMap<String, u32>) -> usize {
    heard.values().filter(|times| **times > 1).count()
}

/// What calls say of a loss at `lost`.
pub(crate) fn judge(asked: &[Asked], lost: f64, twice: usize) -> Told {
    let after = |asked: &&Asked| asked.begun >= lost && asked.begun < lost + WATCHED;
    let failed: Vec<&Asked> = asked.iter().filter(|asked| asked.answer.is_err()).collect();
    let most = |figures: &mut dyn Iterator<Item = f64>| figures.fold(0.0, f64::max);
    Told {
        answered: asked
            .iter()
            .filter(after)
            .filter(|asked| asked.answer.is_ok())
            .map(|asked| asked.took)
            .collect(),
        failed: failed.len(),
        last_failed: most(&mut failed.iter().map(|asked| asked.begun - lost)),
        reset_after: most(&mut failed.iter().map(|asked| asked.took)),
        twice,
    }
}

pub(crate) fn signal(signal: &str, pid: u32) -> anyhow::Result<()> {
    let done = Command::new("kill").args([signal, &pid.to_string()]).status()?;
    ensure!(done.success(), "kill {signal} {pid}");
    Ok(())
}
