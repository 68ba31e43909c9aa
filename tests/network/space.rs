//! Network namespaces as [`landbridge_xtask::space`] makes them, for tests: what goes wrong fails the test, and where
//! there can be none, the rung is skipped.

use std::{sync::Once, thread};

use landbridge_xtask::{rung::NETWORK, space};

/// What ours are called: then come the process and a number.
const PREFIX: &str = "lbnet-";

/// A network namespace.
pub(crate) struct Space(space::Space);

impl Space {
    /// A new one, with a loopback interface that has these addresses besides its own.
    pub(crate) fn new(addresses: &[&str]) -> Self {
        prepare();
        Self(space::Space::new(PREFIX, addresses).unwrap())
    }

    /// `ip` in this namespace.
    pub(crate) fn ip(&self, arguments: &[&str]) {
        self.0.ip(arguments).unwrap();
    }

    /// Another command in this namespace.
    pub(crate) fn exec(&self, command: &[&str]) {
        self.0.exec(command).unwrap();
    }

    /// A cable to another namespace, from the interface `here` with its address to the interface `there`.
    pub(crate) fn cable(&self, here: (&str, &str), other: &Self, there: &str) {
        self.0.cable(here, &other.0, there).unwrap();
    }

    /// Puts an interface of this namespace into its switch.
    pub(crate) fn plug(&self, interface: &str) {
        self.0.plug(interface).unwrap();
    }

    /// Runs `work` on a thread that is in this namespace to its end, and does not wait for it.
    pub(crate) fn start<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> thread::JoinHandle<T> {
        let inside = self.0.start(work).unwrap();
        thread::spawn(move || inside.join().unwrap().unwrap())
    }
}

/// A namespace with a switch that others are plugged into.
pub(crate) fn switch() -> Space {
    prepare();
    Space(space::Space::switch(PREFIX).unwrap())
}

/// Ends the process where there can be no namespaces, and takes away those of processes that are gone.
fn prepare() {
    static READY: Once = Once::new();
    READY.call_once(|| {
        if let Err(why) = space::prepare(PREFIX, &["nft"]) {
            NETWORK.skip(&why.to_string());
        }
    });
}
