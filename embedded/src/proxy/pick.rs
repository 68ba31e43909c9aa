//! Pure: which endpoint a new connection or flow gets: any, or with ClientIP affinity the one that
//! the client had before.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::table::Backends;

/// How many clients of one port are remembered. A demo's or a test's clients are loopback
/// addresses in the dozens; when there are more, the one seen longest ago is forgotten.
const MAX_CLIENTS: usize = 4096;

/// The memory of one port.
#[derive(Clone, Debug, Default)]
pub(crate) struct Picker {
    clients: BTreeMap<IpAddr, (SocketAddr, Duration)>,
}

impl Picker {
    /// Chooses an endpoint for `client` at `now`; `draw` is any number. `None` without endpoints.
    /// Like kube-proxy's, the affinity lasts from the client's newest connection.
    pub(crate) fn pick(
        &mut self,
        backends: &Backends,
        client: IpAddr,
        now: Duration,
        draw: usize,
    ) -> Option<SocketAddr> {
        let any = || backends.endpoints.get(draw.checked_rem(backends.endpoints.len())?).copied();
        let Some(lasts) = backends.affinity else {
            self.clients.clear();
            return any();
        };
        let known = self.clients.get(&client).filter(|(endpoint, seen)| {
            now.saturating_sub(*seen) < lasts && backends.endpoints.contains(endpoint)
        });
        let chosen = known.map(|(endpoint, _)| *endpoint).or_else(any)?;
        if self.clients.len() >= MAX_CLIENTS && !self.clients.contains_key(&client) {
            self.forget_one(now, lasts);
        }
        self.clients.insert(client, (chosen, now));
        Some(chosen)
    }

    fn forget_one(&mut self, now: Duration, lasts: Duration) {
        self.clients.retain(|_, (_, seen)| now.saturating_sub(*seen) < lasts);
        let oldest = self.clients.iter().min_by_key(|(_, (_, seen))| *seen).map(|(ip, _)| *ip);
        if let Some(oldest) = oldest.filter(|_| self.clients.len() >= MAX_CLIENTS) {
            self.clients.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backends(endpoints: &[&str], affinity: Option<u64>) -> Backends {
        Backends {
            service: "shop/web:80".into(),
            endpoints: endpoints.iter().map(|one| one.parse().unwrap()).collect(),
            affinity: affinity.map(Duration::from_secs),
        }
    }

    const TWO: [&str; 2] = ["127.1.0.1:8080", "127.1.0.2:8080"];

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn client(last: u8) -> IpAddr {
        [127, 9, 0, last].into()
    }

    #[test]
    fn without_affinity_the_draw_decides() {
        let mut picker = Picker::default();
        let two = backends(&TWO, None);
        let picked = |picker: &mut Picker, draw| picker.pick(&two, client(1), at(0), draw).unwrap();
        assert_ne!(picked(&mut picker, 0), picked(&mut picker, 1));
        assert_eq!(picked(&mut picker, 0), picked(&mut picker, 2));
        assert_eq!(picker.pick(&backends(&[], None), client(1), at(0), 7), None);
    }

    #[test]
    fn affinity_lasts_from_the_newest_connection() {
        let mut picker = Picker::default();
        let two = backends(&TWO, Some(10));
        let first = picker.pick(&two, client(1), at(0), 0).unwrap();
        assert_eq!(picker.pick(&two, client(1), at(9), 1), Some(first));
        assert_eq!(picker.pick(&two, client(1), at(18), 1), Some(first), "renewed at 9");
        assert_ne!(picker.pick(&two, client(2), at(18), 1), Some(first), "another client");
        assert_ne!(picker.pick(&two, client(1), at(28), 1), Some(first), "10 s after 18");
    }

    #[test]
    fn an_endpoint_that_went_is_not_stuck_to() {
        let mut picker = Picker::default();
        let first = picker.pick(&backends(&TWO, Some(10)), client(1), at(0), 0).unwrap();
        let left = backends(&TWO[1..], Some(10));
        let second = picker.pick(&left, client(1), at(1), 0).unwrap();
        assert_ne!(first, second);
        assert_eq!(picker.pick(&backends(&TWO, Some(10)), client(1), at(2), 0), Some(second));
    }

    #[test]
    fn the_memory_is_bounded() {
        let mut picker = Picker::default();
        let two = backends(&TWO, Some(1000));
        for index in 0..MAX_CLIENTS + 10 {
            let bits = u32::try_from(index).unwrap();
            let client = std::net::Ipv4Addr::from(0x7f00_0000 | bits).into();
            picker.pick(&two, client, at(index as u64 / 100), index).unwrap();
        }
        assert_eq!(picker.clients.len(), MAX_CLIENTS);
    }
}
